// SPDX-License-Identifier: Apache-2.0
//! Network policies of a cluster: in force on the node as soon as the API server tells of them,
//! before the pods that they are about.

use std::fs;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::answers::ask;
use crate::ground::CONFLIST;
use crate::harness::{DEADLINE, Pod, eventually};
use crate::server::failure;
use crate::world::{
    Api, Both, PATHS, POLICY_FILE, World, address, at, await_is, await_noted, class,
    client_and_web, container, enforcing, namespace, noted, of_app, patient, pod, policy, shown,
};

#[test]
fn pods_are_under_their_policies_from_their_first_packet() {
    let both = Both::new(&[client_and_web()]);
    let ground = &both.ground;
    let conflist = fs::read_to_string(ground.path(CONFLIST)).unwrap();
    assert!(conflist.contains("\"networkPolicy\": \"enforce\""), "{conflist}");
    let web = noted(ground, "web");
    assert_eq!(web["uid"], "u1");
    // Nobody has told of an address yet.
    assert_eq!(
        class(ground, &both.web_address),
        web["ingress"].as_u64().map(|it| it & 0xffff_ffff)
    );
    assert!(both.reaches());
    let other = container("other", "u3");
    both.api.tell("ADDED", &pod("other", "u3", "node-1"));
    await_noted(ground, "other", Value::is_object);
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    plugin.add(&other).ok();
    assert!(other.netns.keeps_silent(&both.web_address));
    assert!(ground.host.pings(&both.web_address));
    let metrics = ask(ground, "/metrics");
    for line in [
        "manx_agent_policy_objects{object=\"policies\"} 1",
        "manx_agent_policy_pods{state=\"isolated\"} 1",
        "manx_agent_policy_errors_total 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
}

/// The container runtime may be faster than the API server.
#[test]
fn a_pod_that_nobody_knows_yet_is_waited_for() {
    let ground = patient();
    let api = Api::start(&ground, &client_and_web());
    let _agent = enforcing(&ground, &api);
    ground.await_file(CONFLIST);
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    let late = container("late", "u9");
    let reply = thread::scope(|scope| {
        let adding = scope.spawn(|| plugin.add(&late));
        api.tell("ADDED", &policy("late", &of_app("client")));
        api.tell("ADDED", &pod("late", "u9", "node-1"));
        adding.join().unwrap()
    });
    assert!(!reply.stderr.contains("is closed"), "{reply:?}");
    let address = address(&reply.ok());
    let is_isolated = || class(&ground, &address).is_some_and(|class| class > 1);
    await_is("isolated", &ground, is_isolated);
}

#[test]
fn what_changes_in_the_cluster_is_in_force_at_once() {
    let both = Both::new(&[client_and_web()]);
    let (ground, api) = (&both.ground, &both.api);
    let client = || at(pod("client", "u2", "node-1"), &both.client_address);
    assert!(both.reaches());
    // Labels of a peer.
    let mut other = client();
    other["metadata"]["labels"]["app"] = json!("something else");
    api.tell("MODIFIED", &other);
    both.await_reached(false);
    api.tell("MODIFIED", &client());
    both.await_reached(true);
    // Labels of a namespace.
    let by_namespace = json!({"namespaceSelector": {"matchLabels": {"team": "a"}}});
    api.tell("MODIFIED", &policy("web", &by_namespace));
    both.await_reached(false);
    api.tell("MODIFIED", &namespace("test", &json!({"team": "a"})));
    both.await_reached(true);
    api.tell("MODIFIED", &namespace("test", &json!({"team": "b"})));
    both.await_reached(false);
    // The policy itself.
    api.tell("DELETED", &policy("web", &by_namespace));
    both.await_reached(true);
    await_is("open", ground, || class(ground, &both.web_address).is_none());
    let metrics = ask(ground, "/metrics");
    let seconds = |text: &str| text.parse::<f64>().unwrap();
    let line = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| seconds(rest.trim())).unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    let [count, sum] = ["count", "sum"]
        .map(|what| line(&format!("manx_agent_policy_event_to_kernel_seconds_{what}")));
    assert!(count >= 6.0, "{metrics}");
    assert!(sum / count < 5.0, "{metrics}");
}

/// A pod that has ended keeps its address in the API, and another one has it by then.
#[test]
fn a_pod_that_has_ended_is_nobody() {
    let both = Both::new(&[client_and_web()]);
    let (ground, api) = (&both.ground, &both.api);
    let mut remote = at(pod("client", "u7", "node-2"), "10.244.2.9");
    remote["metadata"]["name"] = json!("job");
    let peers = || shown(ground)["peers"].as_u64().unwrap_or_default();
    api.tell("MODIFIED", &at(pod("client", "u2", "node-1"), &both.client_address));
    await_is("one peer", ground, || peers() == 1);
    api.tell("ADDED", &remote);
    await_is("a second peer", ground, || peers() == 2);
    remote["status"]["phase"] = json!("Succeeded");
    api.tell("MODIFIED", &remote);
    await_is("no second peer", ground, || peers() == 1);
    // Its address is another's, which no policy knows.
    let mut next = at(pod("other", "u8", "node-2"), "10.244.2.9");
    api.tell("ADDED", &next);
    next["metadata"]["labels"]["app"] = json!("client");
    api.tell("MODIFIED", &next);
    await_is("a second peer again", ground, || peers() == 2);
    // The one that has ended goes, and takes nothing with it.
    api.tell("DELETED", &remote);
    api.tell("MODIFIED", &at(pod("web", "u1", "node-1"), &both.web_address));
    await_noted(ground, "web", Value::is_object);
    assert_eq!(peers(), 2, "{}", shown(ground));
    assert!(both.reaches());
}

/// At whatever moment an agent ends: what is in force stays so, and the next one goes on.
#[test]
fn agents_that_are_killed_leave_what_is_in_force() {
    const TIMES: usize = 12;
    let mut other = client_and_web();
    other.policies.push(policy("client", &of_app("nobody")));
    let worlds: Vec<World> = (0..=TIMES + 1)
        .map(|time| if time % 2 == 0 { client_and_web() } else { other.clone() })
        .collect();
    let Both { ground, api, mut agent, web, client, web_address, client_address } =
        Both::new(&worlds);
    let third = container("other", "u3");
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    api.tell("ADDED", &pod("other", "u3", "node-1"));
    for time in 0..TIMES {
        thread::sleep(std::time::Duration::from_millis((time as u64 * 23) % 150));
        agent.end(Signal::SIGKILL);
        assert!(class(&ground, &web_address).is_some_and(|class| class > 1), "{}", shown(&ground));
        assert!(client.netns.pings(&web_address), "{}", shown(&ground));
        agent = enforcing(&ground, &api);
    }
    // The last one has a world of its own.
    let is_open = || class(&ground, &client_address).is_none();
    await_is("the last world", &ground, is_open);
    // Nobody knows this one, and all wait for as long as they may: it has no name.
    let nameless = Pod { args: None, ..third };
    plugin.add(&nameless).ok();
    assert!(nameless.netns.keeps_silent(&web_address));
    assert!(web.netns.keeps_silent(&client_address) || client.netns.pings(&web_address));
    drop(agent);
}

/// No rights, no policies: pods are not let in by a configuration that would close them all.
#[test]
fn without_the_right_to_list_pods_no_configuration_asks_for_policies() {
    let ground = patient();
    let api = Api::refusing(&ground, "/api/v1/pods");
    let _agent = enforcing(&ground, &api);
    let words = "it is forbidden; the agent's role has to allow it to list and to watch pods";
    ground.await_log(words);
    let unready = || ask(&ground, "/readyz").contains(words);
    assert!(eventually(DEADLINE, unready), "{}", ask(&ground, "/readyz"));
    ground.await_log("no pods may come yet: network policies are not known yet");
    assert!(!ground.path(CONFLIST).exists() && !ground.path(POLICY_FILE).exists());
}

#[test]
fn what_is_in_force_outlives_the_api_server_and_its_memory() {
    let mut next = client_and_web();
    next.policies = vec![policy("web", &of_app("nobody"))];
    let both = Both::new(&[client_and_web(), next]);
    let (ground, api) = (&both.ground, &both.api);
    let isolated = || class(ground, &both.web_address).is_some();
    // It does not know any more what came after the last event: all is listed anew.
    let too_old = json!({"type": "ERROR", "object": failure(410, "too old resource version")});
    api.tell_of_policies(0, too_old);
    let closes = || {
        assert!(isolated(), "{}", shown(ground));
        !both.reaches()
    };
    await_is("closed", ground, closes);
    ground.await_log("NetworkPolicies are listed anew");
    let lists = api.server.requests();
    let lists: Vec<&String> = lists.iter().filter(|it| it.contains("sendInitialEvents")).collect();
    let (cached, all): (Vec<&String>, Vec<&String>) =
        lists.into_iter().partition(|request| request.contains("resourceVersion=0"));
    assert!(cached.iter().all(|request| request.starts_with(PATHS[0])), "{cached:?}");
    assert_eq!(all.iter().filter(|request| request.starts_with(PATHS[3])).count(), 2, "{all:?}");
    // It goes away.
    let Both { ground, api, agent, web_address, client, .. } = both;
    let _held = agent;
    let _server = api.fall_silent();
    ground.await_log("; network policies stay as they are");
    assert!(class(&ground, &web_address).is_some(), "{}", shown(&ground));
    assert!(client.netns.keeps_silent(&web_address));
    // Pods that it told of before come under what it said of them.
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    let again = container("web", "u1");
    let second = address(&plugin.add(&Pod { id: "again".into(), ..again }).ok());
    assert!(class(&ground, &second).is_some(), "{}", shown(&ground));
}

#[test]
fn a_table_that_others_touch_is_made_again_at_once() {
    let both = Both::new(&[client_and_web()]);
    let ground = &both.ground;
    let before = class(ground, &both.web_address);
    assert!(before.is_some_and(|class| class > 1));
    let is_back =
        || class(ground, &both.web_address) == before && noted(ground, "web")["uid"] == json!("u1");
    ground.host.command("nft", &["flush", "ruleset"]).ok();
    await_is("as before", ground, is_back);
    let removed = ground.manx(&["policy", "remove"]);
    let warning = " still asks for policies";
    assert!(removed.status == 0 && removed.stderr.contains(warning), "{removed:?}");
    await_is("as before", ground, is_back);
    let other = json!({"kind": "List", "items": [
        namespace("test", &json!({})), pod("web", "u1", "node-1"), pod("client", "u2", "node-1")]});
    let file = ground.host.scratch().file("world.json", other.to_string());
    let file = file.to_str().unwrap();
    ground.manx(&["policy", "apply", file, "--node", "node-1"]).ok();
    await_is("as before", ground, is_back);
    assert!(both.reaches());
}

/// Not the table alone: whatever element of it others take away, or put there.
#[test]
fn what_others_take_out_of_the_table_or_put_there_does_not_stay() {
    let mut world = client_and_web();
    let block = json!({"ipBlock": {"cidr": "10.9.0.0/16"}});
    world.policies[0]["spec"]["ingress"] = json!([
        {"from": [of_app("client"), block]},
        {"from": [{"ipBlock": {"cidr": "10.8.0.0/16"}}], "ports": [{"port": 80}, {"port": 90, "endPort": 99}]}]);
    let both = Both::new(&[world]);
    let ground = &both.ground;
    let far = at(pod("client", "u7", "node-2"), "10.244.2.9");
    both.api.tell(
        "ADDED",
        &json!({"kind": "Pod", "metadata": {"namespace": "test", "name": "far",
        "uid": "u7", "resourceVersion": "100", "labels": {"app": "client"}},
        "spec": far["spec"], "status": far["status"]}),
    );
    let held = || {
        let mut shown = shown(ground);
        for pod in shown["pods"].as_array_mut().into_iter().flatten() {
            for way in ["egress", "ingress"] {
                pod[way].as_object_mut().map(|way| way.remove("dropped"));
            }
        }
        shown
    };
    await_is("a second peer", ground, || held()["peers"] == json!(2));
    let before = held();
    let class = class(ground, &both.web_address).unwrap();
    let class = std::net::Ipv4Addr::from(u32::try_from(class).unwrap());
    let web = format!("{{ {} }}", both.web_address);
    let far = "{ 10.244.2.9 }".to_owned();
    let anybody = format!("{{ {class} . tcp . 0.0.0.0 . 99 }}");
    let other = format!("{{ {} : 7 }}", "10.244.2.77");
    for (verb, set, element) in [
        ("delete element", "class-in4", Some(&web)),
        ("flush map", "class-in4", None),
        ("delete element", "ident4", Some(&far)),
        ("flush map", "ident4", None),
        ("flush set", "allow-in", None),
        ("flush set", "range-in", None),
        ("flush map", "cidr-in4", None),
        ("add element", "allow-in", Some(&anybody)),
        ("add element", "ident4", Some(&other)),
        ("add element", "class-out4", Some(&other)),
    ] {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.extend(["inet", "manx.policy", set]);
        args.extend(element.map(String::as_str));
        ground.host.command("nft", &args).ok();
        await_is(&format!("as before {args:?}"), ground, || held() == before);
    }
    assert!(both.reaches());
}

/// Each cluster has namespaces: a list without any is a store that was lost.
#[test]
fn a_cluster_without_namespaces_is_not_believed() {
    let both = Both::new(&[client_and_web(), World::default()]);
    let before = class(&both.ground, &both.web_address);
    both.agent.end(Signal::SIGTERM);
    let _agent = enforcing(&both.ground, &both.api);
    both.ground.await_log("lists no namespace at all, which is not believed");
    assert_eq!(class(&both.ground, &both.web_address), before);
    assert!(noted(&both.ground, "web").is_object());
}

#[test]
fn policies_that_are_not_to_be_enforced_any_more_go() {
    let Both { ground, api, agent, web_address, .. } =
        Both::new(&[client_and_web(), client_and_web(), client_and_web()]);
    agent.end(Signal::SIGTERM);
    assert!(class(&ground, &web_address).is_some());
    let off = ground.agent(&api.server.url(), &[]);
    let is_gone = || {
        let conflist = fs::read_to_string(ground.path(CONFLIST)).unwrap_or_default();
        !conflist.contains("\"enforce\"") && shown(&ground)["enforced"] == json!(false)
    };
    await_is("gone", &ground, is_gone);
    assert!(!ground.path(POLICY_FILE).exists());
    ground.await_log("network policies are not enforced any more");
    // What somebody applies by hand is no agent's.
    let file = json!({"kind": "List", "items": [
        namespace("test", &json!({})), at(pod("web", "u1", "node-1"), &web_address),
        policy("web", &of_app("client"))]});
    let file = ground.host.scratch().file("world.json", file.to_string());
    ground.manx(&["policy", "apply", file.to_str().unwrap(), "--node", "node-1"]).ok();
    off.end(Signal::SIGTERM);
    let _off = ground.agent(&api.server.url(), &[]);
    let ready = || ask(&ground, "/readyz").starts_with("HTTP/1.1 200 ");
    assert!(eventually(DEADLINE, ready), "{}", ground.log());
    assert_eq!(shown(&ground)["enforced"], json!(true));
}
