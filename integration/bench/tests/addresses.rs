// SPDX-License-Identifier: Apache-2.0
//! Whether what `hack/bench-ipam` cannot have measured is refused.

use crate::machine::Machine;
use crate::numbers::{Report, Row};
use crate::quantile::Times;

fn times(p50_ms: f64) -> Times {
    Times { count: 30, p10_ms: p50_ms * 0.8, p50_ms, p90_ms: p50_ms * 1.5, p99_ms: p50_ms * 2.0 }
}

fn report() -> Report {
    let row = |leases, verb, theirs, ours| Row {
        leases,
        verb,
        host_local: times(theirs),
        manx_ipam: times(ours),
    };
    let rows = vec![
        row(0, "VERSION", 3.0, 0.3),
        row(0, "ADD", 5.0, 0.6),
        row(0, "DEL", 4.5, 0.7),
        row(20_000, "VERSION", 3.0, 0.3),
        row(20_000, "ADD", 200.0, 0.7),
        row(20_000, "DEL", 200.0, 0.8),
    ];
    Report { machine: Machine::default(), quick: false, rows }
}

#[test]
fn a_run_that_can_be_is_taken() {
    assert_eq!(report().faults(), Vec::<String>::new());
    assert!(report().targets().iter().all(|(_, is_met)| *is_met));
}

#[test]
fn what_cannot_be_is_refused_and_the_row_named() {
    let refused = |row: usize, spoil: fn(&mut Row)| {
        let mut report = report();
        spoil(&mut report.rows[row]);
        report.faults().join("\n")
    };
    let zero = refused(4, |row| row.manx_ipam = times(0.0));
    assert!(zero.contains("manx-ipam, ADD with 20000 leases"), "{zero}");
    let none = refused(1, |row| row.host_local.count = 0);
    assert!(none.contains("host-local, ADD with 0 leases"), "{none}");
    // Faster than the start of the program alone.
    let fast = refused(5, |row| row.manx_ipam = times(0.2));
    assert!(
        fast.contains("manx-ipam, DEL with 20000 leases") && fast.contains("VERSION"),
        "{fast}"
    );
    let mut alone = report();
    alone.rows.remove(0);
    assert!(alone.faults().iter().any(|fault| fault.contains("VERSION was not measured")));
}

#[test]
fn a_missed_target_is_told() {
    let mut report = report();
    report.rows[4].manx_ipam = times(7.0);
    assert_eq!(report.targets().iter().filter(|(_, is_met)| !is_met).count(), 1);
    assert!(report.page().contains("**missed**"));
}
