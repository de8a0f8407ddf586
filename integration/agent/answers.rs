//! What the agent answers: its metrics, whether it lives, whether pods may come.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use crate::ground::{CONFLIST, Ground, node};
use crate::harness::{DEADLINE, eventually};

const ADDRESS: &str = "127.0.0.1:9641";

/// What is answered at a path, its head included; nothing where nobody listens.
fn ask(ground: &Ground, path: &str) -> String {
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
