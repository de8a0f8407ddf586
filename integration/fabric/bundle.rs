// SPDX-License-Identifier: Apache-2.0
//! Bundles: that they say elsewhere what is seen here, and that no secret is in one.

use std::fs;

use serde_json::{Value, json};

use crate::doctor::besides_load;
use crate::harness::{Finished, Pod, plugin_dir};
use crate::pages::Scene;

/// Runs it on a node until nothing is said of the load of the machine.
fn ask(scene: &Scene, line: &str) -> Finished {
    besides_load(|| scene.shell(scene.a(), line))
}

#[test]
fn every_command_says_by_a_bundle_what_it_says_of_its_node() {
    let scene = Scene::new();
    scene.breaks(
        scene.a(),
        "ip route del 10.244.2.0/24; ip neigh flush dev vxlan.calico nud permanent",
    );
    let all = [
        "doctor",
        "doctor --json",
        "doctor --only route-missing",
        "status",
        "status --json",
        "plan",
        "plan --json",
        "peers",
        "explain default/web 10.244.2.2",
        "explain --json default/web 192.0.2.12:80",
        "tune",
    ];
    let here = all.map(|command| ask(&scene, &format!("manx {command}")));
    let write = ask(
        &scene,
        "manx doctor >&2; manx bundle a.gz && manx bundle --plain a.json && gunzip -t a.gz",
    );
    assert_eq!(write.status, 0, "{write:?}");
    for file in ["a.gz", "a.json"] {
        fs::copy(
            scene.a().host.scratch().path().join(file),
            scene.b().host.scratch().path().join(file),
        )
        .unwrap();
        for (command, here) in all.iter().zip(&here) {
            let there = scene.shell(scene.b(), &format!("manx {command} --bundle {file}"));
            assert_eq!(
                (here.status, &here.stdout),
                (there.status, &there.stdout),
                "{command}: {there:?}"
            );
        }
    }
    assert!(here[0].stdout.starts_with("error: "), "{}", here[0].stdout);
    // By any door.
    let piped =
        scene.shell(scene.a(), "manx bundle - | manx doctor --only route-missing --bundle -");
    assert!(piped.status == 3 && piped.stdout.contains("10.244.2.0/24"), "{piped:?}");
}

/// A key as openssl writes one, in the middle of which is something to look for.
const KEY: &str =
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI\nS3cr3tKey\n-----END EC PRIVATE KEY-----";

#[test]
fn what_is_secret_is_in_no_bundle_wherever_it_was() {
    let scene = Scene::new();
    let node = scene.a();
    let scratch = node.host.scratch();
    let root = scratch.path().join("root");
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // What runtimes and IPAM plugins are told.
    let mut ipam = node.plugin.conf["ipam"].clone();
    ipam["token"] = "S3cr3tOfIpam".into();
    let told = node.with("ipam", ipam);
    let mut pod = Pod::new("told").kubernetes("default", "told");
    pod.args = pod.args.map(|args| args + ";PASSWORD=S3cr3tOfArgs");
    told.plugin.add(&pod).ok();
    // Configurations, of ours and of others.
    let mut conf = told.plugin.conf.clone();
    conf["logFile"] = "/var/log/manx.log".into();
    conf["k8s_auth_token"] = "S3cr3tOfConf".into();
    conf["env"] = json!({"PLAIN": "S3cr3tOfEnvironment"});
    scene.configure(node, &conf);
    let other = json!({"cniVersion": "1.0.0", "name": "here-other", "plugins": [{
        "type": "leaky", "etcd_endpoints": "https://root:S3cr3tOfUrl@10.0.0.1:2379", "etcd_key": KEY,
        "args": ["--password", "S3cr3tOfFlag"], "note": format!("Authorization: Bearer S3cr3tBearer\n{KEY}"),
    }]});
    put("etc/cni/net.d/20-other.conflist", &other.to_string());
    put("etc/cni/net.d/30-broken.conf", "{\"here-broken\": 1, \"password\": \"S3cr3tOfBroken\", ");
    // A plugin of our list that says too much.
    let path = root.join("etc/cni/net.d/10-manx.conflist");
    let mut list: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    list["plugins"].as_array_mut().unwrap().push(json!({"type": "leaky"}));
    fs::write(path, list.to_string()).unwrap();
    let leaky = "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"code\":7,\"msg\":\"here-plugin password=S3cr3tOfPlugin\"}'; exit 1\n";
    scratch.script("programs/leaky", leaky);
    // The list of nodes.
    let peers = scratch.path().join("root/etc/manx/peers.json");
    let mut list: Value = serde_json::from_str(&fs::read_to_string(&peers).unwrap()).unwrap();
    list["here-peers"] = 1.into();
    list["clientSecret"] = "S3cr3tOfPeers".into();
    fs::write(&peers, list.to_string()).unwrap();
    // Parameters of the kernel.
    put(
        "etc/sysctl.d/90-manx.conf",
        "# here-sysctl\nnet.ipv4.tcp_fastopen_key = S3cr3t-Of-1\nnet.ipv6.conf.all.stable_secret=S3cr3t::2\n",
    );
    put("etc/sysctl.d/99-other.conf", "net.ipv6.conf.all.stable_secret=S3cr3t::3\n");
    // Logs: a file, the agent's, and the journal.
    let log = format!(
        "{}here-log GET https://u:S3cr3tOfLog@h/?access_token=S3cr3tQuery {KEY}\n\
         x eyJhbGciOiJub25lIn0.S3cr3tPayload.S3cr3tSignature y {{\"token\": \"S3cr3tOfJson\"}}\n",
        "a line of which nothing is left\n".repeat(10_000)
    );
    put("var/log/manx.log", &log);
    let of_agent = "var/log/pods/manx-system_manx-agent-x_1/agent/0.log";
    put(of_agent, "here-agent stderr F Authorization: Basic S3cr3tOfAgent==\n");
    put("var/log/pods/other_pod_1/x/0.log", "S3cr3tOfPod");
    std::os::unix::fs::symlink(
        "/etc/hostname",
        root.join("var/log/pods/manx-system_manx-agent-x_1/agent/1.log"),
    )
    .unwrap();
    let journalctl = "#!/bin/sh\ncase \"$*\" in *--lines*manx-watch*) echo here-journal CNI_ARGS=S3cr3tOfUnit;;\n\
        *) echo 'here-kubelet cni apiKey=S3cr3tOfKubelet'; echo S3cr3tOfElsewhere;; esac\n";
    scratch.script("programs/journalctl", journalctl);
    let written = scene.shell(node, "S3CRET=S3cr3tOfProcess manx bundle a.gz && gunzip -c a.gz");
    assert_eq!(written.status, 0, "{}", written.stderr);
    let (said, text) = written.stdout.split_once('\n').unwrap();
    assert_eq!(said, "a.gz: written; manx doctor --bundle reads it");
    for here in [
        "here-other",
        "here-broken",
        "here-plugin",
        "here-peers",
        "here-sysctl",
        "here-log",
        "here-agent",
        "here-journal",
        "here-kubelet",
        "default/told",
        "(redacted)",
    ] {
        let parts: Vec<&str> = here.split('/').collect();
        assert!(parts.iter().all(|part| text.contains(part)), "{here}: {text}");
    }
    let found: Vec<&str> =
        text.match_indices("3cr3t").map(|(at, _)| &text[at - 40..at + 20]).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(!text.contains("PRIVATE KEY") && !text.contains("MHcCAQ"), "{text}");
    // It is all there, and in its place.
    let document: Value = serde_json::from_str(text).unwrap();
    let support = &document["support"];
    let of = |kind: &str, end: &str| {
        let all = support[kind].as_array().unwrap().iter();
        let one = all.clone().find(|text| text["source"].as_str().unwrap().ends_with(end));
        one.unwrap_or_else(|| panic!("{end}: {support:#}"))["text"].as_str().unwrap().to_owned()
    };
    let conf: Value = serde_json::from_str(&of("texts", "10-manx.conflist")).unwrap();
    assert_eq!(
        (&conf["name"], &conf["plugins"][0]["k8s_auth_token"]),
        (&json!("net"), &json!("(redacted)"))
    );
    for (end, words) in [
        ("20-other.conflist", "https://(redacted)@10.0.0.1:2379"),
        ("30-broken.conf", "{\"here-broken\": 1, \"password\": \"(redacted)\", "),
        ("/etc/manx/peers.json", "192.0.2.12"),
        ("90-manx.conf", "net.ipv6.conf.all.stable_secret=(redacted)\n"),
    ] {
        assert!(of("texts", end).contains(words), "{end}");
    }
    let log = of("logs", "/var/log/manx.log");
    assert!(log.len() < 128 << 10 && log.starts_with("a line of which"), "{} bytes", log.len());
    assert!(
        of("logs", "kubelet").lines().eq(["here-kubelet cni apiKey=(redacted)"]),
        "{support:#}"
    );
    assert_eq!(support["versions"]["manx"], env!("CARGO_PKG_VERSION"));
    assert!(support["versions"]["kernel"].as_str().unwrap().contains('.'));
    // It is read, and what it says of the node is what is so.
    let told = scene.shell(node, "manx doctor --bundle a.gz");
    assert!(told.status == 3 && told.stdout.contains("leaky"), "{told:?}");
    assert!(plugin_dir().exists());
    // What cannot be had is told.
    scratch.script("programs/journalctl", "#!/bin/sh\necho No journal >&2; exit 1\n");
    fs::remove_file(root.join(of_agent)).unwrap();
    let pipe =
        scene.shell(node, &format!("mkfifo {}/{of_agent}; manx bundle a.gz", root.display()));
    for words in [
        "0.log: it is a pipe, not a regular file",
        "manx-watch.service: journalctl does not answer",
    ] {
        assert!(pipe.status == 0 && pipe.stderr.contains(words), "{words}: {pipe:?}");
    }
}
