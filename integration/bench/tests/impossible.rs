// SPDX-License-Identifier: Apache-2.0
//! Whether what cannot be is refused, by measurements that nobody made.

use crate::attach::{CountRow, Row};
use crate::goals::{self, Found, GOALS, Goal};
use crate::machine::Machine;
use crate::overlay::{self, Mtu, Throughput};
use crate::plausible::faults;
use crate::quantile::Times;
use crate::ratio::Ratio;
use crate::report::Report;
use crate::scale::{self, Pass};
use crate::size::Sizes;
use crate::strace::Counts;
use crate::subjects::{Kind, Setting};
use crate::traffic::Latency;

const MASQUERADE: Setting = Setting { dual_stack: false, masquerade: true };

fn times(p50_ms: f64) -> Times {
    Times { count: 100, p10_ms: p50_ms * 0.8, p50_ms, p90_ms: p50_ms * 1.5, p99_ms: p50_ms * 2.0 }
}

/// One after another.
fn alone(subject: Kind, add_ms: f64) -> Row {
    Row {
        subject,
        setting: Setting::default(),
        at_once: 1,
        crowded: false,
        present: 0,
        add: times(add_ms),
        del: times(20.0),
        add_cpu_ms: add_ms * 0.8,
        del_cpu_ms: 2.0,
        add_per_second: 1e3 / add_ms,
        del_per_second: 50.0,
        rounds: 0,
        add_per_second_most: 0.0,
        del_per_second_most: 0.0,
        add_processors: 0.9,
        del_processors: 0.3,
    }
}

/// A hundred at once, each with so much processor time, on two processors.
fn burst(subject: Kind, setting: Setting, cpu_ms: f64) -> Row {
    let per_second = 1.8 * 1e3 / cpu_ms;
    let whole_ms = 100.0 * 1e3 / per_second;
    Row {
        setting,
        at_once: 100,
        add: Times { p90_ms: whole_ms * 0.9, p99_ms: whole_ms, ..times(whole_ms / 2.0) },
        rounds: 3,
        add_per_second_most: per_second * 1.1,
        del_per_second_most: 550.0,
        add_cpu_ms: cpu_ms,
        add_per_second: per_second,
        add_processors: 1.8,
        del: times(100.0),
        del_per_second: 500.0,
        ..alone(subject, 3.0)
    }
}

fn tunnel(mode: &str, mtu: Mtu, gbit_per_second: f64) -> overlay::Row {
    let cut = mtu == Mtu::TunnelTooLarge;
    let stream = Throughput {
        gbit_per_second,
        cpu_s_per_gb: 1.6,
        fragments_per_gb: if cut { 1e6 } else { 0.0 },
        retransmits: 10,
        processors: 1.5,
    };
    overlay::Row {
        mode: mode.into(),
        underlay_mtu: 1500,
        mtu,
        pod_mtu: 1450,
        offload: true,
        one_stream: stream,
        four_streams: stream,
        latency: Latency { p50_us: 150.0, p99_us: 800.0 },
        told: 0,
        processors: 2,
        others: 0.02,
        rounds: 3,
    }
}

fn scaled() -> scale::Row {
    let pass = |changes| Pass {
        runs: 4,
        wall_ms: 650.0,
        cpu_ms: 620.0,
        user_ms: Some(50.0),
        processors: 0.97,
        changes,
        messages: 10_010,
        peak_kib: 11_000,
    };
    scale::Row {
        mode: "direct",
        peers: 5000,
        from_nothing: pass(5001),
        one_changed: pass(1),
        add: times(9.0),
        add_ms_after_change: 97.0,
    }
}

/// A number that has a target, so many times what it is held against.
fn kept(goal: &Goal, times_it: f64) -> goals::Row {
    let pairs = [(100.0, 100.0 * times_it), (110.0, 110.0 * times_it)];
    let found = match goal.unit {
        "ms" => Found::Times(times(times_it * 5.0)),
        _ => Found::Ratio(Ratio::of(&pairs)),
    };
    goals::Row { what: goal.what, found }
}

/// A run in which all is as it can be.
fn report() -> Report {
    let machine = Machine { processors: 2, ..Machine::default() };
    let mut report = Report::new(machine, false, Vec::new());
    report.nothing = Some(times(0.3));
    for setting in [Setting::default(), MASQUERADE] {
        report.attach.extend([
            Row { setting, ..alone(Kind::Floor, 2.0) },
            Row { setting, ..alone(Kind::ManxIpam, 2.9) },
            burst(Kind::Floor, setting, 1.6),
            burst(Kind::ManxIpam, setting, 2.5),
        ]);
    }
    report.attach.push(Row { crowded: true, present: 2000, ..alone(Kind::Ptp, 58.0) });
    let counts =
        Counts { processes: 1, system_calls: 120, netlink_messages: 16, netlink_changes: 9 };
    let counted = CountRow {
        subject: Kind::ManxIpam,
        setting: MASQUERADE,
        verb: "ADD",
        counts,
        peak_kib: 1600,
    };
    report.counts.push(counted);
    report.overlay.extend([
        tunnel("direct", Mtu::Right, 7.7),
        tunnel("vxlan", Mtu::Right, 6.3),
        tunnel("vxlan", Mtu::TunnelTooLarge, 1.2),
    ]);
    report.overlay_vm.extend([
        tunnel("direct", Mtu::Right, 0.5),
        overlay::Row { told: 7, ..tunnel("ipip", Mtu::PodsTooLarge, 0.4) },
    ]);
    report.scale.push(scaled());
    report.goals.extend(GOALS.iter().map(|goal| kept(goal, 1.0)));
    report.size = Some(Sizes {
        binary_bytes: 2_000_000,
        start: times(0.46),
        start_floor: times(0.36),
        verbs: Vec::new(),
        peers: Vec::new(),
    });
    report
}

/// Asserts that a run which this was done to is refused, and the row named.
#[track_caller]
fn assert_refused(row: &str, spoil: impl FnOnce(&mut Report)) {
    let mut report = report();
    spoil(&mut report);
    let faults = faults(&report);
    assert!(faults.iter().any(|fault| fault.row == row), "{row:?} is not in {faults:#?}");
}

const BURST: &str = "100 at once, manx + manx-ipam, v4, masquerade";

fn manx_burst(report: &mut Report) -> &mut Row {
    let mut rows = report.attach.iter_mut();
    rows.find(|row| row.name() == BURST).expect("the row")
}

#[test]
fn a_run_that_can_be_is_taken() {
    assert_eq!(faults(&report()), []);
}

/// The row of an earlier report, as it was: its clock started after many of the
/// hundred had ended.
#[test]
fn a_rate_above_what_the_processors_can_do_is_refused() {
    assert_refused(BURST, |report| {
        let row = manx_burst(report);
        row.add = Times { p90_ms: 23.4, p99_ms: 35.0, ..times(11.5) };
        row.add_per_second = 5275.0;
        row.add_processors = 5275.0 * 2.53e-3;
    });
}

#[test]
fn a_rate_above_the_floor_s_is_refused() {
    assert_refused(BURST, |report| {
        let row = manx_burst(report);
        row.add_per_second *= 2.0;
        row.add = times(20.0);
    });
}

/// All began at one moment, so half of them cannot have taken longer than all.
#[test]
fn a_rate_that_its_own_times_rule_out_is_refused() {
    assert_refused("100 at once, floor, v4, beside masquerade", |report| {
        let row = report
            .attach
            .iter_mut()
            .find(|row| (row.subject, row.at_once, row.setting) == (Kind::Floor, 100, MASQUERADE));
        row.expect("the row").add = times(400.0);
    });
}

#[test]
fn an_add_or_a_del_faster_than_the_floor_s_is_refused() {
    let manx = |report: &mut Report, change: fn(&mut Row)| {
        let row = report.attach.iter_mut().find(|row| row.name() == "manx + manx-ipam, v4");
        change(row.expect("the row"));
    };
    assert_refused("manx + manx-ipam, v4", |report| manx(report, |row| row.add = times(1.5)));
    assert_refused("manx + manx-ipam, v4", |report| manx(report, |row| row.del = times(5.0)));
}

/// A few pods tell little of a median, but as slow as the floor's fast ones they are.
#[test]
fn of_few_pods_only_what_is_far_off_is_refused() {
    let few = |add_ms| {
        let mut report = report();
        for row in report.attach.iter_mut().filter(|row| row.at_once == 1) {
            row.add.count = 15;
            if row.subject == Kind::ManxIpam {
                row.add = Times { count: 15, ..times(add_ms) };
            }
        }
        faults(&report)
    };
    assert_eq!(few(1.9), []);
    assert_eq!(few(1.5).len(), 2);
}

#[test]
fn what_has_no_floor_beside_it_is_refused() {
    assert_refused(BURST, |report| report.attach.retain(|row| row.subject != Kind::Floor));
}

#[test]
fn no_time_at_all_is_refused() {
    let name = "ptp + host-local, v4 on a node with 2000 pods";
    for spoil in [
        |row: &mut Row| row.add.p50_ms = 0.0,
        |row: &mut Row| row.del.p50_ms = -1.0,
        |row: &mut Row| row.add.p99_ms = f64::NAN,
        |row: &mut Row| row.add.count = 0,
        |row: &mut Row| row.del_cpu_ms = 0.0,
        |row: &mut Row| row.add_per_second = f64::INFINITY,
    ] {
        assert_refused(name, |report| {
            spoil(report.attach.iter_mut().find(|row| row.crowded).expect("the row"));
        });
    }
}

#[test]
fn counts_of_nothing_are_refused() {
    let name = "manx + manx-ipam, v4, masquerade, ADD";
    assert_refused(name, |report| report.counts[0].counts.system_calls = 0);
    assert_refused(name, |report| report.counts[0].peak_kib = 0);
}

#[test]
fn a_tunnel_that_carries_more_than_none_is_refused() {
    assert_refused("vxlan over 1500, offload", |report| {
        report.overlay[1].one_stream.gbit_per_second = 12.0;
        report.overlay[1].one_stream.cpu_s_per_gb = 0.5;
    });
    // As it was where the tunnel's own device went on gathering packets.
    assert_refused("vxlan over 1500, no offload, pods too large", |report| {
        let alone = |mode, mtu, gbit| overlay::Row { offload: false, ..tunnel(mode, mtu, gbit) };
        report.overlay.push(alone("direct", Mtu::Right, 2.4));
        let told = alone("vxlan", Mtu::PodsTooLarge, 3.09);
        report.overlay.push(overlay::Row { told: 1, ..told });
    });
}

#[test]
fn more_processor_time_than_processors_is_refused() {
    assert_refused("direct over 1500, offload", |report| {
        report.overlay[0].one_stream.cpu_s_per_gb = 3.0;
    });
    assert_refused("direct over 1500, offload", |report| {
        report.overlay[0].four_streams.processors = 2.2;
    });
    // The virtual machine's processors are its own.
    assert_refused("ipip over 1500, offload, pods too large", |report| {
        report.overlay_vm[1].processors = 1;
        report.overlay_vm[1].one_stream.cpu_s_per_gb = 30.0;
    });
    assert_refused("apply, direct, 5000 peers", |report| {
        report.scale[0].one_changed.processors = 1.2;
    });
}

#[test]
fn a_wrong_mtu_without_effect_and_a_right_one_with_it_are_refused() {
    assert_refused("vxlan over 1500, offload, tunnel too large", |report| {
        report.overlay[2].one_stream.fragments_per_gb = 0.0;
        report.overlay[2].four_streams.fragments_per_gb = 0.0;
    });
    assert_refused("ipip over 1500, offload, pods too large", |report| {
        report.overlay_vm[1].told = 0;
    });
    assert_refused("vxlan over 1500, offload", |report| report.overlay[1].told = 1);
}

#[test]
fn a_machine_that_others_use_is_refused_but_for_a_quick_run() {
    let busy = |report: &mut Report| report.overlay[0].others = 0.5;
    assert_refused("direct over 1500, offload", busy);
    let mut quick = Report { quick: true, ..report() };
    busy(&mut quick);
    assert_eq!(faults(&quick), []);
}

/// And what the kernel has not sampled: all is the process's, or nothing is.
#[test]
fn an_apply_that_takes_no_time_is_refused() {
    let name = "apply, direct, 5000 peers";
    assert_refused(name, |report| report.scale[0].from_nothing.user_ms = Some(0.0));
    assert_refused(name, |report| report.scale[0].one_changed.cpu_ms = 0.0);
    assert_refused(name, |report| report.scale[0].one_changed.user_ms = Some(620.0));
    assert_refused(name, |report| report.scale[0].from_nothing.changes = 4000);
}

/// What does the same and more takes no less, and nothing takes no time.
#[test]
fn a_goal_that_is_outdone_by_far_is_refused() {
    for goal in &GOALS {
        let worst = if goal.section == "burst" { 1.5 } else { 0.0 };
        let at = |report: &mut Report| {
            let row = report.goals.iter_mut().find(|row| row.what == goal.what);
            *row.expect("the row") = kept(goal, worst);
        };
        assert_refused(goal.what, at);
    }
}

#[test]
fn a_start_faster_than_that_of_nothing_is_refused() {
    assert_refused("size", |report| {
        report.size.as_mut().expect("sizes").start = times(0.2);
    });
    assert_refused("a program that does nothing", |report| report.nothing = Some(times(0.0)));
}
