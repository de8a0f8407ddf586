// SPDX-License-Identifier: Apache-2.0
//! Each of these checks with counters that grew, and with such that did not.

use super::*;
use crate::{
    finding::Severity::{self, Error, Info, Warning},
    node::{Counters, Walk},
};

/// Counters that have some value before, and changed ones after.
fn node(change: impl Fn(&mut Counters, &mut Load)) -> Snapshot {
    let processor = Processor { total: 1000, softirq: 10, steal: 10 };
    let counted =
        Counters { insert_failed: 3, dropped: 4, early_dropped: 5, ..Counters::default() };
    let before = Load {
        backlog: vec![Backlog { dropped: 7, squeezed: 8 }; 2],
        processors: vec![processor; 2],
        wrong_checksums: Some(1),
        sources: vec![("manx-net".into(), 2)],
        denied: Vec::new(),
    };
    let mut after = before.clone();
    after.processors.iter_mut().for_each(|one| one.total += 20);
    let mut counters = counted;
    change(&mut counters, &mut after);
    let mut snapshot = Snapshot::default();
    let sysctls = [(BACKLOG, "1000"), (BUDGET, "300"), (MAX, "65536"), (COUNT, "9")];
    snapshot.kernel.sysctls = sysctls.map(|(key, value)| (key.into(), value.into())).into();
    snapshot.surroundings.counters = Some((counted, counters));
    snapshot.surroundings.load = Some((before, after));
    snapshot
}

type Check = fn(&Snapshot) -> Answer;
/// A check, how bad it is, words of the evidence and the fix, and what grows.
type Row = (Check, Severity, &'static str, &'static str, fn(&mut Counters, &mut Load));

const ALL: [Check; 5] =
    [conntrack_drops, backlog_drops, cpu_steal, softirq_share, source_check_drops];

#[test]
fn what_does_not_grow_is_nothing() {
    for check in ALL {
        assert!(check(&node(|_, _| {})).is_ok_and(|seen| seen.is_empty()));
        // A counter that was set back.
        let back = node(|counters, after| {
            *counters = Counters::default();
            *after = Load { sources: vec![("manx-net".into(), 0)], ..Load::default() };
            after.backlog = vec![Backlog::default(); 2];
            after.processors = vec![Processor::default(); 2];
        });
        assert!(check(&back).is_ok_and(|seen| seen.is_empty()) || check(&back).is_err());
        assert!(check(&Snapshot::default()).is_err(), "nothing was counted");
    }
}

#[test]
fn what_grows_is_told_with_what_helps() {
    let raise = "sysctl -w net.netfilter.nf_conntrack_max=131072";
    let rows: [Row; 9] = [
        (conntrack_drops, Error, "2 packets were dropped", raise, |it, _| it.dropped += 2),
        (conntrack_drops, Warning, "2 connections lost", raise, |it, _| {
            it.early_dropped += 2;
        }),
        (conntrack_drops, Warning, "no port left", "for DNS", |it, _| {
            // The kernel counts it as both.
            it.insert_failed += 2;
            it.dropped += 2;
        }),
        (
            backlog_drops,
            Warning,
            "5 at processor 1; one processor",
            "sysctl -w net.core.netdev_max_backlog=2000",
            |_, it| {
                it.backlog[1].dropped += 5;
            },
        ),
        (
            backlog_drops,
            Info,
            "30 at processor 0",
            "sysctl -w net.core.netdev_budget=600",
            |_, it| {
                it.backlog[0].squeezed += 30;
            },
        ),
        (cpu_steal, Warning, "20 % of", "processors of its own", |_, it| {
            it.processors[1].steal += 8
        }),
        (softirq_share, Warning, "90 % of the time of processor 1", "spread", |_, it| {
            it.processors[1].softirq += 18;
        }),
        (softirq_share, Warning, "2 of 2", "more processors", |_, it| {
            it.processors.iter_mut().for_each(|one| one.softirq += 20);
        }),
        (source_check_drops, Warning, "dropped 3 packets", "manx-net", |_, it| {
            it.sources[0].1 += 3
        }),
    ];
    for (check, severity, words, fix, change) in rows {
        let seen = check(&node(change)).unwrap();
        let [one] = &seen[..] else { panic!("{words}: {}", seen.len()) };
        assert_eq!(one.severity, severity, "{words}");
        assert!(one.evidence.contains(words), "{words}: {}", one.evidence);
        assert!(one.fix.contains(fix), "{fix}: {}", one.fix);
    }
    assert!(backlog_drops(&node(|_, it| it.backlog[0].squeezed += 3)).unwrap().is_empty());
    assert!(cpu_steal(&node(|_, it| it.processors[1].steal += 3)).unwrap().is_empty());
}

#[test]
fn closed_connections_are_kept_for_less_long() {
    let mut snapshot = node(|it, _| it.dropped += 1);
    for (held, fix, undo) in [
        (
            "120",
            "131072 net.netfilter.nf_conntrack_tcp_timeout_time_wait=30",
            "65536 net.netfilter.nf_conntrack_tcp_timeout_time_wait=120",
        ),
        ("30", "131072", "65536"),
    ] {
        snapshot.kernel.sysctls.insert(TIME_WAIT.into(), held.into());
        let seen = conntrack_drops(&snapshot).unwrap();
        assert!(seen[0].fix.ends_with(fix) && seen[0].undo.ends_with(undo), "{}", seen[0].fix);
    }
}

#[test]
fn long_chains_are_told_with_who_made_them() {
    let walk = |rules, longest: &str| Walk {
        chain: "chain PREROUTING of table ip nat".into(),
        rules,
        longest: longest.into(),
        of_longest: rules - 1,
    };
    let mut snapshot = Snapshot::default();
    for (rules, longest, told, fix) in [
        (999, "KUBE-SERVICES", None, ""),
        (1_000, "KUBE-SERVICES", Some(Info), "kube-proxy with mode nftables"),
        (20_000, "KUBE-SERVICES", Some(Warning), "kube-proxy with mode nftables"),
        (20_000, "banned", Some(Warning), "a set"),
    ] {
        snapshot.surroundings.walks = vec![walk(rules, longest)];
        let seen = rules_long(&snapshot).unwrap();
        assert_eq!(seen.first().map(|one| one.severity), told, "{rules} {longest}");
        assert!(seen.iter().all(|one| one.fix.contains(fix)), "{longest}");
    }
}
