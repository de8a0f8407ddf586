// SPDX-License-Identifier: Apache-2.0
//! IPAM plugins of others: the reference's and those that somebody wrote in an
//! afternoon.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, Plugin, Pod, eventually};
use crate::node::{address, assert_clean, fixed, host_local, leases, manx, script, strace};

#[test]
fn host_local_gives_two_families_and_gets_both_back() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24", "fd00:1::/64"]));
    let pod = Pod::new("a");
    let result = plugin.add(&pod).ok();
    let ips: Vec<&str> =
        (0..2).map(|index| result["ips"][index]["address"].as_str().unwrap()).collect();
    assert_eq!(ips, ["10.1.0.2/32", "fd00:1::2/128"]);
    assert_eq!(leases(&host), ["10.1.0.2", "fd00:1::2"]);
    let lease = fs::read_to_string(host.scratch().path().join("leases/net/10.1.0.2")).unwrap();
    assert_eq!(lease.split_whitespace().collect::<Vec<_>>(), [pod.id.as_str(), "eth0"]);
    plugin.check(&pod, &result).ok();
    assert!(host.pings("10.1.0.2") && host.pings("fd00:1::2"));
    plugin.del(&pod).ok();
    assert_clean(&host);
}

#[test]
fn host_local_without_an_address_left_fails_the_add_cleanly() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/30"]));
    let (one, other) = (Pod::new("a"), Pod::new("b"));
    plugin.add(&one).ok();
    let error = plugin.add(&other).error();
    assert!(error["msg"].as_str().unwrap().starts_with("host-local: "), "{error}");
    assert_eq!(leases(&host), ["10.1.0.2"]);
    plugin.del(&other).ok();
    assert!(host.pings("10.1.0.2"), "the other's DEL releases nothing of this one");
    plugin.del(&one).ok();
    assert_clean(&host);
}

#[test]
fn check_asks_host_local_too() {
    let host = Host::new();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24"]));
    let pod = Pod::new("a");
    let result = plugin.add(&pod).ok();
    fs::remove_file(host.scratch().path().join("leases/net/10.1.0.2")).unwrap();
    let error = plugin.check(&pod, &result).error();
    assert!(error["msg"].as_str().unwrap().starts_with("host-local: "), "{error}");
    plugin.del(&pod).ok();
    assert_clean(&host);
}

#[test]
fn static_addresses_routes_and_dns_arrive() {
    let host = Host::new();
    let mut ipam = fixed(&["10.1.0.7/24", "fd00:1::7/64"]);
    ipam["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    ipam["dns"] = json!({"nameservers": ["192.0.2.53"], "search": ["example.org"]});
    let plugin = manx(&host, &ipam);
    let pod = Pod::new("a");
    let result = plugin.add(&pod).ok();
    assert_eq!(pod.netns.addresses("eth0"), ["10.1.0.7/32", "fd00:1::7/128"]);
    assert_eq!(result["dns"], ipam["dns"]);
    let routes = pod.netns.routes("-4");
    assert!(routes.iter().any(|route| route["dst"] == "192.0.2.0/24"), "{routes:?}");
    plugin.check(&pod, &result).ok();
    plugin.del(&pod).ok();
    assert_clean(&host);
}

/// A plugin that notes each call's environment and input, and answers an ADD.
fn recorder(host: &Host) -> Plugin {
    let notes = host.scratch().dir("notes").display().to_string();
    script(
        host,
        "recorder",
        &format!(
            r#"env | sort >"{notes}/$CNI_COMMAND.env"; cat >"{notes}/$CNI_COMMAND.stdin"
               echo "a word about $CNI_COMMAND" >&2
               [ $CNI_COMMAND != ADD ] ||
                   echo '{{"cniVersion":"1.1.0","ips":[{{"address":"10.1.0.5/24"}}]}}'"#
        ),
    );
    manx(host, &json!({"type": "recorder", "token": 1, "nested": {"z": [1, {"a": null}]}}))
}

fn note(host: &Host, name: &str) -> String {
    fs::read_to_string(host.scratch().path().join("notes").join(name)).unwrap()
}

#[test]
fn a_delegate_gets_our_whole_input_and_environment() {
    let host = Host::new();
    let plugin = recorder(&host).with("unheardOf", json!([1.50, "x"])).env("SOMETHING", "else");
    let pod = Pod::new("a").kubernetes("shop", "web-0");
    let text = format!(" {} \n", serde_json::to_string_pretty(&plugin.conf).unwrap());
    let reply = plugin.call("ADD").pod(&pod).text(&text).run();
    let stderr = reply.stderr.clone();
    let result = reply.ok();
    assert_eq!(note(&host, "ADD.stdin"), text, "byte by byte");
    let environment = note(&host, "ADD.env");
    for line in [
        "CNI_COMMAND=ADD".into(),
        format!("CNI_CONTAINERID={}", pod.id),
        format!("CNI_NETNS={}", pod.netns.path().display()),
        "CNI_IFNAME=eth0".into(),
        format!("CNI_ARGS={}", pod.args.clone().unwrap()),
        "SOMETHING=else".into(),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} not in {environment}");
    }
    assert!(environment.contains("CNI_PATH="));
    assert!(stderr.contains("a word about ADD\n"), "{stderr}");
    plugin.check(&pod, &result).ok();
    let told: Value = serde_json::from_str(&note(&host, "CHECK.stdin")).unwrap();
    assert_eq!(told["prevResult"], result);
    plugin.status().ok();
    plugin.gc(&[&pod]).ok();
    let told: Value = serde_json::from_str(&note(&host, "GC.stdin")).unwrap();
    assert_eq!(told["cni.dev/valid-attachments"][0]["containerID"], pod.id.as_str());
    plugin.del(&pod).ok();
    assert!(note(&host, "DEL.env").contains("CNI_COMMAND=DEL"));
    assert_clean(&host);
}

/// A plugin that fails the verb `failing` with this on stdout, and notes every
/// verb.
fn failing(host: &Host, failing: &str, answer: &str) -> Plugin {
    let notes = host.scratch().dir("notes").display().to_string();
    script(
        host,
        "failing",
        &format!(
            r#"cat >/dev/null; echo "$CNI_COMMAND" >>"{notes}/calls"
               if [ "$CNI_COMMAND" = {failing} ]; then
                   echo 'the reason, at length' >&2; echo '{answer}'; exit 1
               fi
               [ $CNI_COMMAND != ADD ] || echo '{{"ips":[{{"version":"4","address":"10.1.0.5/24"}}]}}'"#
        ),
    );
    manx(host, &json!({"type": "failing"})).with("cniVersion", "1.1.0".into())
}

#[test]
fn a_delegates_error_keeps_its_code_and_is_followed_by_a_del() {
    let host = Host::new();
    let answer = r#"{"cniVersion":"1.1.0","code":117,"msg":"no more","details":"buy some"}"#;
    let plugin = failing(&host, "ADD", answer);
    let pod = Pod::new("a");
    let reply = plugin.add(&pod);
    assert!(reply.stderr.contains("the reason, at length\n"), "{}", reply.stderr);
    let error = reply.error();
    assert_eq!(error["code"], 117);
    assert_eq!(error["msg"], "failing: no more");
    assert!(error["details"].as_str().unwrap().contains("buy some"), "{error}");
    assert_eq!(note(&host, "calls"), "ADD\nDEL\n");
    assert_eq!(pod.netns.links(), [""; 0]);
    assert_clean(&host);
}

#[test]
fn a_delegate_that_fails_a_del_keeps_nothing_but_the_memory() {
    let host = Host::new();
    let plugin = failing(&host, "DEL", r#"{"code":11,"msg":"busy"}"#);
    let pod = Pod::new("a");
    plugin.add(&pod).ok();
    let error = plugin.del(&pod).error();
    assert_eq!(error["code"], 11, "{error}");
    assert!(!host.links().iter().any(|name| name.starts_with("cali")), "the link went before");
    assert_eq!(crate::node::journal(&host).len(), 1, "a later DEL or GC will know");
}

#[test]
fn a_delegate_dies_with_us() {
    let host = Host::new();
    let note = host.scratch().dir("notes").join("pid");
    let noted = note.display();
    script(
        &host,
        "hanging",
        &format!("echo $$ >{noted}.new && mv {noted}.new {noted}\nsleep 1000"),
    );
    let plugin = manx(&host, &json!({"type": "hanging"}));
    let pod = Pod::new("a");
    let call = plugin.call("ADD").pod(&pod);
    let mut command = call.command();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ours = host.enter(|| command.spawn().unwrap());
    ours.stdin.take().unwrap().write_all(call.conf().to_string().as_bytes()).unwrap();
    assert!(eventually(DEADLINE, || note.exists()), "the delegate never ran");
    let theirs = fs::read_to_string(&note).unwrap().trim().to_owned();
    assert!(is_running(&theirs));
    kill(Pid::from_raw(ours.id().cast_signed()), Signal::SIGKILL).unwrap();
    ours.wait().unwrap();
    assert!(eventually(DEADLINE, || !is_running(&theirs)), "process {theirs} outlives us");
    assert_clean(&host);
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"]));
    assert_eq!(address(&plugin.add(&pod).ok()), "10.1.0.2", "the retry finds a clean node");
}

/// That each verb with this `ipam.type` is refused with code 7, that a DEL takes
/// the link away all the same, and how many programs an ADD executed at most.
fn refuses_itself(host: &Host, kind: &str, programs: usize) {
    let good = manx(host, &fixed(&["10.1.0.2/24"]));
    let bad = manx(host, &json!({"type": kind}));
    let pod = Pod::new("a");
    let (finished, trace) = strace(
        host,
        &bad.call("ADD").pod(&pod),
        &["-f", "-qq", "-e", "trace=execve", "-e", "status=successful"],
    );
    assert!(trace.matches("execve(").count() <= programs, "{kind}: {trace}");
    let error: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(error["code"], 7, "{kind}: {error}");
    assert!(error["details"].as_str().unwrap().contains("manx-ipam"), "{error}");
    assert_clean(host);
    assert!(pod.netns.links().is_empty());
    let result = good.add(&pod).ok();
    for reply in [bad.status(), bad.check(&pod, &result), bad.gc(&[&pod])] {
        assert_eq!(reply.code(), Some(7), "{kind}: {reply:?}");
    }
    // The ADD's own section releases the address.
    bad.del(&pod).ok();
    assert_clean(host);
    assert!(pod.netns.links().is_empty());
    // There is none, and the link goes all the same.
    good.add(&pod).ok();
    fs::remove_dir_all(host.scratch().path().join("root/run/manx")).unwrap();
    assert_eq!(bad.del(&pod).code(), Some(7), "{kind}");
    assert!(pod.netns.links().is_empty(), "{kind}");
}

#[test]
fn a_plugin_that_is_this_one_is_refused_by_whichever_name() {
    let host = Host::new();
    let bin = host.scratch().dir("bin");
    for name in ["manx", "calico", "my-ipam"] {
        std::os::unix::fs::symlink(crate::node::MANX, bin.join(name)).unwrap();
        refuses_itself(&host, name, 1);
    }
}

#[test]
fn a_copy_or_a_wrapper_of_this_plugin_finds_that_it_called_itself() {
    let host = Host::new();
    let bin = host.scratch().dir("bin");
    host.scratch().program("bin/copy", crate::node::MANX);
    // ADD, then its DEL.
    refuses_itself(&host, "copy", 3);
    let wrapped = bin.join("copy").display().to_string();
    script(&host, "wrapper", &format!("exec {wrapped}"));
    refuses_itself(&host, "wrapper", 5);
}

#[test]
fn a_wrapper_of_the_allocator_is_no_call_of_itself() {
    let host = Host::new();
    let bin = host.scratch().dir("bin");
    std::os::unix::fs::symlink(crate::node::MANX, bin.join("manx-ipam")).unwrap();
    let edit = r#"sed 's/"wrapper"/"manx-ipam"/'"#;
    script(&host, "wrapper", &format!("{edit} | {}/manx-ipam", bin.display()));
    let ranges = json!([[{"subnet": "10.1.0.0/24"}]]);
    let leases = host.scratch().dir("leases");
    let ipam = json!({"type": "wrapper", "dataDir": leases, "ranges": ranges});
    let (plugin, pod) = (manx(&host, &ipam), Pod::new("a"));
    assert_eq!(address(&plugin.add(&pod).ok()), "10.1.0.2");
    plugin.del(&pod).ok();
    assert_clean(&host);
}

/// As on kernels before 5.3, and where a sandbox forbids it.
#[test]
fn without_descriptors_of_processes_a_delegate_serves_and_ends() {
    let host = Host::new();
    let good = manx(&host, &host_local(&host, &["10.1.0.0/24"]));
    let pod = Pod::new("a");
    for error in ["ENOSYS", "EPERM"] {
        let inject = format!("inject=pidfd_open:error={error}");
        let run = |verb: &str| strace(&host, &good.call(verb).pod(&pod), &["-qq", "-e", &inject]).0;
        let result: Value = serde_json::from_str(&run("ADD").ok()).unwrap();
        assert!(address(&result).starts_with("10.1.0."), "{result}");
        run("DEL").ok();
        assert_clean(&host);
    }
}

#[test]
fn a_delegate_too_old_for_the_configuration_fails_the_status() {
    let host = Host::new();
    script(
        &host,
        "older",
        r#"[ $CNI_COMMAND = VERSION ] && { echo '{"supportedVersions":["0.4.0","1.0.0"]}'; exit 0; }
           echo '{"code":1,"msg":"incompatible CNI versions"}'; exit 1"#,
    );
    let error = manx(&host, &json!({"type": "older"})).status().error();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("older: speaks CNI 0.4.0, 1.0.0"), "{error}");
}

/// Whether a process runs; one that nobody has waited for yet has ended.
fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().unwrap_or_default().trim().chars().next();
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
