// SPDX-License-Identifier: Apache-2.0
//! Histograms of times on a node, from a millisecond to ten seconds.

use prometheus_client::metrics::histogram::Histogram;

/// Their upper bounds, in seconds.
const BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub(super) fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

/// A count as gauges have it.
pub(super) fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
