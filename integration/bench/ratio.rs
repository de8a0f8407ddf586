// SPDX-License-Identifier: Apache-2.0
//! How one thing compares with another that took turns with it: the ratio of
//! their medians, and how much of it is chance.

use serde::Serialize;

/// New by old. Between `low` and `high` are 95 of 100 ratios of samples that are
/// drawn again from those that there are (bootstrap).
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    pub pairs: usize,
    pub old_p50: f64,
    pub new_p50: f64,
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

/// How often samples are drawn again.
const DRAWS: usize = 1000;

/// What the comparison of a thing with itself may be off by. Its interval should
/// have 1 in it; one in twenty has not, but is near.
const ITSELF: f64 = 0.02;

impl Ratio {
    /// Of pairs (old, new), each measured one right after the other.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(pairs: &[(f64, f64)]) -> Self {
        assert!(!pairs.is_empty(), "no pairs");
        let mut drawn = pairs.to_vec();
        let (old_p50, new_p50) = medians(&drawn);
        let mut state = 1u64;
        let mut ratios: Vec<f64> = (0..DRAWS)
            .map(|_| {
                for place in &mut drawn {
                    *place = pairs[below(&mut state, pairs.len())];
                }
                let (old, new) = medians(&drawn);
                new / old
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let at = |percent: f64| ratios[((DRAWS - 1) as f64 * percent / 100.0).round() as usize];
        Self {
            pairs: pairs.len(),
            old_p50,
            new_p50,
            ratio: new_p50 / old_p50,
            low: at(2.5),
            high: at(97.5),
        }
    }

    /// What of it cannot be.
    pub fn faults(&self, what: &str) -> Vec<String> {
        let is_time = |value: f64| value.is_finite() && value > 0.0;
        let mut faults = Vec::new();
        if ![self.old_p50, self.new_p50, self.low, self.high].into_iter().all(is_time) {
            faults.push(format!("{what}: {self:?} is no comparison of times"));
        }
        faults
    }

    /// The same where both are one and the same thing.
    pub fn faults_of_itself(&self, what: &str) -> Vec<String> {
        let mut faults = self.faults(what);
        if self.low > 1.0 + ITSELF || self.high < 1.0 - ITSELF {
            faults.push(format!(
                "{what}: the same against itself is {}: something else than what is compared \
                 differs between them, or the machine was not quiet",
                self.told()
            ));
        }
        faults
    }

    /// As in a table.
    pub fn told(&self) -> String {
        format!("{:.3} ({:.3} to {:.3})", self.ratio, self.low, self.high)
    }
}

/// The upper median of each side.
fn medians(pairs: &[(f64, f64)]) -> (f64, f64) {
    let middle = |mut values: Vec<f64>| {
        let at = values.len() / 2;
        *values.select_nth_unstable_by(at, f64::total_cmp).1
    };
    (
        middle(pairs.iter().map(|pair| pair.0).collect()),
        middle(pairs.iter().map(|pair| pair.1).collect()),
    )
}

/// A number below `end`, the same ones in every run (Knuth's multiplier).
fn below(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % end
}
