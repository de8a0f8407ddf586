// SPDX-License-Identifier: Apache-2.0
//! Whether the numbers in README and in docs/benchmark.md are those of results/.
//!
//! They are between two marks, and written by `hack/readme-numbers`, which runs
//! these tests with MANX_WRITE_README set.

use std::fs;
use std::path::{Path, PathBuf};

use manx::text::grouped_digits;
use serde_json::Value;

const BEGIN: &str = "<!-- numbers: hack/readme-numbers writes what follows from results/ -->\n";
const END: &str = "<!-- end of numbers -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn result(name: &str) -> Value {
    let path = root().join("results").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn number(value: &Value, what: &str) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("there is no {what} in results/"))
}

/// Two digits that count, but all of those before the point.
fn figure(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// p50 of a verb, one pod after another.
fn p50(
    report: &Value,
    subject: &str,
    dual_stack: bool,
    masquerade: bool,
    verb: &str,
) -> Option<f64> {
    let rows = report["attach"].as_array().into_iter().flatten();
    let found = rows.clone().find(|row| {
        row["subject"] == subject
            && row["at_once"] == 1
            && row["crowded"] == false
            && row["setting"]["dual_stack"] == dual_stack
            && row["setting"]["masquerade"] == masquerade
    });
    found?[verb]["p50_ms"].as_f64()
}

/// What belongs between the marks.
fn numbers(report: &Value, addresses: &Value) -> String {
    let columns = [
        ("manx", "manx + manx-ipam"),
        ("ptp + host-local", "ptp + host-local"),
        ("bridge + host-local", "bridge + host-local"),
        ("flannel", "flannel (bridge, host-local)"),
    ];
    let rows = [
        ("ADD", "add", false, false),
        ("ADD with masquerade", "add", false, true),
        ("ADD, dual stack", "add", true, false),
        ("DEL", "del", false, false),
    ];
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut text = format!("| | {} |\n|---|---|---|---|---|\n", names.join(" | "));
    for (name, verb, dual_stack, masquerade) in rows {
        let of = |subject| p50(report, subject, dual_stack, masquerade, verb);
        // It does not masquerade, and not every report has it beside those that do.
        let floor = of("floor").or_else(|| p50(report, "floor", dual_stack, false, verb));
        let cell = |subject| Some(figure(of(subject)? / floor?));
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, subject)| {
                cell(subject).unwrap_or_else(|| panic!("results/ has no {name} of {subject}"))
            })
            .collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    let size = &report["size"];
    let mib = number(&size["binary_bytes"], "binary") / 1048576.0;
    let verbs = size["verbs"].as_array().into_iter().flatten();
    let peaks = verbs.map(|verb| number(&verb["peak_kib"], "memory") / 1024.0);
    let peak = peaks.fold(0.0, f64::max);
    let add = |leases: u64| {
        let rows = addresses["rows"].as_array().into_iter().flatten();
        let found = rows.clone().find(|row| row["verb"] == "ADD" && row["leases"] == leases);
        let of = |program: &str| number(&found.unwrap_or(&Value::Null)[program]["p50_ms"], program);
        (of("host_local"), of("manx_ipam"))
    };
    let ((theirs, ours), (_, empty)) = (add(20_000), add(0));
    text += &format!(
        "\nThe binary is {mib:.2} MiB, and no verb takes more than {peak:.2} MiB of memory. With 20,000\n\
         leases an ADD of manx-ipam alone is {:.0} times as fast as one of host-local and takes {:.1} times\n\
         as long as with none ([results/ipam.md](results/ipam.md)).\n",
        theirs / ours,
        ours / empty
    );
    text
}

/// Rows of docs/benchmark.md, and what results/policy.json calls them.
const POLICY: [(&str, &str); 11] = [
    (
        "a new connection between isolated pods, ns more than without policies; Calico's layout",
        "a new connection between isolated pods, ns more than without policies",
    ),
    (
        "the same for pods that no policy is about",
        "a new connection between pods that no policy is about, ns more than without policies",
    ),
    (
        "a byte of an established connection and its answer, ns; without policies",
        "an established connection, a byte and its answer, ns; old is without policies",
    ),
    ("the same; Calico's layout", "the same, old is Calico's layout"),
    (
        "the same; kube-router",
        "an established connection, a byte and its answer, ns; old is kube-router",
    ),
    (
        "the first packet of a connection, ns for all of its way; kube-router",
        "the way of a packet of a new connection, ns; old is kube-router",
    ),
    (
        "a pod joins, the kernel's time, µs; Calico's layout",
        "a pod joins, kernel, µs; 250 pods, 500 policies, 10,000 addresses",
    ),
    (
        "the same with 1,000 pods, 2,000 policies and 100,000 addresses",
        "a pod joins, kernel, µs; 1,000 pods, 2,000 policies, 100,000 addresses",
    ),
    (
        "a policy changes, the kernel's time, µs; Calico's layout",
        "a policy changes, kernel, µs; 250 pods, 500 policies, 10,000 addresses",
    ),
    ("ADD, ms; without policies", "ADD, ms; old is networkPolicy off, new is enforce"),
    ("the kernel's memory, KiB; Calico's layout", "the kernel's memory, KiB"),
];

/// Three digits that count of what is small.
fn amount(value: f64) -> String {
    if value < 9.95 { format!("{value:.2}") } else { grouped_digits(value.round() as usize) }
}

/// What belongs between the marks of docs/benchmark.md.
fn policy_numbers(result: &Value) -> String {
    let mut text = "| | the other | manx | manx by the other |\n|---|---:|---:|---|\n".to_owned();
    for (name, what) in POLICY {
        let rows = result["rows"].as_array().into_iter().flatten();
        let found = rows.clone().find(|row| row["what"] == what);
        let ratio = &found.unwrap_or_else(|| panic!("results/ has no {what:?}"))["ratio"];
        let of = |key: &str| number(&ratio[key], what);
        let spread = match ratio["low"].as_f64() {
            Some(low) if low < of("high") => format!(" ({low:.3} to {:.3})", of("high")),
            _ => String::new(),
        };
        let [old, new] = ["old_p50", "new_p50"].map(|key| amount(of(key)));
        text += &format!("| {name} | {old} | {new} | {:.3}{spread} |\n", of("ratio"));
    }
    text
}

/// Compares what stands between the marks of a file, or writes it.
fn keep(name: &str, wanted: &str) {
    let path = root().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the numbers");
    let (found, after) = rest.split_once(END).expect("the mark after the numbers");
    if std::env::var_os("MANX_WRITE_README").is_some() {
        let written = fs::write(&path, [before, BEGIN, wanted, END, after].concat());
        return written.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(found, wanted, "{name} differs from results/: run hack/readme-numbers");
}

#[test]
fn the_numbers_in_readme_are_those_of_results() {
    keep("README.md", &numbers(&result("report.json"), &result("ipam.json")));
}

#[test]
fn the_numbers_of_policies_in_benchmark_md_are_those_of_results() {
    keep("docs/benchmark.md", &policy_numbers(&result("policy.json")));
}

/// A short run is no result, and neither is one of a tree that nobody can check out.
#[test]
fn results_are_of_whole_runs() {
    for name in ["report.json", "ipam.json", "policy.json"] {
        let result = result(name);
        assert_eq!(result["quick"], false, "results/{name} is of a quick run");
        let commit = result["machine"]["commit"].as_str().unwrap_or_default();
        assert!(commit.len() > 6, "results/{name} names no commit");
    }
}
