// SPDX-License-Identifier: Apache-2.0
//! What the source check costs: a node with `sourceCheck` and one without, in
//! turns, by the smallest packet from pod to pod and by TCP.

use std::time::Duration;

use serde_json::json;

use crate::pair::Row;
use crate::settle::settle;
use crate::subjects::Programs;
use crate::turns::order;
use crate::wire::{Flow, Wire, in_turns, paired};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub streams: usize,
    /// Of each stream, in whole seconds.
    pub stream: Duration,
}

/// For the smallest packet, which a rule costs most.
const PACKET_AT_MOST: f64 = 1.06;
/// Nothing that can be measured.
const STREAM_AT_MOST: f64 = 1.02;
/// Of both pods.
const PORT: u16 = 7007;

/// Times of one node: a packet one way, a request and its answer, ns; and a
/// second over the Gbit/s of a stream, so that more is worse.
#[derive(Default)]
struct Samples {
    one_way: Vec<f64>,
    round_trip: Vec<f64>,
    stream: Vec<f64>,
}

/// Measures without ("old"), with ("new"), and without once more.
///
/// # Errors
/// Why there is nothing to compare.
pub fn rows(programs: &Programs, effort: Effort) -> Result<Vec<Row>, String> {
    let mut nodes: Vec<((Wire, Flow), Samples)> = Vec::new();
    for check in [false, true, false] {
        let node = Wire::new(programs, &json!({"sourceCheck": check}));
        let rules = node.host.command("nft", &["list", "ruleset"]).ok();
        if rules.contains("fib ") != check {
            let made = if check { "makes no rule" } else { "makes a rule all the same" };
            return Err(format!("this manx {made} with sourceCheck {check}: {rules}"));
        }
        let flow = node.flow(PORT);
        nodes.push(((node, flow), Samples::default()));
    }
    settle();
    in_turns(effort.rounds, nodes.len(), |number, counts| {
        let ((_, flow), samples) = &mut nodes[number];
        let (one_way, round_trip) = (flow.one_way(), flow.round_trip());
        if counts {
            samples.one_way.push(one_way);
            samples.round_trip.push(round_trip);
        }
    });
    for round in 0..effort.streams {
        for number in order(round, nodes.len()) {
            let ((node, _), samples) = &mut nodes[number];
            samples.stream.push(node.stream(effort.stream));
        }
    }
    let [(_, without), (_, with), (_, again)] = nodes.as_slice() else {
        unreachable!("three nodes")
    };
    let row = |what: &str, at_most, of: fn(&Samples) -> &Vec<f64>| Row {
        what: what.into(),
        ratio: paired(of(without), of(with)),
        control: paired(of(without), of(again)),
        at_most,
    };
    Ok(vec![
        row("UDP, one byte, one way, ns", Some(PACKET_AT_MOST), |samples| &samples.one_way),
        row("UDP, one byte and its answer, ns", Some(PACKET_AT_MOST), |samples| {
            &samples.round_trip
        }),
        row("TCP, one stream, ns per kbit", Some(STREAM_AT_MOST), |samples| &samples.stream),
    ])
}

/// A check that makes the way shorter is none, and one that cannot be told from
/// none is told as that by its interval.
pub fn faults(rows: &[Row]) -> Vec<String> {
    let mut faults = crate::pair::faults(rows);
    for row in rows.iter().filter(|row| row.ratio.high < 0.99) {
        let told = row.ratio.told();
        faults.push(format!("{}: with the check it takes less than without: {told}", row.what));
    }
    faults
}
