// SPDX-License-Identifier: Apache-2.0
//! Rules 1 to 18: process, environment, errors.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Call, Netns, Pod, Reply, Stdin};
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Verdict, brief, elsewhere, ensure, fails, fails_with, in_case, ok};
use crate::rule::{rule, words};
use crate::suite::{Suite, addresses};

pub const RULES: &[Rule] = &[
    rule("1", Must, "exit status 0 on success and only then", exit_status),
    rule("2", Must, "a failure prints an error object with code and msg on stdout", error_object),
    rule("2b", Should, "the error object has cniVersion", error_version),
    rule("3", DeFacto, "stdout holds one JSON document or nothing", one_document),
    rule("4", DeFacto, "the plugin's own namespace is refused with one document", own_namespace),
    rule("5", Must, "error codes are the specification's, or 100 and up", codes),
    rule("6", Must, "ADD never answers code 3 while it leaves something", unknown_container),
    rule("7", Must, "a missing required variable is code 4 and named", required),
    rule("8", Should, "all missing variables are named in one error", all_missing),
    rule("9", Must, "a malformed container id is code 4", container_ids),
    rule("10", Must, "a malformed interface name is code 4", interface_names),
    rule("11", Must, "a missing or malformed network name is code 7", network_names),
    rule("12", DeFacto, "an unknown verb is code 4, no verb prints an about text", verbs),
    rule(
        "13",
        DeFacto,
        "the environment is judged before the input, the name before the version",
        order,
    ),
    rule("14", DeFacto, "CNI_NETNS_OVERRIDE lets ADD work in its own namespace", netns_override),
    rule("15", Must, "thirty containers at once get thirty addresses", parallel),
    rule("16", DeFacto, "GC beside ADD harms no valid attachment", gc_beside_add),
    rule("17", Should, "after SIGKILL at any moment of ADD, DEL leaves nothing", killed),
    elsewhere("18", DeFacto, "a binary is replaced by rename", "the installer's to keep"),
];

fn exit_status(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    ok(node.plugin.add(&pod))?;
    ok(node.plugin.del(&pod))?;
    for call in failing(suite, &pod) {
        let reply = call.run();
        ensure!(reply.status != 0, "it should fail: {}", brief(&reply));
    }
    Ok(())
}

/// One ADD for each way to fail that leaves nothing behind.
fn failing(suite: &Suite, pod: &Pod) -> Vec<Call> {
    let node = suite.node();
    let add = |plugin: &crate::harness::Plugin| plugin.call("ADD").pod(pod);
    vec![
        add(&node.plugin).text("{"),
        add(&node.plugin).without("CNI_IFNAME"),
        add(&node.plugin).env("CNI_NETNS", "/no/such/namespace"),
        add(&node.version("0.9.9")),
        add(&node.plugin.clone().with("name", Value::Null)),
    ]
}

fn error_object(suite: &Suite) -> Verdict {
    let pod = Pod::new("a");
    for call in failing(suite, &pod) {
        fails(call.run())?;
    }
    fails_with(6, suite.node().plugin.call("ADD").pod(&pod).text("{").run())?;
    Ok(())
}

fn error_version(suite: &Suite) -> Verdict {
    let pod = Pod::new("a");
    for call in failing(suite, &pod) {
        let error = fails(call.run())?;
        ensure!(error["cniVersion"].is_string(), "no cniVersion in {error}");
    }
    Ok(())
}

fn one_document(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let single = |reply: Reply| -> Verdict {
        ensure!(reply.json.is_some(), "not one JSON document: {}", brief(&reply));
        Ok(())
    };
    let silent = |reply: Reply| -> Verdict {
        ensure!(reply.stdout.is_empty(), "stdout should be empty: {}", brief(&reply));
        Ok(())
    };
    single(node.plugin.version())?;
    let result = ok(node.plugin.add(&pod))?;
    silent(node.plugin.check(&pod, &result))?;
    silent(node.plugin.status())?;
    silent(node.plugin.gc(&[&pod]))?;
    single(node.plugin.add(&pod))?;
    silent(node.plugin.del(&pod))?;
    failing(suite, &pod).into_iter().try_for_each(|call| single(call.run()))
}

fn own_namespace(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let ours = Pod { netns: (*node.host).clone(), ..pod };
    let before = node.host.links();
    fails(node.plugin.add(&ours))?;
    ensure!(node.host.links() == before, "links are left: {:?}", node.host.links());
    ensure!(node.leases().is_empty(), "the addresses {:?} are left allocated", node.leases());
    Ok(())
}

fn codes(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let plugin = &node.plugin;
    let add = || plugin.call("ADD").pod(&pod);
    let (scripted, ipam) = node.scripted();
    ipam.answers("ADD", &json!({"cniVersion": "1.1.0", "ips": []}));
    let ours = node.host.path().display().to_string();
    let cases = [
        ("incompatible version", Some(1), node.version("0.9.9").call("ADD").pod(&pod)),
        ("missing variable", Some(4), add().without("CNI_CONTAINERID")),
        ("malformed container id", Some(4), add().env("CNI_CONTAINERID", "../x")),
        ("not JSON", Some(6), add().text("{")),
        ("not an object", Some(6), add().text("[]")),
        (
            "bad network name",
            Some(7),
            plugin.clone().with("name", "a/b".into()).call("ADD").pod(&pod),
        ),
        ("no namespace", None, add().env("CNI_NETNS", "/no/such/namespace")),
        ("own namespace", None, add().env("CNI_NETNS", &ours)),
        ("no address", None, scripted.call("ADD").pod(&pod)),
        ("no previous result", None, plugin.call("CHECK").pod(&pod)),
    ];
    for (case, code, call) in cases {
        let error = in_case(case, fails(call.run()))?;
        let got = error["code"].as_u64().unwrap_or(0);
        ensure!(code.is_none_or(|code| code == got), "{case}: code {code:?} expected, got {error}");
        let known = matches!(got, 1..=7 | 11 | 50 | 51) || got >= 100;
        ensure!(known, "{case}: the specification has no code {got}: {error}");
    }
    Ok(())
}

fn unknown_container(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let (plugin, ipam) = node.scripted();
    ipam.fails("ADD", 3, "unknown container");
    let error = fails(plugin.add(&pod))?;
    if error["code"] == 3 {
        node.clean(&pod)?;
    }
    ok(node.plugin.add(&pod))?;
    let error = fails(node.plugin.add(&pod))?;
    ensure!(error["code"] != 3, "a second ADD of a live container answers {error}");
    Ok(())
}

/// The variables that each verb needs (SPEC 1.1.0, "CNI operations").
const REQUIRED: [(&str, &[&str]); 3] = [
    ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
];

fn required(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for (verb, names) in REQUIRED {
        for name in names {
            let call = || node.plugin.call(verb).pod(&pod);
            for call in [call().without(name), call().env(name, "")] {
                let error = in_case(&format!("{verb} without {name}"), fails_with(4, call.run()))?;
                ensure!(words(&error).contains(name), "{verb} without {name}: not named: {error}");
            }
        }
    }
    ok(node.plugin.call("DEL").pod(&pod).without("CNI_NETNS").run())?;
    ok(node.plugin.gc(&[]))?;
    ok(node.plugin.status())?;
    Ok(())
}

fn all_missing(suite: &Suite) -> Verdict {
    let node = suite.node();
    for (verb, names) in REQUIRED {
        let error = fails_with(4, node.plugin.call(verb).run())?;
        for name in names {
            ensure!(words(&error).contains(name), "{verb} without any: {name} not in {error}");
        }
    }
    Ok(())
}

fn container_ids(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for verb in ["ADD", "DEL", "CHECK"] {
        for id in ["../x", "-a", "_a", ".a", "a/b", "a b", "é", "a\nb", "a:b"] {
            let call = node.plugin.call(verb).pod(&pod).env("CNI_CONTAINERID", id);
            in_case(&format!("{verb} of {id:?}"), fails_with(4, call.run()))?;
        }
    }
    for id in ["0", "a.b_c-D", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"] {
        let pod = Pod { id: id.into(), ..Pod::new("a") };
        in_case(id, ok(node.plugin.add(&pod)))?;
        in_case(id, ok(node.plugin.del(&pod)))?;
    }
    Ok(())
}

fn interface_names(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for verb in ["ADD", "DEL", "CHECK"] {
        for name in ["0123456789abcdef", "a b", "a:b", ".", "..", "a/b", "a\tb"] {
            let call = node.plugin.call(verb).pod(&pod.interface(name));
            in_case(&format!("{verb} of {name:?}"), fails_with(4, call.run()))?;
        }
    }
    let longest = pod.interface("0123456789abcde");
    let result = ok(node.plugin.add(&longest))?;
    node.alive(&longest, &result)?;
    ok(node.plugin.del(&longest))?;
    Ok(())
}

fn network_names(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    for name in [json!("a/b"), json!("-a"), json!(""), json!("a b"), json!(".."), Value::Null] {
        let plugin = node.plugin.clone().with("name", name.clone());
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let call = plugin.call(verb);
            let call = if matches!(verb, "GC" | "STATUS") { call } else { call.pod(&pod) };
            in_case(&format!("{verb}, name {name}"), fails_with(7, call.run()))?;
        }
    }
    Ok(())
}

fn verbs(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    fails_with(4, node.plugin.call("FOO").pod(&pod).run())?;
    fails_with(4, node.plugin.call("add").pod(&pod).run())?;
    for call in [
        node.plugin.call("").stdin(Stdin::Null),
        node.plugin.call("").without("CNI_COMMAND").stdin(Stdin::Null),
    ] {
        let reply = call.run();
        ensure!(reply.status == 0 && reply.stdout.is_empty(), "no verb: {}", brief(&reply));
        ensure!(!reply.stderr.trim().is_empty(), "no verb: nothing on stderr");
    }
    Ok(())
}

fn order(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    let add = || node.plugin.call("ADD").pod(&pod);
    in_case("no variable and no JSON", fails_with(4, add().without("CNI_NETNS").text("{").run()))?;
    let future = node.version("0.9.9");
    let nameless = future.clone().with("name", Value::Null);
    in_case("no name and a bad version", fails_with(7, nameless.add(&pod)))?;
    in_case(
        "a bad container id and a bad version",
        fails_with(4, future.call("ADD").pod(&pod).env("CNI_CONTAINERID", "-").run()),
    )?;
    Ok(())
}

fn netns_override(suite: &Suite) -> Verdict {
    let node = suite.node();
    for value in ["1", "true", "TRUE"] {
        let pod = Pod { netns: (*node.host).clone(), ..Pod::new("a") };
        let with = |verb: &str| node.plugin.call(verb).pod(&pod).env("CNI_NETNS_OVERRIDE", value);
        in_case(value, ok(with("ADD").run()))?;
        ensure!(pod.netns.link(&pod.ifname).is_some(), "{value}: no {} was made", pod.ifname);
        in_case(value, ok(with("DEL").run()))?;
        node.clean(&pod)?;
    }
    Ok(())
}

fn parallel(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let pods: Vec<Pod> = (0..30).map(|_| Pod::new("p")).collect();
    let all = |verb: &(dyn Fn(&Pod) -> Reply + Sync)| -> Vec<Reply> {
        thread::scope(|scope| {
            let runs: Vec<_> = pods.iter().map(|pod| scope.spawn(move || verb(pod))).collect();
            runs.into_iter().map(|run| run.join().expect("no panic in a run")).collect()
        })
    };
    let mut seen = BTreeSet::new();
    for reply in all(&|pod| node.plugin.add(pod)) {
        for address in addresses(&ok(reply)?) {
            ensure!(seen.insert(address.clone()), "{address} was given twice");
        }
    }
    ensure!(seen.len() == pods.len(), "{} addresses for {} pods", seen.len(), pods.len());
    for address in &seen {
        ensure!(node.host.pings(address), "the node does not reach {address}");
    }
    for reply in all(&|pod| node.plugin.del(pod)) {
        ok(reply)?;
    }
    pods.iter().try_for_each(|pod| node.clean(pod))
}

fn gc_beside_add(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    let pods: Vec<Pod> = (0..8).map(|_| Pod::new("p")).collect();
    let valid: Vec<&Pod> = pods.iter().collect();
    thread::scope(|scope| -> Verdict {
        let adds = scope.spawn(|| pods.iter().map(|pod| node.plugin.add(pod)).collect::<Vec<_>>());
        while !adds.is_finished() {
            ok(node.plugin.gc(&valid))?;
        }
        for (pod, reply) in pods.iter().zip(adds.join().expect("no panic in a run")) {
            node.alive(pod, &ok(reply)?)?;
        }
        Ok(())
    })
}

fn killed(suite: &Suite) -> Verdict {
    let node = suite.node();
    let whole = {
        let pod = Pod::new("a");
        let reply = node.plugin.add(&pod);
        let took = reply.took;
        ok(reply)?;
        ok(node.plugin.del(&pod))?;
        took
    };
    const STEPS: u32 = 24;
    let mut pods = Vec::new();
    for step in 0..STEPS {
        let pod = Pod::new("k");
        killed_after(&node.plugin.call("ADD").pod(&pod), &node.host, whole * step / STEPS);
        in_case("DEL after the kill", ok(node.plugin.del(&pod)))?;
        pods.push(pod);
    }
    // Last, so that what a delegate did after its parent's death is seen too.
    pods.iter().try_for_each(|pod| node.clean(pod))
}

/// Starts a plugin and kills it, and only it, after `delay`.
fn killed_after(call: &Call, netns: &Netns, delay: Duration) {
    netns.enter(|| {
        let mut command = call.command();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("start the plugin");
        let conf = call.conf().to_string();
        let _ = child.stdin.take().map(|mut pipe| pipe.write_all(conf.as_bytes()));
        // The moment of the kill is what the test varies.
        thread::sleep(delay);
        let _ = child.kill();
        child.wait().expect("wait for the plugin");
    });
}
