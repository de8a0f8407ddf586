// SPDX-License-Identifier: Apache-2.0
//! Bundles: what is put into one, and what one may do to who reads it.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    Finished, MANX, Node,
    harness::{DEADLINE, Stdin, run},
};

/// What the system's gzip makes of it.
fn gzip(option: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    command.args([option, "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "gzip {option}: {}", output.status);
    output.stdout
}

/// Doctor by a bundle, with so much memory, in KiB.
fn doctor(file: &Path, memory: u32) -> Finished {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v $0; exec \"$@\""]).arg(memory.to_string());
    command.args([MANX, "doctor", "--bundle"]).arg(file);
    run(command, &Stdin::Null, DEADLINE)
}

/// What anybody hands in costs the reader little, and is told in a line.
#[test]
fn a_hostile_bundle_is_refused_in_little_memory() {
    let node = Node::new();
    let scratch = node.host.scratch();
    let with = |rest: &[u8]| {
        [br#"{"kind":"manx bundle","version":1,"takenBy":"0.1","#.as_slice(), rest].concat()
    };
    let many = |key: &str, one: &str, count: usize| {
        let mut rest = format!("\"{key}\":[").into_bytes();
        rest.extend(one.repeat(count).into_bytes());
        rest.extend(&one.as_bytes()[..one.len() - 1]);
        rest.extend(b"]}");
        with(&rest)
    };
    let bomb = with(&[b"\"applied\":".as_slice(), &vec![b' '; 200 << 20]].concat());
    let deep = "[".repeat(500_000) + &"]".repeat(500_000);
    let whole = gzip("-6", &with(b"\"networks\":[]}"));
    for (what, bytes, words) in [
        ("many blanks", gzip("-6", &bomb), "may have that many"),
        ("the same, unpacked", bomb, "may have 67108864"),
        ("empty objects", many("networks", "{},", 20 << 20), "of memory"),
        ("the same, packed", gzip("-6", &many("networks", "{},", 20 << 20)), "of memory"),
        ("empty lists", many("applied", "[],", 20 << 20), "of memory"),
        ("empty words", many("unreadable", "\"\",", 19 << 20), "of memory"),
        (
            "depth",
            with(format!("\"journal\":[{{\"ipam\":{deep}}}]}}").as_bytes()),
            "recursion limit",
        ),
        ("depth that nobody reads", with(format!("\"x\":{deep}").as_bytes()), "EOF"),
        ("cut off", whole[..whole.len() - 4].to_vec(), "it ends too early"),
        ("more behind it", [&whole[..], b"x"].concat(), "no header of gzip"),
        ("nothing", Vec::new(), "no bundle"),
    ] {
        let file = scratch.path().join("hostile");
        fs::write(&file, bytes).unwrap();
        let said = doctor(&file, 400_000);
        assert!(said.status == 1 && said.stdout.is_empty(), "{what}: {said:?}");
        let line = said.stderr.trim_end();
        assert!(line.contains(words) && line.lines().count() == 1, "{what}: {line}");
        assert!(line.starts_with("manx: ") && line.contains("hostile: "), "{what}: {line}");
    }
    // What is just not refused has room.
    let file = scratch.path().join("large");
    fs::write(&file, many("unreadable", "[\"\",\"\"],", 800_000)).unwrap();
    let said = doctor(&file, 2_000_000);
    assert!(said.status == 3, "{} {}", said.status, said.stderr);
}
