// SPDX-License-Identifier: Apache-2.0
//! Two manx binaries, such as before and after a change: ADD and DEL in turns,
//! as ratios with their spread.
//!
//! Each has a node of its own, and so has the new one once more: what it differs
//! from itself by is what a difference has to exceed to mean anything.

use std::path::Path;

use serde::Serialize;

use crate::measure::Sample;
use crate::ratio::Ratio;
use crate::settle::settle;
use crate::subjects::{Kind, Node, Place, Programs, Setting};
use crate::turns::order;

/// One verb, by the clock or by processor time.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    /// New by old, in ms.
    pub ratio: Ratio,
    /// New by new.
    pub control: Ratio,
    /// What the ratio may be, where that is laid down.
    pub at_most: Option<f64>,
}

/// For an ADD, where a list of functions that is out of date (`hack/text-order`) shows first.
const ADD_AT_MOST: f64 = 1.02;
/// For a DEL, which takes locks that its forerunner did not.
const DEL_AT_MOST: f64 = 1.03;

/// How many pods are there at once, and how often all of them are added and
/// removed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub pods: usize,
    pub rounds: usize,
}

/// ADDs and DELs of one binary.
#[derive(Default)]
struct Samples {
    add: Vec<Sample>,
    del: Vec<Sample>,
}

/// Measures the two, the new one being that of `programs`.
pub fn rows(old: &Path, programs: &Programs, effort: Effort) -> Vec<Row> {
    let before = Programs { manx: old.to_path_buf(), ..programs.clone() };
    let mut subjects: Vec<(Node, Vec<Place>, Samples)> = [&before, programs, programs]
        .into_iter()
        .map(|programs| {
            let node = Node::new(Kind::ManxIpam, Setting::default(), programs);
            let places = node.places(0..effort.pods);
            (node, places, Samples::default())
        })
        .collect();
    // The first round finds files and pools that are not there yet.
    for round in 0..=effort.rounds {
        settle_now_and_then(round);
        for removing in [false, true] {
            for pod in 0..effort.pods {
                for number in order(round * effort.pods + pod, subjects.len()) {
                    let (node, places, samples) = &mut subjects[number];
                    let place = &mut places[pod];
                    let sample = if removing { node.del(place) } else { node.add(place) };
                    if round > 0 {
                        let of = if removing { &mut samples.del } else { &mut samples.add };
                        of.push(sample);
                    }
                }
            }
        }
    }
    let [(.., old), (.., new), (.., again)] = subjects.as_slice() else {
        unreachable!("three subjects")
    };
    let wall = |sample: &Sample| sample.wall.as_secs_f64() * 1e3;
    let cpu = |sample: &Sample| sample.cpu().as_secs_f64() * 1e3;
    [("ADD", false), ("DEL", true)]
        .into_iter()
        .flat_map(|(verb, removing)| {
            let of = move |samples: &Samples| {
                if removing { samples.del.clone() } else { samples.add.clone() }
            };
            let row = move |what: &str, value: fn(&Sample) -> f64| Row {
                what: format!("{verb}, {what}, ms"),
                ratio: paired(&of(old), &of(new), value),
                control: paired(&of(new), &of(again), value),
                at_most: Some(if removing { DEL_AT_MOST } else { ADD_AT_MOST }),
            };
            [row("from start to end", wall), row("processor time", cpu)]
        })
        .collect()
}

/// Once at the start, for nothing else is to be done between the rounds.
fn settle_now_and_then(round: usize) {
    if round < 2 {
        settle();
    }
}

fn paired(old: &[Sample], new: &[Sample], value: fn(&Sample) -> f64) -> Ratio {
    let pairs: Vec<(f64, f64)> =
        old.iter().zip(new).map(|(old, new)| (value(old), value(new))).collect();
    Ratio::of(&pairs)
}

/// What of it cannot be.
pub fn faults(rows: &[Row]) -> Vec<String> {
    let of = |row: &Row| {
        let mut faults = row.ratio.faults(&row.what);
        faults.extend(row.control.faults_of_itself(&row.what));
        faults
    };
    rows.iter().flat_map(of).collect()
}

/// What misses its target.
pub fn misses(rows: &[Row]) -> Vec<String> {
    let is_miss = |row: &&Row| row.at_most.is_some_and(|most| row.ratio.ratio > most);
    let told = |row: &Row| {
        let most = row.at_most.unwrap_or_default();
        format!("{}: {}, wanted at most {most}", row.what, row.ratio.told())
    };
    rows.iter().filter(is_miss).map(told).collect()
}

/// A table in Markdown.
pub fn page(rows: &[Row]) -> String {
    let mut page =
        "| | old p50 | new p50 | new by old (95 %) | at most | the same by itself | pairs |\n\
        |---|---:|---:|---|---|---|---:|\n"
            .to_owned();
    for Row { what, ratio, control, at_most } in rows {
        page += &format!(
            "| {what} | {:.3} | {:.3} | {} | {} | {} | {} |\n",
            ratio.old_p50,
            ratio.new_p50,
            ratio.told(),
            at_most.map_or_else(String::new, |most| most.to_string()),
            control.told(),
            ratio.pairs
        );
    }
    page
}
