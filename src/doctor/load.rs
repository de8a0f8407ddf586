// SPDX-License-Identifier: Apache-2.0
//! Checks of what the node has too much of: connections, packets, work, rules. They go by
//! what grew between two moments, for what was counted since boot may be long over.

use super::{Answer, Seen};
use crate::{
    doctor::tune::{BACKLOG, CONNECTION_BYTES, COUNT, MAX, TIME_WAIT},
    list::Gather,
    node::{Backlog, Load, Processor, Snapshot},
    text::few::some_of,
};

/// How many packets a processor serves at a time.
pub const BUDGET: &str = "net/core/netdev_budget";

/// In per cent of the time of all processors.
const STEAL_HIGH: u64 = 15;
/// In per cent of the time of one processor.
const SOFTIRQ_HIGH: u64 = 80;
/// Ticks of a processor's clock: of fewer nothing can be said.
const TICKS_FEW: u64 = 10;
/// Times a processor left packets for later, as it does now and then.
const SQUEEZED_MANY: u64 = 20;
/// How many rules a packet may meet before that is told, and before it is bad.
const RULES_MANY: u64 = 1_000;
const RULES_TOO_MANY: u64 = 5_000;
/// Closed connections keep their entries for so long, in seconds, if nobody says otherwise.
const TIME_WAIT_DEFAULT: u64 = 120;

const UNCOUNTED: &str = "nothing was counted at two moments";

fn load(snapshot: &Snapshot) -> Result<&(Load, Load), String> {
    snapshot.surroundings.load.as_ref().ok_or_else(|| UNCOUNTED.to_owned())
}

pub(super) fn conntrack_drops(snapshot: &Snapshot) -> Answer {
    let counted = snapshot.surroundings.counters.ok_or_else(|| UNCOUNTED.to_owned());
    let (before, after) = counted?;
    if !snapshot.kernel.sysctls.contains_key(COUNT) {
        return Err("the kernel keeps no table of connections here".to_owned());
    }
    let mut seen = Vec::new();
    let object = "table of connections";
    let lost = after.dropped.saturating_sub(before.dropped);
    let clashed = after.insert_failed.saturating_sub(before.insert_failed);
    // What clashes is counted as dropped too.
    let full = lost.saturating_sub(clashed);
    let early = after.early_dropped.saturating_sub(before.early_dropped);
    if full > 0 || early > 0 {
        let evidence = format!(
            "in a moment {full} packets were dropped for want of an entry, and {early} connections \
             lost theirs to newer ones ({} and {} since boot)",
            after.dropped, after.early_dropped
        );
        let of = if full > 0 { Seen::error } else { Seen::warning };
        seen.push(larger(snapshot, of(object, evidence)));
    }
    if clashed > 0 {
        let evidence = format!(
            "in a moment {clashed} packets were dropped because another connection had the same \
             addresses and ports ({} since boot): two packets of one socket at the same time, as \
             questions to DNS are, or a translation that has no port left",
            after.insert_failed
        );
        let fix = "for DNS a cache on the node, or options single-request-reopen in the pods' \
                   resolv.conf; for a translation more source addresses";
        seen.push(Seen::warning(object, evidence).fix(fix));
    }
    Ok(seen)
}

/// What makes room in the table of connections.
fn larger(snapshot: &Snapshot, seen: Seen) -> Seen {
    let number = |key: &str| snapshot.kernel.number(key);
    let Some(max) = number(MAX) else { return seen };
    let more = max.saturating_mul(2);
    let mebibytes = (max.saturating_mul(CONNECTION_BYTES) >> 20).max(1);
    let long = number(TIME_WAIT).filter(|seconds| *seconds >= TIME_WAIT_DEFAULT);
    let shorter =
        |seconds: u64| format!(" net.netfilter.nf_conntrack_tcp_timeout_time_wait={seconds}");
    let set = |max: u64, seconds: Option<u64>| {
        let seconds = seconds.map(shorter).unwrap_or_default();
        format!("sysctl -w net.netfilter.nf_conntrack_max={max}{seconds}")
    };
    let evidence = format!(
        "{}; the table has room for {max}, and twice as much takes {mebibytes} MiB of memory more",
        seen.evidence
    );
    Seen { evidence, ..seen }.fix(set(more, long.map(|_| 30))).undo(set(max, long))
}

pub(super) fn backlog_drops(snapshot: &Snapshot) -> Answer {
    let (before, after) = load(snapshot)?;
    let mut seen = Vec::new();
    let pairs = || before.backlog.iter().zip(&after.backlog).enumerate();
    let grown = |number: fn(&Backlog) -> u64| {
        let all =
            pairs().map(|(place, (one, other))| (place, number(other).saturating_sub(number(one))));
        all.filter(|(_, grown)| *grown > 0).gather()
    };
    let told = |all: &[(usize, u64)]| {
        let each: Vec<String> =
            all.iter().map(|(place, count)| format!("{count} at processor {place}")).gather();
        some_of(&each)
    };
    let set = |key: &str| {
        let value = snapshot.kernel.number(key);
        let dotted = key.replace('/', ".");
        let of = |value: u64| format!("sysctl -w {dotted}={value}");
        value.map_or_else(
            || (format!("raise {dotted} on the node, not in a container"), String::new()),
            |value| (of(value.saturating_mul(2)), of(value)),
        )
    };
    let dropped = grown(|one| one.dropped);
    if !dropped.is_empty() {
        let alone = if dropped.len() == 1 && after.backlog.len() > 1 {
            "; one processor alone gets them: rps_cpus of the device's queues spreads them"
        } else {
            ""
        };
        let evidence = format!(
            "packets for which there was no room in a processor's queue, in a moment: {}{alone}",
            told(&dropped)
        );
        let (fix, undo) = set(BACKLOG);
        seen.push(
            Seen::warning("sysctl net.core.netdev_max_backlog", evidence).fix(fix).undo(undo),
        );
    }
    let squeezed: Vec<_> =
        grown(|one| one.squeezed).into_iter().filter(|(_, count)| *count > SQUEEZED_MANY).gather();
    if !squeezed.is_empty() && dropped.is_empty() {
        let evidence = format!(
            "processors had packets left when their time for them was up, in a moment: {}",
            told(&squeezed)
        );
        let (fix, undo) = set(BUDGET);
        seen.push(Seen::info("sysctl net.core.netdev_budget", evidence).fix(fix).undo(undo));
    }
    Ok(seen)
}

/// What each processor did between the two moments.
fn shares(snapshot: &Snapshot) -> Result<Vec<Processor>, String> {
    let (before, after) = load(snapshot)?;
    let pairs = before.processors.iter().zip(&after.processors);
    let shares: Vec<Processor> = pairs
        .map(|(before, after)| Processor {
            total: after.total.saturating_sub(before.total),
            softirq: after.softirq.saturating_sub(before.softirq),
            steal: after.steal.saturating_sub(before.steal),
        })
        .gather();
    let ticks = shares.iter().map(|one| one.total).fold(0, u64::saturating_add);
    if ticks < TICKS_FEW {
        return Err("what the processors did is not known".to_owned());
    }
    Ok(shares)
}

/// `part` of `whole`, in per cent.
fn percent(part: u64, whole: u64) -> u64 {
    u128::from(part)
        .saturating_mul(100)
        .checked_div(u128::from(whole))
        .and_then(|share| share.try_into().ok())
        .unwrap_or_default()
}

pub(super) fn cpu_steal(snapshot: &Snapshot) -> Answer {
    let shares = shares(snapshot)?;
    let sum = |all: &[Processor], number: fn(&Processor) -> u64| {
        all.iter().map(number).fold(0, u64::saturating_add)
    };
    let share = |all: &[Processor]| percent(sum(all, |one| one.steal), sum(all, |one| one.total));
    let now = share(&shares);
    if now < STEAL_HIGH {
        return Ok(Vec::new());
    }
    let since_boot = share(&load(snapshot)?.1.processors);
    let evidence = format!(
        "{now} % of the processors' time went to other machines in a moment, {since_boot} % since boot"
    );
    Ok(vec![
        Seen::warning("processors", evidence)
            .fix("give this machine processors of its own at its host, or move it to another"),
    ])
}

pub(super) fn softirq_share(snapshot: &Snapshot) -> Answer {
    let shares = shares(snapshot)?;
    let busy: Vec<String> = shares
        .iter()
        .enumerate()
        .filter(|(_, one)| one.total >= TICKS_FEW)
        .map(|(place, one)| (place, percent(one.softirq, one.total)))
        .filter(|(_, share)| *share >= SOFTIRQ_HIGH)
        .map(|(place, share)| format!("{share} % of the time of processor {place}"))
        .gather();
    if busy.is_empty() {
        return Ok(Vec::new());
    }
    let evidence = format!(
        "in a moment {} of {} processors did little but serve packets: {}",
        busy.len(),
        shares.len(),
        some_of(&busy)
    );
    let seen = Seen::warning("processors", evidence);
    Ok(vec![match busy.len() == shares.len() {
        true => seen.fix("fewer packets or more processors: this node can take no more"),
        false => seen.fix(
            "spread the packets: ethtool -L DEVICE combined NUMBER where the device has more \
             queues, else a mask of processors into /sys/class/net/DEVICE/queues/rx-*/rps_cpus",
        ),
    }])
}

pub(super) fn rules_long(snapshot: &Snapshot) -> Answer {
    let walks = snapshot.surroundings.walks.iter().filter(|walk| walk.rules >= RULES_MANY);
    let seen = walks.map(|walk| {
        let evidence = format!(
            "a packet may meet {} rules from there, {} of them in chain {}",
            walk.rules, walk.of_longest, walk.longest
        );
        let of = if walk.rules >= RULES_TOO_MANY { Seen::warning } else { Seen::info };
        let seen = of(walk.chain.clone(), evidence);
        match walk.longest.starts_with("KUBE-") {
            true => seen.fix(
                "kube-proxy with mode nftables (kernel 5.13 or newer): it looks services up in a \
                 map, where mode iptables has a rule for each; the mode is in its ConfigMap",
            ),
            false => seen.fix("put what the rules ask for into a set, which is looked up at once"),
        }
    });
    Ok(seen.gather())
}

/// Drops by our own rules. Which pod it is only packets tell.
pub(super) fn source_check_drops(snapshot: &Snapshot) -> Answer {
    let (before, after) = load(snapshot)?;
    if after.sources.is_empty() {
        return Err("no network checks sources, or none has its table".to_owned());
    }
    let mut seen = Vec::new();
    for (table, now) in &after.sources {
        let first = before.sources.iter().find(|(name, _)| name == table);
        // A table that was made in between counts from zero.
        let dropped = now.saturating_sub(first.map_or(0, |(_, count)| *count));
        if dropped == 0 {
            continue;
        }
        let evidence = format!(
            "its source check dropped {dropped} packets of pods in a moment, {now} since it was made: \
             their source does not lead back to the pod"
        );
        let fix = format!(
            "nft list chain inet {table} stranger counts them, and manx capture shows a pod's; \
             where a pod sends for others, allowedSourcePrefixes names their networks"
        );
        seen.push(Seen::warning(format!("nftables table {table}"), evidence).fix(fix));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests;
