// SPDX-License-Identifier: Apache-2.0
//! A cluster with network policies, which an API server of the test tells an agent of, and two
//! pods of it on this node.

use std::fs;
use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};

use crate::ground::{Agent, CONFLIST, Ground, conflist, end_of_list, event, node};
use crate::harness::{DEADLINE, Pod, eventually};
use crate::server::{Answer, Server};

pub const POLICY_FILE: &str = "run/manx/policy.json";
pub const PATHS: [&str; 4] = [
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/apis/networking.k8s.io/v1/networkpolicies",
];

/// What there is at first.
#[derive(Clone, Default)]
pub struct World {
    pub namespaces: Vec<Value>,
    pub pods: Vec<Value>,
    pub policies: Vec<Value>,
    /// Whether the list of policies has no end until that is told.
    pub is_late: bool,
}

/// An API server with four lists, and who tells it of changes, in the order of `PATHS`.
pub struct Api {
    pub server: Server,
    tellers: Vec<Sender<Value>>,
}

/// A pod as the API server has it before it has an address; its label `app` is its name.
pub fn pod(name: &str, uid: &str, node: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"namespace": "test", "name": name, "uid": uid, "resourceVersion": "100",
            "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]}, "status": {}})
}

/// The same with this address.
pub fn at(mut pod: Value, address: &str) -> Value {
    pod["status"] = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
    pod
}

pub fn namespace(name: &str, labels: &Value) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1",
        "metadata": {"name": name, "resourceVersion": "100", "labels": labels}})
}

/// A policy: what `from` says may speak to the pods of a name, and nobody else.
pub fn policy(to: &str, from: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": "test", "name": format!("only-to-{to}"), "uid": to,
            "resourceVersion": "100"},
        "spec": {"podSelector": {"matchLabels": {"app": to}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [from]}]}})
}

pub fn of_app(name: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": name}}})
}

/// Only `client` may speak to `web`, both on this node.
pub fn client_and_web() -> World {
    World {
        namespaces: vec![namespace("test", &json!({}))],
        pods: vec![pod("web", "u1", "node-1"), pod("client", "u2", "node-1")],
        policies: vec![policy("web", &of_app("client"))],
        is_late: false,
    }
}

impl World {
    /// A namespace, and nothing in it.
    pub fn alone() -> Self {
        Self { namespaces: vec![namespace("test", &json!({}))], ..Self::default() }
    }
}

impl Api {
    pub fn start(ground: &Ground, world: &World) -> Self {
        Self::of(ground, std::slice::from_ref(world))
    }

    /// One after the other, as often as it is asked.
    pub fn of(ground: &Ground, worlds: &[World]) -> Self {
        let (mut answers, mut tellers) = (Vec::new(), Vec::new());
        for World { namespaces, pods, policies, is_late } in worlds {
            let nodes = vec![node(1), node(2)];
            for (path, objects) in PATHS.into_iter().zip([&nodes, namespaces, pods, policies]) {
                let events = objects.iter().map(|one| event("ADDED", one.clone()));
                let (teller, rest) = channel();
                let end = Some(end_of_list()).filter(|_| !is_late || path != PATHS[3]);
                let events: Vec<Value> = events.chain(end).collect();
                answers.push(Answer::live(&events, rest).at(path));
                tellers.push(teller);
            }
        }
        Self { server: ground.host.enter(|| Server::start(answers)), tellers }
    }

    /// One in which what there is at a path cannot be asked for.
    pub fn refusing(ground: &Ground, path: &'static str) -> Self {
        let mut answers: Vec<Answer> =
            (0..50).map(|_| Answer::refusal(403, "it is forbidden").at(path)).collect();
        let (teller, rest) = channel();
        let nodes = [event("ADDED", node(1)), event("ADDED", node(2)), end_of_list()];
        answers.push(Answer::live(&nodes, rest).at(PATHS[0]));
        Self { server: ground.host.enter(|| Server::start(answers)), tellers: vec![teller] }
    }

    /// Tells the agent that was started last of a change.
    pub fn tell(&self, kind: &str, object: &Value) {
        self.tell_one(self.tellers.len() / PATHS.len() - 1, kind, object);
    }

    /// The same of the agent that was started behind so many others.
    pub fn tell_one(&self, others: usize, kind: &str, object: &Value) {
        let kinds = ["Node", "Namespace", "Pod", "NetworkPolicy"];
        let place = kinds.iter().position(|it| object["kind"] == **it).unwrap();
        self.tellers[others * PATHS.len() + place].send(event(kind, object.clone())).unwrap();
    }

    /// Ends what it was telling, and answers nothing any more.
    pub fn fall_silent(self) -> Server {
        self.server
    }

    /// Tells such an agent that these are all policies.
    pub fn end_policies(&self, others: usize) {
        self.tell_of_policies(others, end_of_list());
    }

    /// Says that to such an agent where it asks for policies.
    pub fn tell_of_policies(&self, others: usize, said: Value) {
        self.tellers[others * PATHS.len() + 3].send(said).unwrap();
    }
}

/// A ground on which pods wait for long.
pub fn patient() -> Ground {
    let ground = Ground::new();
    let mut conflist = conflist();
    conflist["plugins"][0]["networkPolicyWait"] = json!(30);
    let config = json!({"fabric": {"mode": "direct"}, "conflist": conflist});
    ground.host.scratch().file("agent.json", config.to_string());
    ground
}

pub fn enforcing(ground: &Ground, api: &Api) -> Agent {
    ground.agent(&api.server.url(), &["--network-policy"])
}

/// What the container runtime would say of it.
pub fn container(name: &str, uid: &str) -> Pod {
    let pod = Pod::new("a").kubernetes("test", name);
    let args = pod.args.clone().unwrap();
    Pod { id: format!("{name}-{uid}"), args: Some(format!("{args};K8S_POD_UID={uid}")), ..pod }
}

/// The numbers of a pod in policy.json.
pub fn noted(ground: &Ground, name: &str) -> Value {
    let bytes = fs::read(ground.path(POLICY_FILE)).unwrap_or_default();
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    document["pods"][format!("test/{name}")].clone()
}

#[track_caller]
pub fn await_noted(ground: &Ground, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let came = eventually(DEADLINE, || is(&noted(ground, name)));
    assert!(came, "{}: {}", noted(ground, name), ground.log());
    noted(ground, name)
}

pub fn shown(ground: &Ground) -> Value {
    let shown = ground.manx(&["policy", "show", "--json"]);
    serde_json::from_str(&shown.stdout).unwrap_or_default()
}

/// The class of an address at ingress in the kernel's table.
pub fn class(ground: &Ground, address: &str) -> Option<u64> {
    let shown = shown(ground);
    let pods = shown["pods"].as_array()?;
    let pod = pods.iter().find(|pod| pod["address"] == address)?;
    pod["ingress"]["class"].as_u64()
}

pub fn address(result: &Value) -> String {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split('/').next().unwrap().to_owned()
}

#[track_caller]
pub fn await_is(what: &str, ground: &Ground, is: impl Fn() -> bool) {
    assert!(eventually(DEADLINE, is), "not {what}: {}: {}", shown(ground), ground.log());
}

/// A node with both of `client_and_web` attached.
pub struct Both {
    pub ground: Ground,
    pub api: Api,
    pub agent: Agent,
    pub web: Pod,
    pub client: Pod,
    pub web_address: String,
    pub client_address: String,
}

impl Both {
    pub fn new(worlds: &[World]) -> Self {
        let ground = patient();
        let api = Api::of(&ground, worlds);
        let agent = enforcing(&ground, &api);
        ground.await_file(CONFLIST);
        let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
        let (web, client) = (container("web", "u1"), container("client", "u2"));
        let web_address = address(&plugin.add(&web).ok());
        let client_address = address(&plugin.add(&client).ok());
        Self { ground, api, agent, web, client, web_address, client_address }
    }

    pub fn reaches(&self) -> bool {
        let ping = ["-n", "-q", "-c", "1", "-W", "1", &self.web_address];
        self.client.netns.command("ping", &ping).status == 0
    }

    #[track_caller]
    pub fn await_reached(&self, expected: bool) {
        await_is(&format!("reached: {expected}"), &self.ground, || self.reaches() == expected);
    }
}
