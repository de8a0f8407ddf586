// SPDX-License-Identifier: Apache-2.0
//! A watch goes on whatever becomes of its output, of the peers file's place,
//! and of all the others that use the kernel.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, batch, entry};
use crate::harness::{Stdin, eventually, run};
use crate::watch::Watch;

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// The peers file of node-a with the first so many nodes.
fn peers(count: usize) -> String {
    let nodes: Vec<Value> = (1..=count).map(|number| entry(number, Families::Ipv4)).collect();
    json!({"self": "node-a", "nodes": nodes}).to_string()
}

/// Waits until the node has routes to so many, its own included.
#[track_caller]
fn follows(watch: &Watch<'_>, node: &Node, count: usize) {
    let there = eventually(SOON, || node.routes().len() == count);
    assert!(there, "{count}: {:#?}\n{}", node.routes(), watch.log());
    // What follows has to wake it.
    watch.comes_to_rest();
}

#[test]
fn nobody_has_to_listen() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    // One pass does its work, and says that it could not tell.
    let mut command = std::process::Command::new("bash");
    let plain = node.command(&["apply"]);
    command.args(["-c", r#""$0" "$@" >/dev/full"#]).arg(plain.get_program()).args(plain.get_args());
    let apply = node.host.enter(|| run(command, &Stdin::Null, SOON));
    assert_eq!(apply.status, 1, "{apply:?}");
    node.assert_settled();
    node.manx(&["apply", "--undo"]).ok();
    let watch = Watch::spawn(node, Some(full()));
    follows(&watch, node, 3);
    watch.repairs("unheard", || batch(&node.host, "route del 10.244.2.0/24"));
    watch.repairs("and again", || batch(&node.host, "route flush proto 109"));
}

/// As where one place holds the files of all nodes, or a ConfigMap is mounted.
#[test]
fn a_file_behind_symbolic_links_is_followed() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let elsewhere = node.host.scratch().dir("elsewhere");
    let put = |directory: &str, count| {
        fs::create_dir_all(elsewhere.join(directory)).unwrap();
        fs::write(elsewhere.join(directory).join("new"), peers(count)).unwrap();
        let file = elsewhere.join(directory).join("peers.json");
        fs::rename(elsewhere.join(directory).join("new"), file).unwrap();
    };
    let link = |target: &Path, at: &Path| {
        let new = at.with_file_name("link.new");
        symlink(target, &new).unwrap();
        fs::rename(&new, at).unwrap();
    };
    put("..1", 1);
    link(Path::new("..1"), &elsewhere.join("..data"));
    link(Path::new("..data/peers.json"), &elsewhere.join("peers.json"));
    link(&elsewhere.join("peers.json"), &node.peers_file());
    let watch = Watch::start(node);
    follows(&watch, node, 1);
    // The file, the directory that holds it, the file again, the first link.
    put("..1", 2);
    follows(&watch, node, 2);
    put("..2", 3);
    link(Path::new("..2"), &elsewhere.join("..data"));
    follows(&watch, node, 3);
    put("..2", 1);
    follows(&watch, node, 1);
    put("..3", 2);
    link(&elsewhere.join("..3/peers.json"), &node.peers_file());
    follows(&watch, node, 2);
    put("..3", 3);
    follows(&watch, node, 3);
}

#[test]
fn a_directory_that_is_not_there_is_awaited() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let directory = node.peers_file().parent().unwrap().to_owned();
    node.apply().ok();
    fs::remove_dir_all(&directory).unwrap();
    let watch = Watch::spawn(node, None);
    let told = || watch.log().contains("No such file");
    assert!(eventually(SOON, told), "{}", watch.log());
    // What was applied last is kept true.
    watch.repairs("without a file", || batch(&node.host, "route flush proto 109"));
    // The kernel makes its own links' addresses for a second or two.
    let tentative = || node.host.command("ip", &["-6", "address", "show", "tentative"]).ok();
    assert!(eventually(SOON, || tentative().is_empty()), "{}", tentative());
    watch.comes_to_rest();
    fs::create_dir_all(&directory).unwrap();
    node.write_peers(&peers(2));
    follows(&watch, node, 2);
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir_all(&directory).unwrap();
    node.write_peers(&peers(3));
    follows(&watch, node, 3);
}

/// Passes that a watch makes, told by what it notes at the end of each, while there are so many
/// rounds of noise and at least for some time; and how long that was.
fn passes(
    node: &Node,
    rounds: usize,
    at_least: Duration,
    mut noise: impl FnMut(usize),
) -> (usize, Duration) {
    let stamp = node.host.scratch().path().join("root/run/manx/.fabric/109.json");
    let written = || fs::metadata(&stamp).map(|data| (data.mtime(), data.mtime_nsec())).ok();
    let (begin, over) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let count = scope.spawn(|| {
            let (mut last, mut count) = (written(), 0);
            while !over.load(Ordering::Relaxed) {
                let now = written();
                count += usize::from(now != last);
                last = now;
                std::thread::sleep(Duration::from_millis(1));
            }
            count
        });
        for round in 0.. {
            if round >= rounds && begin.elapsed() >= at_least {
                break;
            }
            noise(round);
        }
        over.store(true, Ordering::Relaxed);
        (count.join().unwrap(), begin.elapsed())
    })
}

/// As on a busy node, where routes of others come and go all the time.
#[test]
fn a_stream_of_events_is_no_stream_of_passes() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    watch.comes_to_rest();
    let mut rounds = 0;
    let (count, took) = passes(node, 60, Duration::from_secs(3), |round| {
        let host = round % 100 + 100;
        let metric = round % 250 + 1;
        batch(
            &node.host,
            &format!("route replace 203.0.113.{host} dev eth0 metric {metric} table 77"),
        );
        rounds = round;
    });
    println!("{count} passes in {took:?} with {rounds} changes");
    // At most ten in a second, and ten before it slows down.
    let most = 10.0 * took.as_secs_f64() + 10.0;
    assert!(count > 2 && count as f64 <= most, "{count} passes, {rounds} changes in {took:?}");
    // Meanwhile it has not forgotten what it is for.
    watch.comes_to_rest();
    watch.repairs("after the noise", || batch(&node.host, "route del 10.244.2.0/24"));
}
