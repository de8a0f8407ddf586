// SPDX-License-Identifier: Apache-2.0
//! What cannot be true: a run with such a number in it has measured something
//! else than it says, and fails.
//!
//! It looks at nothing but the report. What a limit allows beyond what is
//! possible is for the noise of two measurements that are compared, and for no
//! limit of physics.

use crate::attach::Row;
use crate::quantile::Times;
use crate::report::Report;
use crate::subjects::Kind;
use crate::{overlay, scale};

/// What an ADD may be faster than the floor's, which does the same and less.
const ADD_NOISE: f64 = 1.05;
/// What a burst may be faster than the floor's fastest: both are a hundred
/// starts of a process and a queue for the kernel's lock of links.
const BURST_NOISE: f64 = 1.15;
/// The same of DEL. Most of it is a wait for grace periods of the kernel, whose
/// length varies by more than what plugins do.
const DEL_NOISE: f64 = 1.3;
/// What is busy beyond the processors: two clocks that are read one after the
/// other.
const CLOCKS: f64 = 1.02;
/// What a tunnel may carry beyond what goes without one, where each packet is
/// handled by itself, so that one that is wrapped as well takes longer.
const PACKETS_NOISE: f64 = 1.25;
/// The same where packets are gathered: how many at a time is the scheduler's
/// matter, and with several streams more than the tunnel's, so that only one is
/// compared. In a virtual machine, whose processors wait for those of the host, not
/// even that one: seen were 1.6 times what goes without a tunnel.
const GATHERED_NOISE: f64 = 1.5;
/// What iperf3 takes besides its streams, as a part of their shortest.
const START_AND_END: f64 = 1.3;

/// A row and what it cannot be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub row: String,
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.row, self.what)
    }
}

/// All that is found of one row.
struct Findings<'a> {
    row: String,
    faults: &'a mut Vec<Fault>,
}

impl Findings<'_> {
    fn say(&mut self, what: String) {
        self.faults.push(Fault { row: self.row.clone(), what });
    }

    /// Zero, less, or no number.
    fn positive(&mut self, what: &str, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            self.say(format!("{what} is {value}"));
        }
    }

    fn at_most(&mut self, what: &str, value: f64, most: f64, why: &str) {
        // A value that is no number is at most nothing.
        if value.partial_cmp(&most).is_none_or(std::cmp::Ordering::is_gt) {
            self.say(format!("{what} is {value:.4}, more than {most:.4}: {why}"));
        }
    }

    fn times(&mut self, what: &str, times: &Times) {
        if times.count == 0 {
            self.say(format!("{what} was never measured"));
        }
        self.positive(&format!("{what} p50 in ms"), times.p50_ms);
        self.at_most(&format!("{what} p10"), times.p10_ms, times.p50_ms, "that is its p50");
        self.at_most(&format!("{what} p50"), times.p50_ms, times.p90_ms, "that is its p90");
        self.at_most(&format!("{what} p90"), times.p90_ms, times.p99_ms, "that is its p99");
    }

    /// Time that processors were busy, as a number of processors.
    fn processors(&mut self, what: &str, busy: f64, processors: usize) {
        self.positive(&format!("{what}, processors busy"), busy);
        let why = "the machine has no more";
        let most = processors as f64 * CLOCKS;
        self.at_most(&format!("{what}, processors busy"), busy, most, why);
    }
}

/// Everything in the report that cannot be.
pub fn faults(report: &Report) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut row = |name: String, look: &dyn Fn(&mut Findings<'_>)| {
        look(&mut Findings { row: name, faults: &mut faults });
    };
    for attached in &report.attach {
        row(attached.name(), &|found| attach(found, attached, report));
    }
    for counted in &report.counts {
        let name = format!("{}, {}", counted.subject.row_name(counted.setting), counted.verb);
        row(name, &|found| {
            found.positive("the number of programs", counted.counts.processes as f64);
            found.positive("the number of system calls", counted.counts.system_calls as f64);
            found.positive("the number of changes", counted.counts.netlink_changes as f64);
            found.positive("memory in KiB", counted.peak_kib as f64);
        });
    }
    if let Some(times) = &report.nothing {
        row("a program that does nothing".into(), &|found| found.times("it", times));
    }
    let machine = report.machine.processors;
    for (rows, here) in [(&report.overlay, Some(machine)), (&report.overlay_vm, None)] {
        for tunnel in rows {
            row(overlay::name(tunnel), &|found| {
                overlay(found, tunnel, rows, here);
                if !report.quick {
                    let why =
                        "processor time is that of the whole machine, so that it has to be idle";
                    found.at_most("others' load", tunnel.others, overlay::OTHERS_MOST, why);
                }
            });
        }
    }
    for scaled in &report.scale {
        row(format!("apply, {}, {} peers", scaled.mode, scaled.peers), &|found| {
            scale(found, scaled);
        });
    }
    for goal in &report.goals {
        row(goal.what.into(), &|found| goal.faults().into_iter().for_each(|what| found.say(what)));
    }
    if let Some(size) = &report.size {
        row("size".into(), &|found| {
            found.positive("the binary in bytes", size.binary_bytes as f64);
            found.times("VERSION", &size.start);
            found.times("a program that does nothing", &size.start_floor);
            let (start, least) = (size.start.p50_ms, size.start_floor.p50_ms);
            found.at_most(
                "a program that does nothing",
                least,
                start * ADD_NOISE,
                "as VERSION takes",
            );
            for verb in &size.verbs {
                found.positive(&format!("memory of {} in KiB", verb.verb), verb.peak_kib as f64);
            }
        });
    }
    faults
}

fn attach(found: &mut Findings<'_>, row: &Row, report: &Report) {
    let verbs = [
        ("ADD", &row.add, row.add_cpu_ms, row.add_per_second, row.add_processors),
        ("DEL", &row.del, row.del_cpu_ms, row.del_per_second, row.del_processors),
    ];
    for (verb, times, cpu_ms, per_second, processors) in verbs {
        found.times(verb, times);
        found.positive(&format!("{verb}, processor time in ms"), cpu_ms);
        found.positive(&format!("{verb}s a second"), per_second);
        found.processors(verb, processors, report.machine.processors);
        // Half of all took p50 or longer, and no round is shorter than its longest.
        let most = row.at_once as f64 * 1e3 / times.p50_ms;
        if row.at_once > 1 {
            found.at_most(
                &format!("{verb}s a second"),
                per_second,
                most * CLOCKS,
                "so many end in the time of the middle one",
            );
        }
    }
    if row.crowded || row.subject == Kind::Floor {
        return;
    }
    let Some(floor) = report.row(Kind::Floor, row.setting, row.at_once, None) else {
        // The floor's own section measures no more than that.
        return found.say("there is no row of the floor to compare it with".into());
    };
    let why = "the floor does less";
    match row.at_once {
        1 => {
            let (add, del) = (row.add.p50_ms * ADD_NOISE, row.del.p50_ms * DEL_NOISE);
            found.at_most("the floor's ADD", middle(&floor.add), add, why);
            found.at_most("the floor's DEL", middle(&floor.del), del, why);
        }
        // A single round is as fast as the machine was at that moment.
        _ if floor.rounds < 2 => {}
        _ => {
            let (add, del) = (floor.add_per_second_most, floor.del_per_second_most);
            found.at_most("ADDs a second", row.add_per_second, add * BURST_NOISE, why);
            found.at_most("DELs a second", row.del_per_second, del * DEL_NOISE, why);
        }
    }
}

/// What times are to be compared by: the median of many, the fast ones of few.
fn middle(times: &Times) -> f64 {
    if times.count < 50 { times.p10_ms } else { times.p50_ms }
}

/// `here` are the processors of this machine, where it was not a virtual one.
fn overlay(
    found: &mut Findings<'_>,
    row: &overlay::Row,
    rows: &[overlay::Row],
    here: Option<usize>,
) {
    let processors = here.unwrap_or(row.processors);
    found.positive("the round trip in us", row.latency.p50_us);
    found.at_most(
        "the round trip's p50",
        row.latency.p50_us,
        row.latency.p99_us,
        "that is its p99",
    );
    let direct = rows.iter().find(|other| {
        other.mode == "direct"
            && (other.underlay_mtu, other.offload) == (row.underlay_mtu, row.offload)
    });
    let streams = [
        ("one stream", row.one_stream, direct.map(|row| row.one_stream)),
        ("four streams", row.four_streams, direct.map(|row| row.four_streams)),
    ];
    for (what, stream, direct) in streams {
        found.positive(&format!("{what}, Gbit/s"), stream.gbit_per_second);
        found.processors(what, stream.processors, processors);
        // The processor time has that of the start and the end in it.
        let busy = stream.cpu_s_per_gb * stream.gbit_per_second / 8.0;
        let why = "the machine has no more";
        found.at_most(
            &format!("{what}, processors by CPU s/GB"),
            busy,
            processors as f64 * START_AND_END,
            why,
        );
        // A single round is no comparison.
        let gathered = row.offload && (here.is_none() || what != "one stream");
        let is_compared = row.rounds > 1 && !gathered;
        if let Some(direct) = direct.filter(|_| is_compared) {
            let noise = if row.offload { GATHERED_NOISE } else { PACKETS_NOISE };
            let most = direct.gbit_per_second * noise;
            let why = "without a tunnel it is no more";
            found.at_most(&format!("{what}, Gbit/s"), stream.gbit_per_second, most, why);
        }
    }
    let was_cut = overlay::was_cut(row);
    match row.mtu {
        overlay::Mtu::Right if was_cut || row.told > 0 => found.say(format!(
            "with the right MTU packets were cut ({:.0} fragments per GB) or refused ({} times)",
            row.one_stream.fragments_per_gb, row.told
        )),
        overlay::Mtu::PodsTooLarge | overlay::Mtu::TunnelTooLarge if !was_cut && row.told == 0 => {
            found.say("with a wrong MTU no packet was cut and no sender told".into());
        }
        _ => {}
    }
}

fn scale(found: &mut Findings<'_>, row: &scale::Row) {
    for (what, pass) in [("from nothing", row.from_nothing), ("one changed", row.one_changed)] {
        found.positive(&format!("{what}, ms"), pass.wall_ms);
        found.positive(&format!("{what}, processor time in ms"), pass.cpu_ms);
        if let Some(user_ms) = pass.user_ms {
            found.positive(&format!("{what}, our processor time in ms"), user_ms);
            let why = "of all its processor time";
            found.at_most(&format!("{what}, our part in ms"), user_ms, pass.cpu_ms * 0.999, why);
        }
        // It has one thread.
        found.processors(what, pass.processors, 1);
        found.positive(&format!("{what}, memory in KiB"), pass.peak_kib as f64);
        found.at_most("the changes", pass.changes as f64, pass.messages as f64, "of all messages");
    }
    let least = row.from_nothing.changes as f64;
    found.at_most("the peers", row.peers as f64, least, "changes that were sent for them");
    found.positive("one changed, changes", row.one_changed.changes as f64);
    found.times("ADD", &row.add);
    found.positive("ADD after a change, ms", row.add_ms_after_change);
}
