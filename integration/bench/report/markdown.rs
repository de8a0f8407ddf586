// SPDX-License-Identifier: Apache-2.0
//! The page that a reader sees: what had to be reached, then the tables.

use std::fmt::Write as _;

use super::Report;
use super::charts::{Chart, figure};
use crate::attach::Row;
use crate::overlay;
use crate::subjects::Kind;

/// The whole page.
pub fn page(report: &Report, charts: &[Chart]) -> String {
    let mut page = String::new();
    head(report, &mut page);
    targets_table(report, &mut page);
    attach(report, &mut page);
    counts(report, &mut page);
    overlay(report, &mut page);
    scale(report, &mut page);
    size(report, &mut page);
    if !charts.is_empty() {
        page += "\n## Charts\n\n";
        for chart in charts {
            let _ = writeln!(page, "![{}]({})\n", chart.title, chart.file);
        }
    }
    page
}

/// A table: its columns, then its rows. Without rows there is none.
fn table(page: &mut String, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let rows: Vec<_> = rows.into_iter().collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n| {} |", columns.join(" | "));
    let _ = writeln!(page, "|{}", "---|".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
}

fn head(report: &Report, page: &mut String) {
    let machine = &report.machine;
    *page += "# What an attachment costs\n\n";
    let _ = writeln!(
        page,
        "Made by `hack/bench{}` on {} at commit {}. Ratios within this report are the result; times \
         are those of this machine, which had a load of {} before:\n",
        if report.quick { " --quick" } else { "" },
        machine.date,
        machine.commit,
        machine.load_before,
    );
    let _ = writeln!(
        page,
        "- {} x {}, {} MiB, Linux {}\n- manx: {}",
        machine.processors, machine.processor, machine.memory_mib, machine.kernel, machine.manx
    );
    let peers = machine.peers.iter().map(|(name, version)| format!("{name} {version}"));
    let _ = writeln!(page, "- {}", peers.collect::<Vec<_>>().join(", "));
    *page += "- all state (leases, journals) in memory, every node and pod a network namespace\n";
    if report.quick {
        *page += "\n**A quick run: few samples, rough numbers.**\n";
    }
}

fn targets_table(report: &Report, page: &mut String) {
    *page += "\n## Targets\n";
    let rows = report.targets.iter().map(|target| {
        vec![
            target.what.clone(),
            target.wanted.clone(),
            target.reached.clone().unwrap_or_else(|| "not measured".into()),
            match target.met {
                Some(true) => "yes".into(),
                Some(false) => "**no**".into(),
                None => String::new(),
            },
        ]
    });
    table(page, &["what", "wanted", "reached", "met"], rows);
}

fn attach(report: &Report, page: &mut String) {
    if report.attach.is_empty() {
        return;
    }
    *page += "\n## Attach\n\n\
        Whole processes, from before their start until their end is known, delegates included; ms. \
        The floor is a static program that makes the same links, addresses, routes, neighbours and \
        parameters as manx from its arguments, in two sends, with no configuration and no state; \
        the run checks that it does. Subjects take turns pod by pod. ptp waits in dual stack for \
        duplicate address detection, so fewer of its pods are measured there. flannel \"without \
        masquerade\" stands for a node on which flanneld masquerades for all pods.\n";
    if let Some(times) = &report.nothing {
        let _ = writeln!(
            page,
            "\nStarting a static program that does nothing: p50 {}, p99 {}.",
            figure(times.p50_ms),
            figure(times.p99_ms)
        );
    }
    let columns = [
        "one after another",
        "ADD p50",
        "p90",
        "p99",
        "of the floor",
        "ADD CPU",
        "DEL p50",
        "p90",
        "p99",
        "of the floor",
        "DEL CPU",
        "pods",
    ];
    let alone = report.attach.iter().filter(|row| row.at_once == 1 && !row.crowded);
    table(page, &columns, alone.map(|row| sequential(report, row)));
    at_once(report, page);
    let columns = ["pods on the node", "", "ADD p50", "p90", "p99", "DEL p50", "p90", "p99"];
    let crowded: Vec<&Row> = report.attach.iter().filter(|row| row.crowded).collect();
    let bridges = crowded.iter().any(|row| row.subject.is_bridged());
    table(
        page,
        &columns,
        crowded.into_iter().map(|row| {
            let mut cells = vec![row.present.to_string(), row.subject.name().into()];
            cells.extend(quantiles(row));
            cells
        }),
    );
    if bridges {
        *page += "\nA Linux bridge has at most 1023 ports, so there is no row of 2000 for what uses one. \
            Pods that were there before were made by hand: links, routes, leases, journal.\n";
    }
}

fn at_once(report: &Report, page: &mut String) {
    let columns = [
        "at once", "", "ADD/s", "CPUs", "ADD p50", "p90", "p99", "DEL/s", "CPUs", "DEL p50", "p90",
        "p99",
    ];
    let together: Vec<&Row> = report.attach.iter().filter(|row| row.at_once > 1).collect();
    if together.is_empty() {
        return;
    }
    *page += "\nSo many at the same moment, from which every pod's time counts: what it waits for its \
        turn is part of it. CPUs is how many processors were busy with them, in the round in which it \
        was most.\n";
    table(page, &columns, together.into_iter().map(parallel));
}

fn quantiles(row: &Row) -> Vec<String> {
    let (add, del) = (row.add, row.del);
    [add.p50_ms, add.p90_ms, add.p99_ms, del.p50_ms, del.p90_ms, del.p99_ms].map(figure).to_vec()
}

fn sequential(report: &Report, row: &Row) -> Vec<String> {
    let floor = report.row(Kind::Floor, row.setting, 1, None);
    let of_floor = |value: f64, floor: Option<f64>| {
        floor.map_or_else(String::new, |floor| format!("{:.2}", value / floor))
    };
    let mut cells = vec![row.subject.row_name(row.setting)];
    let q = quantiles(row);
    cells.extend_from_slice(&q[..3]);
    cells.push(of_floor(row.add.p50_ms, floor.map(|floor| floor.add.p50_ms)));
    cells.push(figure(row.add_cpu_ms));
    cells.extend_from_slice(&q[3..]);
    cells.push(of_floor(row.del.p50_ms, floor.map(|floor| floor.del.p50_ms)));
    cells.push(figure(row.del_cpu_ms));
    cells.push(row.add.count.to_string());
    cells
}

fn parallel(row: &Row) -> Vec<String> {
    let q = quantiles(row);
    let mut cells = vec![
        row.at_once.to_string(),
        row.subject.row_name(row.setting),
        figure(row.add_per_second),
        figure(row.add_processors),
    ];
    cells.extend_from_slice(&q[..3]);
    cells.extend([figure(row.del_per_second), figure(row.del_processors)]);
    cells.extend_from_slice(&q[3..]);
    cells
}

fn counts(report: &Report, page: &mut String) {
    if report.counts.is_empty() {
        return;
    }
    *page += "\n## What it asks of the kernel\n\n\
        After the network's first pod; programs that were executed, system calls and netlink \
        messages of all of them, and resident memory of the largest.\n";
    let rows = report.counts.iter().map(|row| {
        let counts = row.counts;
        vec![
            row.subject.row_name(row.setting),
            row.verb.into(),
            counts.processes.to_string(),
            counts.system_calls.to_string(),
            counts.netlink_messages.to_string(),
            row.peak_kib.to_string(),
        ]
    });
    table(page, &["", "verb", "programs", "system calls", "netlink messages", "peak KiB"], rows);
}

const OVERLAY: &str = "\n## Overlay tax\n\n\
    Pods on two nodes joined by a veth pair, iperf3; the ways over one link take turns, and the rows are \
    medians. With offload that pair carries TCP in pieces of up to 64 KiB, as a network card does that \
    can segment inside tunnels; without it every packet is a packet, as with one that cannot, on the \
    tunnel's device too. Pods too large: their MTU is that of the link between the nodes, the tunnel's is \
    right, and TCP learns the size from ICMP. Tunnel too large: both have the MTU of the link, with no \
    room for the encapsulation. Whether packets were then cut is counted, and told in the column of that \
    name. CPU is that of both nodes, pods and iperf3.\n";

fn overlay(report: &Report, page: &mut String) {
    if !report.overlay.is_empty() {
        *page += OVERLAY;
        tunnels(&report.overlay, page);
    }
    if report.overlay.iter().any(|row| row.others > overlay::OTHERS_MOST) {
        *page +=
            "\n**Others used the machine meanwhile, and their processor time is part of it.**\n";
    }
    if !report.overlay_vm.is_empty() {
        *page += "\n### IPIP\n\n\
            In a virtual machine with a kernel that has it, under software emulation: only ratios \
            between these rows mean anything.\n";
        tunnels(&report.overlay_vm, page);
        let uncut: Vec<String> = (report.overlay_vm.iter())
            .filter(|row| row.mtu == overlay::Mtu::TunnelTooLarge && !overlay::was_cut(row))
            .map(overlay::name)
            .collect();
        if !uncut.is_empty() {
            let _ = writeln!(
                page,
                "\n**Not cut**: {}. The tunnel does not let its packets be fragmented: the node answers \
                 the pod by ICMP, and TCP sends smaller ones. These rows cost no more than those with the \
                 right MTU, but for what waits for the answer or never gets it.",
                uncut.join("; ")
            );
        }
    }
}

fn tunnels(rows: &[overlay::Row], page: &mut String) {
    let columns = [
        "",
        "pod MTU",
        "Gbit/s, 1 stream",
        "4 streams",
        "CPU s/GB",
        "4 streams",
        "cut",
        "fragments/GB",
        "retransmits",
        "round trip p50 us",
        "p99",
    ];
    let row = |row: &overlay::Row| {
        let (one, four) = (row.one_stream, row.four_streams);
        let cut = match (overlay::was_cut(row), row.told) {
            (true, _) => "yes".into(),
            (false, 0) => String::new(),
            (false, told) => format!("no, pods were told ({told})"),
        };
        vec![
            overlay::name(row),
            row.pod_mtu.to_string(),
            figure(one.gbit_per_second),
            figure(four.gbit_per_second),
            figure(one.cpu_s_per_gb),
            figure(four.cpu_s_per_gb),
            cut,
            format!("{:.0}", one.fragments_per_gb),
            one.retransmits.to_string(),
            figure(row.latency.p50_us),
            figure(row.latency.p99_us),
        ]
    };
    table(page, &columns, rows.iter().map(row));
}

fn scale(report: &Report, page: &mut String) {
    if report.scale.is_empty() {
        return;
    }
    *page += "\n## Scale\n\n`manx apply` with so many peers; ms, means of so many runs. CPU is its \
        processor time and the kernel's for it, \"ours\" the part of it in user space, where a run is long \
        enough for the kernel to tell.\n";
    let columns = [
        "mode, peers",
        "",
        "runs",
        "wall",
        "CPU",
        "ours",
        "changes sent",
        "messages",
        "peak KiB",
        "ADD p50",
        "ADD after a change",
    ];
    let rows = report.scale.iter().flat_map(|row| {
        [("from nothing", row.from_nothing), ("one changed", row.one_changed)].map(
            |(what, pass)| {
                vec![
                    format!("{}, {}", row.mode, row.peers),
                    what.into(),
                    pass.runs.to_string(),
                    figure(pass.wall_ms),
                    figure(pass.cpu_ms),
                    pass.user_ms.map_or_else(String::new, figure),
                    pass.changes.to_string(),
                    pass.messages.to_string(),
                    pass.peak_kib.to_string(),
                    figure(row.add.p50_ms),
                    figure(row.add_ms_after_change),
                ]
            },
        )
    });
    table(page, &columns, rows);
}

fn size(report: &Report, page: &mut String) {
    let Some(size) = &report.size else { return };
    let peers = size.peers.iter().map(|peer| format!("{} {}", peer.program, peer.bytes));
    let _ = writeln!(
        page,
        "\n## Size\n\nmanx {} bytes, static and stripped ({}). VERSION from start to end: p50 {} ms; a \
         static program that does nothing: {} ms.",
        size.binary_bytes,
        peers.collect::<Vec<_>>().join(", "),
        figure(size.start.p50_ms),
        figure(size.start_floor.p50_ms)
    );
    let verbs = ["VERSION", "STATUS", "ADD", "CHECK", "DEL", "GC"];
    let rows = crate::attach::SETTINGS.iter().map(|setting| {
        let peak = |name: &&str| {
            let found = size.verbs.iter().find(|verb| {
                verb.verb == **name
                    && verb.dual_stack == setting.dual_stack
                    && verb.masquerade == setting.masquerade
            });
            found.map_or_else(String::new, |verb| verb.peak_kib.to_string())
        };
        std::iter::once(setting.name()).chain(verbs.iter().map(peak)).collect()
    });
    let mut columns = vec!["peak resident memory, KiB"];
    columns.extend(verbs);
    table(page, &columns, rows);
}
