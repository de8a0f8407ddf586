// SPDX-License-Identifier: Apache-2.0
//! What the agent answers: its metrics, whether it lives, whether pods may come.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::ground::{CONFLIST, Ground, MANX, conflist, node};
use crate::harness::{DEADLINE, Plugin, Pod, eventually};
use crate::server::{Answer, Server};
use crate::world::{Api, World, enforcing};

const ADDRESS: &str = "127.0.0.1:9641";

/// What is answered at a path, its head included; nothing where nobody listens.
pub fn ask(ground: &Ground, path: &str) -> String {
    ground.host.enter(|| {
        let Ok(mut stream) = TcpStream::connect(ADDRESS) else { return String::new() };
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}

#[test]
fn an_agent_tells_how_it_stands() {
    let ground = Ground::new();
    let mut bare = node(1);
    bare["spec"] = json!({});
    let (server, api) = ground.api(&[bare, node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_log("has no podCIDR yet");
    let unready = ask(&ground, "/readyz");
    assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
    assert!(unready.ends_with("node node-1 has no podCIDR yet\n"), "{unready}");
    assert!(ask(&ground, "/healthz").starts_with("HTTP/1.1 200 "));
    agent.tell("MODIFIED", node(1));
    ground.await_file(CONFLIST);
    let ready = || ask(&ground, "/readyz").starts_with("HTTP/1.1 200 ");
    assert!(eventually(DEADLINE, ready), "{}", ask(&ground, "/readyz"));
    let metrics = ask(&ground, "/metrics");
    for line in [
        "manx_agent_api_connected 1",
        "manx_agent_ready 1",
        "manx_agent_nodes{state=\"used\"} 2",
        "manx_agent_peers_file_writes_total 2",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
}

/// As on a node that Prometheus asks.
#[test]
fn an_agent_answers_where_it_is_told_to() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &["--listen=192.0.2.11:9641"]);
    let answers = |address: &str| ground.host.enter(|| TcpStream::connect(address).is_ok());
    assert!(eventually(DEADLINE, || answers("192.0.2.11:9641")), "{}", ground.log());
    assert!(!answers(ADDRESS));
    ground.await_file(CONFLIST);
    let says = || ground.manx(&["status"]).stdout;
    assert!(eventually(DEADLINE, || says().contains("runs, and is ready")), "{}", says());
}

/// The configuration outlives a boot, and routes do not.
#[test]
fn an_agent_is_ready_after_a_pass_of_its_own() {
    let ground = Ground::new();
    let config = json!({"fabric": {"mode": "vxlan"}, "conflist": conflist()});
    ground.host.scratch().file("agent.json", config.to_string());
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    agent.end(Signal::SIGTERM);
    fs::remove_dir_all(ground.path("run")).unwrap();
    // What stands in the way of all routes.
    ground.host.command("ip", &["link", "del", "vxlan.calico"]).ok();
    ground.host.command("ip", &["link", "add", "vxlan.calico", "type", "bridge"]).ok();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    let says = |words: &str| eventually(DEADLINE, || ask(&ground, "/readyz").contains(words));
    assert!(says("the routes to other nodes are not made: "), "{}", ground.log());
    assert!(ask(&ground, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(ground.path(CONFLIST).exists());
    ground.host.command("ip", &["link", "del", "vxlan.calico"]).ok();
    assert!(says("HTTP/1.1 200 "), "{}: {}", ask(&ground, "/readyz"), ground.log());
    ground.await_routes(&[1, 2]);
}

/// The runtime takes the first, and pods would be another network's.
#[test]
fn a_configuration_that_comes_first_makes_an_agent_unready() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    let says = |words: &str| eventually(DEADLINE, || ask(&ground, "/readyz").contains(words));
    assert!(says("HTTP/1.1 200 "), "{}", ground.log());
    let name = "etc/cni/net.d/05-other.conflist";
    let other = json!({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]});
    ground.host.scratch().file(name, other.to_string());
    assert!(says("05-other.conflist, which comes first"), "{}", ground.log());
    fs::remove_file(ground.path(name)).unwrap();
    assert!(says("HTTP/1.1 200 "), "{}", ground.log());
}

#[test]
fn a_port_that_is_in_use_costs_the_answers_alone() {
    let ground = Ground::new();
    let taken = ground.host.enter(|| TcpListener::bind(ADDRESS).unwrap());
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    ground.await_log("no metrics and no health at 127.0.0.1:9641: ");
    drop(taken);
}

/// Any process of the node may open connections, and a kubelet ends an agent that does not answer.
#[test]
fn who_connects_and_says_nothing_keeps_nobody_from_asking() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    let connect = || ground.host.enter(|| TcpStream::connect(ADDRESS).unwrap());
    let idle: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
    assert!(ask(&ground, "/healthz").starts_with("HTTP/1.1 200 "));
    // None had to give up for that.
    let mut last = idle.last().unwrap();
    last.set_nonblocking(true).unwrap();
    let held = last.read(&mut [0]).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
}

/// Waits until the metrics have this line.
#[track_caller]
fn await_metric(ground: &Ground, line: &str) {
    let has = || ask(ground, "/metrics").lines().any(|one| one == line);
    let came = eventually(DEADLINE, has);
    assert!(came, "{line}: {}\n{}", ask(ground, "/metrics"), ground.log());
}

/// The plugin, as the configuration that the agent has put in place calls it.
fn plugin(ground: &Ground) -> Plugin {
    let conflist = fs::read(ground.path(CONFLIST)).unwrap();
    let conflist: Value = serde_json::from_slice(&conflist).unwrap();
    let mut conf = conflist["plugins"][0].clone();
    for key in ["name", "cniVersion"] {
        conf[key] = conflist[key].clone();
    }
    let root = ground.host.scratch().path().to_str().unwrap().to_owned();
    Plugin::new(&ground.host, MANX).config(conf).env("MANX_ROOT", &root)
}

#[test]
fn an_agent_counts_what_the_plugin_does() {
    let ground = Ground::new();
    let (server, _api) = ground.api(&[node(1), node(2)]);
    let _agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    await_metric(&ground, "manx_cni_operations_total{verb=\"ADD\",code=\"0\"} 0");
    let (plugin, pod) = (plugin(&ground), Pod::new("a"));
    plugin.add(&pod).ok();
    await_metric(&ground, "manx_cni_operations_total{verb=\"ADD\",code=\"0\"} 1");
    let metrics = ask(&ground, "/metrics");
    for line in [
        "manx_cni_duration_seconds_count{verb=\"ADD\"} 1",
        "manx_attachments{network=\"pods\"} 1.0",
        "manx_ipam_addresses{network=\"pods\",family=\"ipv4\",state=\"used\"} 1.0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
    // The same once more is an error.
    let refused = plugin.add(&pod);
    let code = refused.error()["code"].as_u64().unwrap();
    await_metric(&ground, &format!("manx_cni_operations_total{{verb=\"ADD\",code=\"{code}\"}} 1"));
    plugin.del(&pod).ok();
    await_metric(&ground, "manx_cni_operations_total{verb=\"DEL\",code=\"0\"} 1");
    await_metric(
        &ground,
        "manx_ipam_addresses{network=\"pods\",family=\"ipv4\",state=\"used\"} 0.0",
    );
}

#[test]
fn an_agent_tells_how_soon_a_node_is_reached() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let mut agent = ground.agent(&server.url(), &[]);
    agent.api = Some(api);
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
    await_metric(&ground, "manx_agent_routes{state=\"present\"} 2");
    // A list tells nothing of when a node came.
    await_metric(&ground, "manx_agent_event_to_kernel_seconds_count 0");
    agent.tell("ADDED", node(3));
    await_metric(&ground, "manx_agent_event_to_kernel_seconds_count 1");
    ground.await_routes(&[1, 2, 3]);
    for state in ["wanted", "present"] {
        await_metric(&ground, &format!("manx_agent_routes{{state=\"{state}\"}} 3"));
    }
}

#[test]
fn an_agent_counts_what_it_asks_and_why_it_asks_again() {
    let ground = Ground::new();
    let refused = ground.host.enter(|| Server::start(vec![Answer::refusal(503, "starting")]));
    let _agent = ground.agent(&refused.url(), &[]);
    await_metric(&ground, "manx_agent_api_requests_total{verb=\"watch\",code=\"503\"} 1");
    await_metric(&ground, "manx_agent_watch_restarts_total{reason=\"error\"} 1");
    await_metric(&ground, "manx_agent_api_connected 0");
    await_metric(&ground, "manx_agent_last_sync_timestamp_seconds 0.0");
}

/// What begins like a metric of ours or of a process in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_ours = |word: &&str| word.starts_with("manx_") || word.starts_with("process_");
    words.filter(is_ours).map(str::to_owned).collect()
}

/// What expressions of a text ask for by equality: a metric, a label and its value. What scrapes
/// adds the labels job and instance.
fn selected(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in names(text) {
        let head = format!("{name}{{");
        for rest in text.split(&*head).skip(1) {
            let matchers = rest.split('}').next().unwrap();
            let pairs = matchers.split(',').filter_map(|matcher| matcher.split_once('='));
            let plain = |pair: &(&str, &str)| {
                !["job", "instance"].contains(&pair.0)
                    && !pair.0.ends_with('!')
                    && !pair.1.starts_with('~')
            };
            found.extend(
                pairs.filter(plain).map(|(key, value)| (name.clone(), format!("{key}={value}"))),
            );
        }
    }
    found
}

/// Who is told of a metric finds it, and it is told of each.
#[test]
fn rules_dashboard_and_documentation_name_what_is_served() {
    let ground = Ground::new();
    let api = Api::start(&ground, &World::alone());
    let _agent = enforcing(&ground, &api);
    ground.await_file(CONFLIST);
    plugin(&ground).add(&Pod::new("a")).ok();
    await_metric(&ground, "manx_attachments{network=\"pods\"} 1.0");
    let text = ask(&ground, "/metrics");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let served: BTreeSet<String> = samples
        .flat_map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            names(name)
        })
        .collect();
    for (file, text) in [
        ("conf/alerts/manx.yaml", include_str!("../../conf/alerts/manx.yaml")),
        ("conf/alerts/tests.yaml", include_str!("../../conf/alerts/tests.yaml")),
        ("conf/grafana/manx.json", include_str!("../../conf/grafana/manx.json")),
    ] {
        let unknown: Vec<String> = names(text).difference(&served).cloned().collect();
        assert!(unknown.is_empty(), "{file} names what is not served: {unknown:?}");
    }
    let rules = include_str!("../../conf/alerts/manx.yaml").to_owned();
    let dashboard = include_str!("../../conf/grafana/manx.json").replace("\\\"", "\"");
    let selected = selected(&(rules + &dashboard));
    assert!(selected.iter().any(|(name, _)| name == "manx_cni_duration_seconds_bucket"));
    for (name, matcher) in selected {
        let has = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(&matcher);
        assert!(text.lines().any(|line| has(&line)), "no sample of {name} has {matcher}: {text}");
    }
    let parts = ["_bucket", "_count", "_sum"];
    let whole = |name: &String| {
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        whole.filter(|whole| served.contains(&format!("{whole}_bucket"))).unwrap_or(name).to_owned()
    };
    let served: BTreeSet<String> = served.iter().map(whole).collect();
    assert_eq!(names(include_str!("../../docs/metrics.md")), served);
}
