// SPDX-License-Identifier: Apache-2.0
//! What a list of times comes to.

use std::time::Duration;

use serde::Serialize;

/// Quantiles of times, in milliseconds. Each is a value that occurred: the
/// smallest that so many of the values do not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    pub count: usize,
    pub p10_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
}

impl Times {
    /// Of these times, in any order.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut ms: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        Self {
            count: ms.len(),
            p10_ms: quantile(&ms, 10),
            p50_ms: quantile(&ms, 50),
            p90_ms: quantile(&ms, 90),
            p99_ms: quantile(&ms, 99),
        }
    }
}

/// The nearest rank: of 100 values, p99 is the 99th smallest.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    *sorted.get(rank - 1).expect("at least one time")
}

/// The middle one of these values.
///
/// # Panics
/// If there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 50)
}
