// SPDX-License-Identifier: Apache-2.0
//! Whether a ratio is found with its spread, and one that cannot be is refused.

use crate::pair::{self, Row};
use crate::ratio::Ratio;
use crate::source_check;

/// Times around 20 that are as good as random, each with one that is so many
/// times as long, give or take a tenth.
fn pairs(times: f64) -> Vec<(f64, f64)> {
    let noise = |number: u32| f64::from(number.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    (0..400)
        .map(|number| {
            let old = 20.0 + 10.0 * noise(number);
            (old, old * times * (1.0 + 0.2 * noise(number + 1000)))
        })
        .collect()
}

fn row(what: &str, times: f64, control: f64) -> Row {
    Row {
        what: what.into(),
        ratio: Ratio::of(&pairs(times)),
        control: Ratio::of(&pairs(control)),
        at_most: Some(1.06),
    }
}

#[test]
fn a_ratio_is_inside_its_spread_and_the_spread_is_narrow() {
    for times in [0.5, 1.0, 1.03, 4.0] {
        let ratio = Ratio::of(&pairs(times));
        assert!(ratio.low <= ratio.ratio && ratio.ratio <= ratio.high, "{ratio:?}");
        assert!(ratio.low < times * 1.02 && ratio.high > times * 0.98, "{ratio:?}");
        assert!(ratio.high / ratio.low < 1.1, "{ratio:?}");
    }
    let equal = Ratio::of(&[(2.0, 3.0); 10]);
    assert_eq!((equal.low, equal.ratio, equal.high), (1.5, 1.5, 1.5));
}

#[test]
fn a_comparison_that_can_be_is_taken() {
    assert_eq!(pair::faults(&[row("DEL", 1.3, 1.0), row("ADD", 0.7, 1.0)]), Vec::<String>::new());
    assert_eq!(source_check::faults(&[row("UDP", 1.05, 1.0)]), Vec::<String>::new());
}

#[test]
fn no_time_is_refused() {
    let none = Row { ratio: Ratio::of(&[(0.0, 1.0); 5]), ..row("DEL", 1.0, 1.0) };
    let faults = pair::faults(&[row("ADD", 1.0, 1.0), none]);
    assert!(faults.len() == 1 && faults[0].starts_with("DEL: "), "{faults:?}");
}

/// What is compared is not all that differs, or the machine is used by others.
#[test]
fn what_differs_from_itself_is_refused() {
    let faults = pair::faults(&[row("DEL", 1.3, 1.2)]);
    assert!(faults.len() == 1 && faults[0].contains("against itself"), "{faults:?}");
}

#[test]
fn a_check_that_makes_packets_faster_is_refused() {
    let faults = source_check::faults(&[row("UDP", 0.8, 1.0)]);
    assert!(faults.len() == 1 && faults[0].contains("less than without"), "{faults:?}");
}

#[test]
fn a_missed_target_is_told() {
    assert_eq!(pair::misses(&[row("DEL", 1.03, 1.0)]), Vec::<String>::new());
    let misses = pair::misses(&[row("DEL", 1.03, 1.0), row("UDP", 1.2, 1.0)]);
    assert!(misses.len() == 1 && misses[0].starts_with("UDP: "), "{misses:?}");
    assert!(pair::page(&[row("UDP", 1.2, 1.0)]).contains("| 1.06 |"));
}
