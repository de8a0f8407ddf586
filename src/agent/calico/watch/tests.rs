// SPDX-License-Identifier: Apache-2.0
//! What is made of the answers of an API server that has Calico's objects.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use serde_json::{Value, json};

use super::*;
use crate::agent::{
    server::{Answer, Ending, Server},
    source::{Listener, Source, source},
};
use crate::state::Root;

const DEADLINE: Duration = Duration::from_secs(60);
const NODES: &str = "/api/v1/nodes";
const POOLS: &str = "/apis/crd.projectcalico.org/v1/ippools";
const BLOCKS: &str = "/apis/crd.projectcalico.org/v1/ipamblocks";

fn event(object: &Value) -> Value {
    json!({"type": "ADDED", "object": object})
}

fn list(objects: &[Value], then: &[Value]) -> Answer {
    let end = json!({"type": "BOOKMARK", "object": {"kind": "X", "apiVersion": "v1", "metadata": {
        "resourceVersion": "10", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    let events: Vec<Value> =
        objects.iter().map(event).chain([end]).chain(then.iter().cloned()).collect();
    Answer::stream(&events, Ending::Silence)
}

fn node(name: &str, end: u8) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": "1", "annotations": {
        "projectcalico.org/IPv4Address": format!("192.0.2.{end}/24"),
        "projectcalico.org/IPv4VXLANTunnelAddr": format!("10.0.0.{end}"), "other": "x"}}})
}

fn pool() -> Value {
    json!({"metadata": {"name": "default", "resourceVersion": "1"},
        "spec": {"cidr": "10.0.0.0/16", "vxlanMode": "Always"}})
}

fn block(cidr: &str, node: &str) -> Value {
    json!({"metadata": {"name": cidr, "resourceVersion": "11"},
        "spec": {"cidr": cidr, "affinity": format!("host:{node}")}})
}

fn group(resources: &[&str]) -> Answer {
    let resources: Vec<Value> = resources.iter().map(|name| json!({"name": name})).collect();
    Answer::json(&json!({"kind": "APIResourceList", "resources": resources}))
}

const GROUP_PATHS: [&str; 2] = ["/apis/crd.projectcalico.org/v1", "/apis/projectcalico.org/v3"];

/// A server that has Calico's definitions in the usual group alone.
fn usual() -> Vec<Answer> {
    vec![
        group(&["ippools", "ipamblocks"]).at(GROUP_PATHS[0]),
        Answer::refusal(404, "not found").at(GROUP_PATHS[1]),
    ]
}

struct Watching {
    server: Server,
    listener: Listener,
    wish: Arc<Wish>,
    uid: watch::Receiver<Box<str>>,
    directory: PathBuf,
}

impl Watching {
    fn new(in_blocks: bool, answers: Vec<Answer>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("manx-calico-{}-{count}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let _ = Socket::open().unwrap().apply(&[crate::net::link::set_up("lo")]);
        let server = Server::start(answers);
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server.url()}}], "users": [],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}]});
        let path = directory.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        let (teller, listener) = source();
        let wish = Arc::new(Wish::default());
        let limits = Limits {
            sound: Duration::ZERO,
            retry: Duration::from_millis(1),
            retry_max: Duration::from_millis(20),
            settle: Duration::from_millis(1),
            ..Limits::default()
        };
        let access = Access { kubeconfig: Some(path) };
        let own = "a".to_owned();
        let (uid, of_own) = watch::channel(Box::default());
        let calico = (own, access, limits, in_blocks, teller, Arc::clone(&wish), uid);
        thread::spawn(move || {
            let (own, access, limits, in_blocks, teller, wish, uid) = calico;
            let api = Api::default();
            let nowhere = Path::new("/nonexistent");
            let plugin = Arc::new(Installed::in_directory(&Root::new(nowhere), nowhere));
            let calico = Calico { own, access, limits, in_blocks, teller, wish, plugin, uid, api };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(calico.run())
        });
        Self { server, listener, wish, uid: of_own, directory }
    }

    fn with(mut answers: Vec<Answer>) -> Self {
        answers.extend(usual());
        Self::new(true, answers)
    }

    fn told(&mut self) -> Told {
        self.listener.next(std::time::Instant::now() + DEADLINE).expect("nothing is told")
    }

    /// Waits for these pods of each node.
    fn until(&mut self, expected: &[(&str, &[&str])]) -> bool {
        loop {
            let Told::Complete { nodes, anew, common } = self.told() else { continue };
            assert_eq!(common.unwrap().mode, crate::conf::Mode::Vxlan);
            let has = nodes.iter().map(|node| {
                let pods: Vec<&str> = node.pod_cidrs.iter().map(|cidr| &**cidr).collect();
                (&*node.name, pods)
            });
            if has.eq(expected.iter().map(|(name, pods)| (*name, pods.to_vec()))) {
                return anew;
            }
        }
    }

    fn lost(&mut self) -> String {
        loop {
            if let Told::Lost(words) = self.told() {
                return words;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn nodes_are_told_when_all_three_lists_are_whole() {
    let later = [event(&block("10.0.3.0/26", "a"))];
    let mut watching = Watching::with(vec![
        list(&[node("a", 1), node("b", 2)], &[]).at(NODES),
        list(&[pool()], &[]).at(POOLS),
        list(&[block("10.0.2.0/26", "b")], &later).at(BLOCKS),
    ]);
    watching.until(&[("a", &["10.0.3.0/26"]), ("b", &["10.0.2.0/26"])]);
    assert!(watching.wish.get().unwrap().trouble.is_none());
    let requests = watching.server.requests();
    assert!(!requests.iter().any(|asked| asked.contains("clusterinformations")), "{requests:?}");
}

#[test]
fn nothing_is_told_while_a_list_is_refused() {
    let mut watching = Watching::with(vec![
        list(&[node("a", 1)], &[]).at(NODES),
        list(&[pool()], &[]).at(POOLS),
        Answer::refusal(403, "ipamblocks is forbidden").at(BLOCKS),
    ]);
    let said = watching.lost();
    assert!(said.contains("ipamblocks is forbidden") && said.contains("role"), "{said}");
    let soon = std::time::Instant::now() + Duration::from_millis(100);
    while let Some(told) = watching.listener.next(soon) {
        assert!(matches!(told, Told::Lost(_)), "{told:?}");
    }
}

/// What would take all routes away is not told as a cluster.
#[test]
fn a_cluster_without_pools_is_none() {
    let mut watching = Watching::with(vec![
        list(&[node("a", 1)], &[]).at(NODES),
        list(&[], &[]).at(POOLS),
        list(&[block("10.0.2.0/26", "a")], &[]).at(BLOCKS),
    ]);
    assert!(watching.lost().contains("kubectl get ippools"));
}

#[test]
fn who_doubts_gets_all_three_anew() {
    let twice =
        |objects: &[Value], path| [list(objects, &[]).at(path), list(objects, &[]).at(path)];
    let answers = [
        twice(&[node("a", 1)], NODES),
        twice(&[pool()], POOLS),
        twice(&[block("10.0.2.0/26", "a")], BLOCKS),
    ];
    let mut watching = Watching::with(answers.into_iter().flatten().collect());
    let expected: &[(&str, &[&str])] = &[("a", &["10.0.2.0/26"])];
    assert!(!watching.until(expected));
    watching.listener.ask_anew();
    while !watching.until(expected) {}
    let requests = watching.server.requests();
    for path in [NODES, POOLS, BLOCKS] {
        let anew = requests
            .iter()
            .filter(|asked| asked.starts_with(path) && asked.ends_with("&resourceVersion="));
        assert_eq!(anew.count(), 1, "{path}: {requests:?}");
    }
}

#[test]
fn pods_in_pod_cidrs_need_no_blocks() {
    let mut one = node("a", 1);
    one["spec"] = json!({"podCIDR": "10.0.9.0/24"});
    let mut answers = vec![list(&[one], &[]).at(NODES), list(&[pool()], &[]).at(POOLS)];
    answers.extend(usual());
    let mut watching = Watching::new(false, answers);
    watching.until(&[("a", &["10.0.9.0/24"])]);
    assert!(!watching.server.requests().iter().any(|asked| asked.contains("ipamblocks")));
}

/// Calico's own objects are ill, and the Node is another one by now.
#[test]
fn which_node_it_is_is_told_without_calicos_objects() {
    let refusal = || Answer::refusal(500, "ill").at(POOLS);
    let mut answers: Vec<Answer> = (0..20).map(|_| refusal()).collect();
    let mut own = node("a", 1);
    own["metadata"]["uid"] = json!("u-1");
    answers.push(list(&[own], &[]).at(NODES));
    let mut watching = Watching::with(answers);
    assert!(watching.lost().contains("ill"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = async { timeout(DEADLINE, watching.uid.wait_for(|uid| !uid.is_empty())).await };
    assert_eq!(**runtime.block_on(told).unwrap().unwrap(), *"u-1");
}

/// A release of Calico that keeps its objects elsewhere, while the agent runs.
#[test]
fn objects_that_move_are_followed() {
    let v3 = ["/apis/projectcalico.org/v3/ippools", "/apis/projectcalico.org/v3/ipamblocks"];
    let deleted = json!({"type": "DELETED", "object": pool()});
    let mut watching = Watching::new(
        true,
        vec![
            list(&[node("a", 1)], &[]).at(NODES),
            list(&[node("a", 1)], &[]).at(NODES),
            list(&[pool()], &[deleted]).at(POOLS),
            list(&[block("10.0.2.0/26", "a")], &[]).at(BLOCKS),
            list(&[pool()], &[]).at(v3[0]),
            list(&[block("10.0.3.0/26", "a")], &[]).at(v3[1]),
            group(&["ippools"]).at(GROUP_PATHS[0]),
            Answer::refusal(404, "not found").at(GROUP_PATHS[1]),
            Answer::refusal(404, "not found").at(GROUP_PATHS[0]),
            group(&["ippools"]).at(GROUP_PATHS[1]),
            Answer::refusal(404, "not found").at(GROUP_PATHS[0]),
            group(&["ippools"]).at(GROUP_PATHS[1]),
        ],
    );
    watching.until(&[("a", &["10.0.3.0/26"])]);
    // Where the server knows no such objects any more, that is asked at once.
    let absent = |path| Answer::refusal(404, "not found").at(path);
    let mut answers: Vec<Answer> = (0..100).map(|_| absent(POOLS)).collect();
    answers.extend([
        list(&[node("a", 1)], &[]).at(NODES),
        list(&[node("a", 1)], &[]).at(NODES),
        list(&[block("10.0.2.0/26", "a")], &[]).at(BLOCKS),
        list(&[pool()], &[]).at(v3[0]),
        list(&[block("10.0.3.0/26", "a")], &[]).at(v3[1]),
        group(&["ippools"]).at(GROUP_PATHS[0]),
        absent(GROUP_PATHS[1]),
        absent(GROUP_PATHS[0]),
        group(&["ippools"]).at(GROUP_PATHS[1]),
        absent(GROUP_PATHS[0]),
        group(&["ippools"]).at(GROUP_PATHS[1]),
    ]);
    Watching::new(true, answers).until(&[("a", &["10.0.3.0/26"])]);
}

/// Calico may keep its objects in the newer group; the older one may be there as well.
#[test]
fn objects_are_read_where_calico_keeps_them() {
    let both = |items: Value, used: &'static str| {
        vec![
            Answer::json(&json!({"items": items}))
                .at("/apis/crd.projectcalico.org/v1/clusterinformations"),
            list(&[node("a", 1)], &[]).at(NODES),
            list(&[pool()], &[]).at(used),
            list(&[block("10.0.2.0/26", "a")], &[]).at(if used == POOLS {
                BLOCKS
            } else {
                "/apis/projectcalico.org/v3/ipamblocks"
            }),
            group(&["ippools"]).at(GROUP_PATHS[0]),
            group(&["ippools"]).at(GROUP_PATHS[1]),
        ]
    };
    let expected: &[(&str, &[&str])] = &[("a", &["10.0.2.0/26"])];
    Watching::new(true, both(json!([{}]), POOLS)).until(expected);
    Watching::new(true, both(json!([]), "/apis/projectcalico.org/v3/ippools")).until(expected);
    // What serves the newer group is a pod of Calico's, and waits for its network.
    let mut answers = both(json!([{}]), POOLS);
    let _ = answers.pop();
    answers.push(Answer::refusal(503, "no endpoints").at(GROUP_PATHS[1]));
    Watching::new(true, answers).until(expected);
    let none = || {
        let group = |path| Answer::refusal(404, "not found").at(path);
        vec![group("/apis/crd."), group("/apis/projectcalico.org")]
    };
    let mut without = Watching::new(true, none());
    assert!(without.lost().contains("custom resource definitions are not there"));
}
