// SPDX-License-Identifier: Apache-2.0
//! Whether the API server serves streaming lists: a watch that begins with every object there is,
//! and then says that this was all. Where its etcd is too old it answers such a request with an
//! error, and a client has to ask page by page.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::control::Control;

/// A list of everything as the beginning of a watch.
const STREAMING_LIST: &str = "/api/v1/nodes?watch=1&sendInitialEvents=true\
    &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

/// A watch that goes on until this value is dropped.
struct Watch {
    kubectl: Child,
    events: BufReader<ChildStdout>,
}

impl Watch {
    fn start(control: &Control) -> Self {
        let mut command = control.kubectl(&["get", "--raw", STREAMING_LIST]);
        let mut kubectl = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let events = BufReader::new(kubectl.stdout.take().expect("stdout is a pipe"));
        Self { kubectl, events }
    }

    /// The next event. A watch that ends has failed.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.events.read_line(&mut line).expect("a line or the end");
        assert!(!line.is_empty(), "the watch ended; see above");
        serde_json::from_str(&line).expect("an event is JSON")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

fn node(name: &str, number: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDRs": [format!("10.244.{number}.0/24")], "podCIDR": format!("10.244.{number}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{number}")}]},
    })
}

fn name(event: &Value) -> &str {
    event["object"]["metadata"]["name"].as_str().expect("an object has a name")
}

/// All nodes, then the mark of the list's end, then what happens afterwards.
pub(crate) fn nodes(control: &Control) {
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let made = control.create(&node(name, number));
        assert_eq!(made["spec"]["podCIDR"], json!(format!("10.244.{number}.0/24")));
        // It is there from the start, for a node is not registered in two steps by everyone.
        assert_eq!(made["status"]["addresses"][0]["address"], json!(format!("192.0.2.{number}")));
    }
    let mut watch = Watch::start(control);
    let mut names = Vec::new();
    let end = loop {
        let event = watch.next();
        if event["type"] != "ADDED" {
            break event;
        }
        names.push(name(&event).to_owned());
    };
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(end["type"], "BOOKMARK", "{end}");
    let mark = &end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(mark, "true", "{end}");

    control.create(&node("d", 4));
    let event = watch.next();
    assert_eq!((&event["type"], name(&event)), (&json!("ADDED"), "d"));
}
