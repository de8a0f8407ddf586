// SPDX-License-Identifier: Apache-2.0
//! GC: what a runtime no longer lists, and nothing else.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::harness::{Call, DEADLINE, Host, Plugin, Pod, eventually};
use crate::node::{assert_clean, fixed, host_local, journal, leases, manx, remains, script};

/// A node with a network of host-local's, and two pods on it.
fn two_pods() -> (Plugin, [Pod; 2]) {
    let host = Host::new();
    host.command("ip", &["address", "add", "192.0.2.11/32", "dev", "lo"]).ok();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24"]));
    let pods = [Pod::new("a"), Pod::new("b")];
    for pod in &pods {
        plugin.add(pod).ok();
    }
    (plugin, pods)
}

#[test]
fn gc_without_a_list_removes_nothing() {
    let (plugin, _pods) = two_pods();
    let before = remains(plugin.host());
    plugin.call("GC").run().ok();
    assert_eq!(remains(plugin.host()), before);
    assert_eq!(leases(plugin.host()).len(), 2, "host-local was not asked either");
}

#[test]
fn gc_with_an_empty_list_removes_all() {
    for list in [json!([]), Value::Null] {
        let (plugin, pods) = two_pods();
        plugin.call("GC").key("cni.dev/valid-attachments", list).run().ok();
        assert_clean(plugin.host());
        assert!(pods.iter().all(|pod| pod.netns.links().is_empty()));
    }
}

#[test]
fn gc_keeps_what_is_listed_by_either_name_of_the_list() {
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let (plugin, [kept, gone]) = two_pods();
        let list = json!([{"containerID": kept.id, "ifname": "eth0"},
                          {"containerID": gone.id, "ifname": "eth1"}]);
        plugin.call("GC").key(key, list).run().ok();
        assert_eq!(leases(plugin.host()), ["10.1.0.2"], "{key}");
        assert!(plugin.host().pings("10.1.0.2") && gone.netns.links().is_empty(), "{key}");
        assert_eq!(journal(plugin.host()).len(), 1, "{key}");
        plugin.del(&gone).ok();
        plugin.del(&kept).ok();
        assert_clean(plugin.host());
    }
}

#[test]
fn gc_with_a_list_that_cannot_be_read_removes_nothing() {
    for list in [json!("all"), json!([1]), json!([{"containerID": "x"}]), json!({"a": 1})] {
        let (plugin, _pods) = two_pods();
        let before = remains(plugin.host());
        let reply = plugin.call("GC").key("cni.dev/valid-attachments", list.clone()).run();
        assert_eq!(reply.code(), Some(7), "{list}: {reply:?}");
        assert_eq!(remains(plugin.host()), before, "{list}");
    }
}

#[test]
fn gc_of_one_network_leaves_the_other() {
    let (plugin, pods) = two_pods();
    let host = plugin.host();
    let other = manx(host, &fixed(&["10.7.0.2/24"])).with("name", "other".into());
    let pod = Pod::new("c");
    let result = other.add(&pod).ok();
    plugin.gc(&[]).ok();
    assert!(pods.iter().all(|pod| pod.netns.links().is_empty()));
    assert!(host.pings("10.7.0.2"));
    other.check(&pod, &result).ok();
    other.gc(&[]).ok();
    assert_clean(host);
}

#[test]
fn gc_finds_what_lost_its_journal_or_its_link() {
    let (plugin, [_one, other]) = two_pods();
    let host = plugin.host();
    fs::remove_file(&journal(host)[0]).unwrap();
    let link = host.links().into_iter().find(|name| name.starts_with("calib")).unwrap();
    host.command("ip", &["link", "del", &link]).ok();
    plugin.gc(&[&other]).ok();
    assert_eq!(leases(host), ["10.1.0.3"], "the address is released by the link's mark");
    plugin.gc(&[]).ok();
    assert_clean(host);
}

#[test]
fn gc_finds_what_lost_its_namespace() {
    let (plugin, pods) = two_pods();
    drop(pods);
    plugin.gc(&[]).ok();
    assert_clean(plugin.host());
}

/// A link without a mark is an ADD that was killed in the middle: under the
/// lock none can be in flight.
#[test]
fn gc_removes_a_link_that_was_never_marked() {
    for forget_the_journal in [false, true] {
        let (plugin, [_one, other]) = two_pods();
        let host = plugin.host();
        for link in host.links().iter().filter(|name| name.starts_with("calia")) {
            host.command("ip", &["link", "set", link, "alias", ""]).ok();
        }
        if forget_the_journal {
            fs::remove_file(&journal(host)[0]).unwrap();
        }
        plugin.gc(&[&other]).ok();
        assert_eq!(leases(host), ["10.1.0.3"]);
        let links: Vec<String> =
            host.links().into_iter().filter(|name| name.starts_with("cali")).collect();
        assert_eq!(links.len(), 1, "journal forgotten: {forget_the_journal}: {links:?}");
        plugin.gc(&[]).ok();
        assert_clean(host);
    }
}

/// host-local behind a plugin that, after an ADD got its address, waits until
/// somebody opens the pipe.
fn slow_host_local(host: &Host) -> Plugin {
    let pipe = host.scratch().path().join("pipe").display().to_string();
    host.command("mkfifo", &[&pipe]).ok();
    let reference = crate::harness::plugin_dir().join("host-local").display().to_string();
    script(
        host,
        "slow",
        &format!(
            r#"said=$({reference}) || {{ echo "$said"; exit 1; }}
                    [ $CNI_COMMAND != ADD ] || read -r line <{pipe}
                    echo "$said""#
        ),
    );
    let mut ipam = host_local(host, &["10.1.0.0/24"]);
    ipam["type"] = "slow".into();
    manx(host, &ipam)
}

/// Starts a call that a test waits for itself.
fn start(host: &Host, call: &Call) -> Child {
    let mut command = call.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = host.enter(|| command.spawn().unwrap());
    child.stdin.take().unwrap().write_all(call.conf().to_string().as_bytes()).unwrap();
    child
}

/// Whether the process is at the network's lock, which another one has.
fn waits_for_a_lock(child: &Child) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
    let mut paths = files.filter_map(|file| fs::read_link(file.path()).ok());
    paths.any(|path| path.ends_with("run/manx/net/.lock"))
}

/// Runs a GC with this list while an ADD has its address and no link yet.
fn gc_during_an_add(keep: bool) -> (Plugin, Pod) {
    let host = Host::new();
    host.command("ip", &["address", "add", "192.0.2.11/32", "dev", "lo"]).ok();
    let (plugin, pod) = (slow_host_local(&host), Pod::new("a"));
    let add = start(&host, &plugin.call("ADD").pod(&pod));
    assert!(eventually(DEADLINE, || leases(&host) == ["10.1.0.2"]), "the ADD has its address");
    let list = json!([{"containerID": pod.id, "ifname": "eth0"}]);
    let list = if keep { list } else { json!([]) };
    let gc = start(&host, &plugin.call("GC").key("cni.dev/valid-attachments", list));
    assert!(eventually(DEADLINE, || waits_for_a_lock(&gc)), "the GC waits for the ADD");
    assert_eq!(leases(&host), ["10.1.0.2"]);
    let pipe = host.scratch().path().join("pipe");
    writeln!(OpenOptions::new().write(true).open(pipe).unwrap(), "go on").unwrap();
    for child in [add, gc] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    (plugin, pod)
}

#[test]
fn gc_waits_for_an_add_and_keeps_its_address() {
    let (plugin, pod) = gc_during_an_add(true);
    let host = plugin.host();
    assert_eq!(leases(host), ["10.1.0.2"]);
    assert!(host.pings("10.1.0.2"));
    plugin.del(&pod).ok();
    assert_clean(host);
}

#[test]
fn gc_takes_an_add_that_is_not_listed_whole_or_not_at_all() {
    let (plugin, pod) = gc_during_an_add(false);
    assert_clean(plugin.host());
    assert_eq!(pod.netns.links(), [""; 0]);
}

fn host_link(host: &Host, id: &str) -> String {
    let prefix = format!("cali{}", &id[..id.len().min(11)]);
    host.links().into_iter().find(|name| name.starts_with(&prefix)).expect("a host link")
}

/// Any program may write over what marks a link. Its pod lives on, and so does its
/// address, whether or not there is a list.
#[test]
fn gc_keeps_a_live_pod_whatever_its_link_is_called() {
    for changes in [
        &["alias customer-7"][..],
        &["group 0"],
        &["group 77 alias x"],
        &["group 0 alias ''"],
        &["down", "name other0", "up"],
        &["alias ''", "group 0", "down", "name other0", "up"],
    ] {
        let (plugin, [pod, _other]) = two_pods();
        let host = plugin.host();
        let link = host_link(host, &pod.id);
        for change in changes {
            let words: Vec<&str> =
                change.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
            let name = if host.link("other0").is_some() { "other0" } else { &link };
            host.command("ip", &[&["link", "set", "dev", name][..], &words].concat()).ok();
        }
        let manx = |args: &[&str]| {
            let mut command = std::process::Command::new(crate::node::MANX);
            let root = host.scratch().dir("root");
            command.args(args).arg("--root").arg(root);
            let output = host.enter(|| command.output().unwrap());
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(manx(&["gc"]).lines().last(), Some("removed: 0"), "{changes:?}");
        plugin.gc(&[&pod]).ok();
        assert_eq!(leases(host), ["10.1.0.2"], "{changes:?}");
        assert!(!pod.netns.links().is_empty(), "{changes:?}");
        // What the runtime does not list goes, by whichever name.
        plugin.gc(&[]).ok();
        assert_clean(host);
        assert!(pod.netns.links().is_empty(), "{changes:?}");
    }
}

/// The pod's namespace tells as well, where the route was flushed besides.
#[test]
fn gc_keeps_a_live_pod_that_only_its_namespace_tells_of() {
    let (plugin, [pod, _other]) = two_pods();
    let host = plugin.host();
    let link = host_link(host, &pod.id);
    for change in [&["alias", ""][..], &["group", "0"], &["down"], &["name", "other0"], &["up"]] {
        let name = if host.link("other0").is_some() { "other0" } else { &link };
        host.command("ip", &[&["link", "set", "dev", name][..], change].concat()).ok();
    }
    assert_eq!(host.routes("-4").iter().filter(|route| route["dst"] == "10.1.0.2").count(), 0);
    plugin.gc(&[&pod]).ok();
    assert_eq!(leases(host), ["10.1.0.2"]);
    assert!(host.link("other0").is_some());
}

/// A configuration whose `dataDir` was changed has leases in both stores.
#[test]
fn gc_looks_into_the_stores_of_all_attachments() {
    let (plugin, [old, _other]) = two_pods();
    let host = plugin.host();
    let mut ipam = plugin.conf["ipam"].clone();
    ipam["dataDir"] = host.scratch().dir("leases/second").display().to_string().into();
    ipam["ranges"] = json!([[{"subnet": "10.2.0.0/24"}]]);
    let moved = plugin.clone().with("ipam", ipam);
    let new = Pod::new("c");
    moved.add(&new).ok();
    let stray = |store: &str, address: &str| {
        fs::write(host.scratch().path().join(store).join(address), "nobody\r\neth0").unwrap();
    };
    stray("leases/net", "10.1.0.99");
    stray("leases/second/net", "10.2.0.99");
    moved.gc(&[&old, &new]).ok();
    assert_eq!(leases(host), ["10.1.0.2", "10.2.0.2"]);
}

/// One IPAM plugin hangs: other pods start all the same.
#[test]
fn an_add_does_not_wait_for_the_plugin_that_a_gc_asks() {
    let host = Host::new();
    host.command("ip", &["address", "add", "192.0.2.11/32", "dev", "lo"]).ok();
    let pipe = host.scratch().path().join("pipe").display().to_string();
    host.command("mkfifo", &[&pipe]).ok();
    script(
        &host,
        "hanging",
        &format!(
            "cat >/dev/null
             case $CNI_COMMAND$CNI_CONTAINERID in
               ADDa*) echo '{{\"ips\": [{{\"address\": \"10.1.0.4/24\"}}]}}';;
               ADD*) echo '{{\"ips\": [{{\"address\": \"10.1.0.5/24\"}}]}}';;
               DEL*) echo asked >{pipe}; read -r line <{pipe};;
             esac"
        ),
    );
    let plugin = manx(&host, &json!({"type": "hanging"}));
    plugin.add(&Pod::new("a")).ok();
    let gc = start(&host, &plugin.call("GC").key("cni.dev/valid-attachments", json!([])));
    let mut said = String::new();
    let opened = fs::File::open(&pipe).unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(opened), &mut said).unwrap();
    let pod = Pod::new("b");
    let result = plugin.add(&pod).ok();
    writeln!(OpenOptions::new().write(true).open(&pipe).unwrap(), "go on").unwrap();
    assert!(gc.wait_with_output().unwrap().status.success());
    plugin.check(&pod, &result).ok();
    assert_eq!(journal(&host).len(), 1);
}

/// A file of the journal that nobody can read is no attachment that is not there.
#[test]
fn gc_collects_what_is_noted_in_a_file_that_cannot_be_read() {
    let (plugin, [kept, gone]) = two_pods();
    let directory = plugin.host().scratch().path().join("root/run/manx/net");
    let spoil = |pod: &Pod| fs::write(directory.join(format!("{}:eth0", pod.id)), "{").unwrap();
    spoil(&kept);
    spoil(&gone);
    let reply = plugin.gc(&[&kept]);
    assert!(reply.stderr.contains("removed"), "{reply:?}");
    reply.ok();
    let left = journal(plugin.host());
    assert!(left.len() == 1 && left[0].to_string_lossy().contains(&kept.id), "{left:?}");
    assert_eq!(leases(plugin.host()), ["10.1.0.2"]);
    assert!(plugin.host().pings("10.1.0.2") && gone.netns.links().is_empty());
    // One that is listed goes with its DEL.
    plugin.del(&kept).ok();
    assert_clean(plugin.host());
}
