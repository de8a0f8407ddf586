// SPDX-License-Identifier: Apache-2.0
//! BIRD with what `manx export bird` prints.

use std::process::Command;
use std::thread;

use crate::cluster::Node;
use crate::daemon::{Daemon, find};
use crate::harness::{Finished, eventually};
use crate::mesh::{CONVERGED, assert_mesh, converge, export, plant, prepare};

/// Starts BIRD on a node; `recover` after a crash.
fn start(node: &Node, recover: bool) -> Daemon {
    let mut bird = Command::new("bird");
    let scratch = node.host.scratch().path();
    bird.args(["-f", "-c"]).arg(export(node, "bird")).arg("-s").arg(scratch.join("bird.ctl"));
    if recover {
        bird.arg("-R");
    }
    Daemon::start(node, "bird", bird)
}

fn birdcl(node: &Node, command: &str) -> Finished {
    let socket = node.host.scratch().path().join("bird.ctl");
    let mut args = vec!["-s", socket.to_str().expect("ASCII")];
    args.extend(command.split(' '));
    node.host.command("birdcl", &args)
}

#[test]
fn a_mesh_of_birds_carries_pods_and_outlives_one() {
    let test = "a_mesh_of_birds_carries_pods_and_outlives_one";
    if find("bird").is_none() || find("birdcl").is_none() {
        return eprintln!("SKIP {test}: no bird in PATH (hack/setup provides it)");
    }
    let cluster = prepare();
    let [a, b, _] = &cluster.nodes;
    plant(b);
    let mut birds = cluster.nodes.each_ref().map(|node| start(node, false));
    converge(&cluster);
    assert_mesh(&cluster);
    let told = birdcl(b, "show route export mesh4_0").ok();
    assert!(told.contains("10.244.2.0/24") && !told.contains("10.244.9"), "{told}");

    // BIRD's routes: RTPROT_BIRD is 12.
    let routes = || cluster.nodes.each_ref().map(|node| node.routes(&["proto", "12"]));
    let before = routes();
    assert!(before.iter().all(|of_node| of_node.len() == 2), "{before:#?}");
    let (from, to) = (a.pod(), b.pod());
    let ping = ["-n", "-q", "-i", "0.1", "-c", "40", &to.address];
    let traffic = thread::scope(|scope| {
        let pinging = scope.spawn(|| from.pod.netns.command("ping", &ping));
        birds[1].kill();
        // The others have noticed, and keep what it told them.
        let waits = || birdcl(a, "show protocols mesh4_0").ok();
        let noticed = eventually(CONVERGED, || !waits().contains("Established"));
        assert!(noticed, "{}", waits());
        birds[1] = start(b, true);
        let back = eventually(CONVERGED, || waits().contains("Established"));
        assert!(back, "{}\n{}", waits(), birds[1].said());
        pinging.join().expect("ping ends")
    });
    assert!(traffic.stdout.contains(" 0% packet loss"), "{traffic:?}");
    assert_eq!(routes(), before);
}

/// The configuration for nodes behind a tunnel is one that BIRD understands; it
/// cannot be carried out where the kernel lacks the tunnel.
#[test]
fn bird_reads_what_is_printed_for_ipip() {
    if find("bird").is_none() {
        return eprintln!("SKIP bird_reads_what_is_printed_for_ipip: no bird in PATH (hack/setup)");
    }
    let cluster = crate::cluster::Cluster::new(&serde_json::json!({"mode": "ipip"}));
    let node = &cluster.nodes[0];
    let text = node.manx(&["export", "bird"]).ok();
    assert!(text.contains("ifname = \"tunl0\""), "{text}");
    let file = node.host.scratch().file("bird.conf", text);
    node.host.command("bird", &["-p", "-c", file.to_str().expect("ASCII")]).ok();
}
