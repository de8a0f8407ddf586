// SPDX-License-Identifier: Apache-2.0
//! Metrics for node_exporter's textfile collector.

use std::{
    fmt::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::report::mean;
use crate::{
    cli::{Failure, subcommand::failed},
    doctor::probe::{CHECKS, Found, Peer},
    finding::{Finding, Severity},
    state::{file::require_no_other_kind, replace_synced},
};

/// A metric of each path: its name, its help, and its value where it has one.
type OfPath = (&'static str, &'static str, fn(&Found) -> Option<f64>);

const OF_PATH: [OfPath; 4] = [
    ("manx_probe_up", "Whether the other end answers.", |found| {
        Some(f64::from(u8::from(found.answers())))
    }),
    ("manx_probe_rtt_seconds", "Mean round-trip time of echo requests.", |found| {
        Some(mean(&found.seen.times)?.as_secs_f64())
    }),
    ("manx_probe_loss_ratio", "Echo requests that were not answered.", |found| {
        let (sent, received) = (found.seen.sent, found.seen.received);
        (sent > 0).then(|| f64::from(sent.saturating_sub(received)) / f64::from(sent))
    }),
    ("manx_probe_mtu_bytes", "The largest packet that passes.", |found| {
        Some(f64::from(found.sizes()?.passed))
    }),
];

/// Writes them, at once.
pub(super) fn write(
    file: &Path,
    me: &str,
    peers: &[Peer],
    found: &[Finding],
) -> Result<(), Failure> {
    let text = text(me, peers, found, SystemTime::now());
    let written = require_no_other_kind(file)
        .and_then(|()| std::path::absolute(file))
        .and_then(|path| replace_synced(&path, text.as_bytes()));
    written.map_err(|error| failed(format_args!("write {}", file.display()), &error))
}

fn text(me: &str, peers: &[Peer], found: &[Finding], now: SystemTime) -> String {
    let me = label(me);
    let mut text = String::new();
    let head = |text: &mut String, name: &str, help: &str| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    };
    for (name, help, value) in OF_PATH {
        head(&mut text, name, help);
        for peer in peers {
            let labels = |one: &Found| (one.path.inner, one.path.family);
            for (place, one) in peer.paths.iter().enumerate() {
                let Some(value) = value(one) else { continue };
                // The collector refuses a file that has the same labels twice.
                if peer.paths.iter().take(place).any(|before| labels(before) == labels(one)) {
                    continue;
                }
                let (path, peer) = (&one.path, label(&peer.name));
                let _ = writeln!(
                    text,
                    "{name}{{node=\"{me}\",peer=\"{peer}\",path=\"{}\",family=\"{}\"}} {value}",
                    path.side(),
                    path.family
                );
            }
        }
    }
    let name = "manx_probe_findings";
    head(&mut text, name, "Errors and warnings by the check that found them.");
    for id in CHECKS {
        let bad = |one: &&Finding| one.id == id && one.severity != Severity::Info;
        let count = found.iter().filter(bad).count();
        let _ = writeln!(text, "{name}{{node=\"{me}\",id=\"{id}\"}} {count}");
    }
    let name = "manx_probe_time_seconds";
    head(&mut text, name, "When this was measured, since 1970.");
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let _ = writeln!(text, "{name}{{node=\"{me}\"}} {now}");
    text
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::probe::{Path, Seen, Sizes};
    use crate::family::Family;

    #[test]
    fn each_value_has_its_line_and_no_name_ends_it() {
        let ip = "192.0.2.12".parse().unwrap();
        let path = Path {
            family: Family::V4,
            inner: false,
            pod: false,
            address: ip,
            source: ip,
            device: ("eth0".to_owned(), 2),
            next_hop: ip,
            carrier: None,
            outer: (ip, ip),
            limit: 1500,
            needed: 1500,
            overhead: 0,
            expected: true,
        };
        let times = vec![Duration::from_micros(500), Duration::from_micros(1500)];
        let echo = Some(Sizes { passed: 1400, ..Sizes::default() });
        let seen = Seen { sent: 4, received: 2, times, echo, ..Seen::default() };
        let found = Found { path, seen, neighbour: None, remembered: None };
        let mut silent = Found { seen: Seen::default(), ..found.clone() };
        silent.path.inner = true;
        // No line of its own: its labels are those of the path before.
        let pod = Found { path: silent.path.clone(), ..found.clone() };
        let name = "b\"\n\\".to_owned();
        let peer = Peer { name, paths: vec![found, silent, pod], skipped: Vec::new() };
        let bad = Finding::new("path-mtu", Severity::Error, "", "");
        let text = text("a", &[peer], &[bad], UNIX_EPOCH + Duration::from_secs(7));
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = r#"{node="a",peer="b\"\n\\",path="PATH",family="IPv4"}"#;
        let of_path = [
            ("up", "outer", "1"),
            ("up", "inner", "0"),
            ("rtt_seconds", "outer", "0.001"),
            ("loss_ratio", "outer", "0.5"),
            ("mtu_bytes", "outer", "1400"),
        ];
        let line = |(name, path, value): (&str, &str, &str)| {
            format!("manx_probe_{name}{} {value}", labels.replace("PATH", path))
        };
        let mut expected: Vec<String> = of_path.map(line).into();
        for (id, count) in [("peer-unreachable", 0), ("protocol-filtered", 0), ("path-mtu", 1)] {
            expected.push(format!("manx_probe_findings{{node=\"a\",id=\"{id}\"}} {count}"));
        }
        expected.push("manx_probe_time_seconds{node=\"a\"} 7".to_owned());
        assert_eq!(values, expected);
        assert_eq!(text.lines().filter(|line| line.starts_with("# HELP")).count(), 6);
    }
}
