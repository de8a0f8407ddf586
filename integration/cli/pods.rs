// SPDX-License-Identifier: Apache-2.0
//! Pods as the command line finds them: listed, entered, captured.

use std::{fs, process::Command, thread};

use serde_json::{Value, json};

use crate::Node;
use crate::harness::{DEADLINE, Pod, Stdin, eventually, run};

#[test]
fn pods_are_listed_with_what_the_kernel_has() {
    let node = Node::new();
    assert!(node.pods().is_empty());
    let (web, db) = (node.pod("web"), node.pod("db"));
    let pods = node.pods();
    assert_eq!(pods.len(), 2);
    let listed = &pods[1];
    assert_eq!(listed["podNamespace"], "default");
    assert_eq!(listed["podName"], "web");
    assert_eq!(listed["containerID"], web.id.as_str());
    assert_eq!(listed["ifname"], "eth0");
    assert_eq!(listed["network"], "net");
    assert_eq!(listed["state"], "up");
    let addresses: Vec<String> = web.netns.addresses("eth0");
    let plain = addresses.iter().map(|address| address.split('/').next().unwrap());
    assert_eq!(listed["addresses"], json!(plain.collect::<Vec<_>>()));
    let link = node.host.link(listed["hostLink"].as_str().unwrap()).unwrap();
    assert_eq!(listed["mtu"], link["mtu"]);

    let name = listed["hostLink"].as_str().unwrap();
    node.host.command("ip", &["link", "set", name, "down"]).ok();
    assert_eq!(node.pods()[1]["state"], "down");
    node.host.command("ip", &["link", "delete", name]).ok();
    let table = node.manx(&["pods"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0][0], "POD");
    assert_eq!((rows[1][0], rows[1][1], rows[1][7]), ("default/db", "net", "up"));
    assert_eq!((rows[2][0], rows[2][5], rows[2][7]), ("default/web", name, "missing"));
    assert!(db.id.starts_with(rows[1][2]) && rows[1][2].len() <= 12, "{table}");
    assert!(rows[1][8].ends_with('s') && listed["ageSeconds"].is_u64(), "{table}");
    node.plugin.del(&web).ok();
    node.plugin.del(&db).ok();
    assert!(node.pods().is_empty());
}

#[test]
fn exec_runs_in_the_pod_and_ends_as_the_command_does() {
    let node = Node::new();
    let web = node.pod("web");
    let address = web.netns.addresses("eth0")[0].clone();
    let address = address.split('/').next().unwrap();
    let ip = ["ip", "-o", "-4", "address", "show", "dev", "eth0"];
    for pod in ["default/web", &web.id, &web.id[..web.id.len() - 1], address] {
        let said = node.manx(&[&["exec", pod, "--"], &ip[..]].concat()).ok();
        assert!(said.contains(address), "{pod}: {said}");
    }
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 128 + 9), ("exit 0", 0)] {
        assert_eq!(node.manx(&["exec", "default/web", "sh", "-c", script]).status, status);
    }
    assert_eq!(node.manx(&["exec", "default/web", "no-such-command"]).status, 127);
    assert_eq!(node.manx(&["exec", "default/web", "/dev/null"]).status, 126);
    let input = Stdin::Bytes(b"through and through".to_vec());
    let said = node.with_stdin(&["exec", "default/web", "cat"], &input);
    assert_eq!(said.ok(), "through and through");
    let unknown = node.manx(&["exec", "default/nobody", "true"]);
    assert!(unknown.status == 1 && unknown.stderr.contains("manx pods"), "{unknown:?}");
    let near = node.manx(&["exec", "wbe", "true"]);
    assert!(near.status == 1 && near.stderr.contains("did you mean default/web?"), "{near:?}");

    let twins = ["twin-a", "twin-b"].map(|id| {
        let pod = Pod { id: format!("{id}{}", web.id), ..Pod::new("twin") };
        node.plugin.add(&pod).ok();
        pod
    });
    let ambiguous = node.manx(&["exec", "twin-", "true"]);
    assert_eq!(ambiguous.status, 2);
    for twin in &twins {
        assert!(ambiguous.stderr.contains(&twin.id), "{ambiguous:?}");
    }
}

#[test]
fn exec_finds_a_namespace_whose_path_is_gone() {
    let node = Node::new();
    let pod = node.pod("web");
    let address = pod.netns.addresses("eth0")[0].clone();
    let mut inside = pod.netns.enter(|| Command::new("sleep").arg("1000").spawn().unwrap());
    let id = pod.id.clone();
    // Now only the process holds the namespace: the path was one of our open file.
    drop(pod);
    let said = node.manx(&["exec", &id, "ip", "-o", "address", "show", "dev", "eth0"]);
    let _ = inside.kill();
    inside.wait().unwrap();
    assert!(said.ok().contains(&address));
    let gone = || node.manx(&["exec", &id, "true"]).status == 1;
    assert!(eventually(DEADLINE, gone));
}

/// Changes what the journal says of a pod.
fn renote(node: &Node, pod: &Pod, change: impl FnOnce(&mut Value)) {
    let path = node.host.scratch().dir("root/run/manx/net").join(format!("{}:eth0", pod.id));
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut entry);
    fs::write(&path, entry.to_string()).unwrap();
}

#[test]
fn exec_runs_in_no_other_pods_namespace() {
    let node = Node::new();
    let (web, db) = (node.pod("web"), node.pod("db"));
    let mut noted = Value::Null;
    renote(&node, &db, |entry| noted = entry.clone());
    // As it looks when the number of a dead namespace was given out again.
    renote(&node, &web, |entry| {
        entry["netns"] = noted["netns"].clone();
        entry["netnsIdentity"] = noted["netnsIdentity"].clone();
    });
    let said = node.manx(&["exec", "default/web", "echo", "ran"]);
    assert!(said.status == 1 && said.stdout.is_empty(), "{said:?}");
    assert!(said.stderr.contains("another pod's by now"), "{said:?}");
    assert_eq!(node.manx(&["exec", "default/db", "echo", "ran"]).ok(), "ran\n");

    node.host.command("ip", &["link", "delete", noted["hostLink"].as_str().unwrap()]).ok();
    let said = node.manx(&["exec", "default/db", "echo", "ran"]);
    assert!(said.status == 1 && said.stdout.is_empty(), "{said:?}");
    assert!(said.stderr.contains("host link") && said.stderr.contains("gone"), "{said:?}");
}

#[test]
fn a_link_of_ours_that_no_journal_knows_is_listed() {
    let node = Node::new();
    let web = node.pod("web");
    let link = node.pods()[0]["hostLink"].clone();
    fs::remove_dir_all(node.host.scratch().dir("root/run/manx")).unwrap();
    let pods = node.pods();
    assert_eq!(pods.len(), 1);
    assert_eq!((&pods[0]["state"], &pods[0]["hostLink"]), (&json!("unnoted"), &link));
    assert_eq!((&pods[0]["containerID"], &pods[0]["network"]), (&json!(web.id), &json!("net")));
    let said = node.manx(&["exec", &web.id, "true"]);
    assert!(said.status == 1 && said.stderr.contains("in no journal"), "{said:?}");
    node.plugin.del(&web).ok();
    assert!(node.pods().is_empty());
}

#[test]
fn capture_shows_what_a_pod_sends() {
    let node = Node::new();
    let pod = node.pod("web");
    // As root tcpdump insists on dropping groups, which a user namespace may not do.
    node.host.scratch().dir("tools");
    let wrapper = "#!/bin/sh\nPATH=${PATH#*:}\nexec strace -qq -o /dev/null \\\n\
        -e trace=setgroups -e inject=setgroups:retval=0 tcpdump -Z root \"$@\"\n";
    let wrapper = node.host.scratch().script("tools/tcpdump", wrapper);
    let tools = wrapper.parent().unwrap().display();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
    let capture = || {
        let filter = ["-c", "1", "icmp", "and", "src", "10.9.0.2"];
        let mut command = node.command(&[&["capture", "default/web"], &filter[..]].concat());
        command.env("PATH", &path);
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    let said = thread::scope(|scope| {
        let capture = scope.spawn(capture);
        while !capture.is_finished() {
            // Unanswered: 192.0.2.9 is nowhere, and the request is seen all the same.
            pod.netns.command("ping", &["-n", "-q", "-c", "1", "-W", "0.2", "192.0.2.9"]);
        }
        capture.join().unwrap()
    });
    assert!(said.clone().ok().contains("10.9.0.2 > 192.0.2.9: ICMP echo request"), "{said:?}");

    let mut without = node.command(&["capture", "default/web"]);
    without.env("PATH", "/nowhere");
    let said = node.host.enter(|| run(without, &Stdin::Null, DEADLINE));
    assert!(said.status == 1 && said.stderr.contains("package tcpdump"), "{said:?}");

    node.plugin.add(&pod.interface("net1")).ok();
    let ambiguous = node.manx(&["capture", "default/web"]);
    assert!(ambiguous.status == 2 && ambiguous.stderr.contains("net1"), "{ambiguous:?}");
    assert!(ambiguous.stderr.contains("--ifname"), "{ambiguous:?}");
    for arguments in [
        &["capture", "--ifname", "net1", "default/web", "--version"][..],
        &["capture", "default/web", "--ifname", "net1", "--version"],
        &["capture", "default/web", "--ifname=net1", "--version"],
    ] {
        let chosen = node.manx(arguments);
        assert_eq!(chosen.status, 0, "{chosen:?}");
    }
    let none = node.manx(&["capture", "--ifname", "net9", "default/web"]);
    assert!(none.status == 1 && none.stderr.contains("eth0, net1"), "{none:?}");
    assert_eq!(node.manx(&["capture", "default/web", "--ifname"]).status, 2);
}
