// SPDX-License-Identifier: Apache-2.0
//! What becomes of the peers file when the source tells this and that.

use std::{
    collections::VecDeque,
    fs, process,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;

use super::*;
use crate::{
    agent::belief::DOUBT,
    conf::{FabricPart, Mode},
    node::version,
};

mod bounds;

/// What is told, each at its time.
#[derive(Default)]
struct Script {
    told: VecDeque<Told>,
    asked: usize,
}

impl Source for Script {
    fn next(&mut self, _: Instant) -> Option<Told> {
        self.told.pop_front()
    }

    fn ask_anew(&mut self) {
        self.asked += 1;
    }
}

struct Ground {
    directory: PathBuf,
    keeper: Keeper<Script>,
}

fn node(number: usize) -> Arc<Record> {
    Arc::new(Record {
        name: format!("n{number}").into(),
        uid: format!("u{number}").into(),
        created: "2026-11-27T00:00:00Z".into(),
        addresses: vec![format!("192.0.2.{number}").into()],
        pod_cidrs: vec![format!("10.0.{number}.0/24").into()],
        tunnel: None,
    })
}

fn nodes(numbers: impl IntoIterator<Item = usize>) -> Vec<Arc<Record>> {
    numbers.into_iter().map(node).collect()
}

fn of_mode(mode: &str) -> FabricPart {
    part(&json!({"mode": mode}))
}

fn part(value: &serde_json::Value) -> FabricPart {
    FabricPart::of_file(value.as_object().unwrap()).0
}

impl Ground {
    /// Node 1 is this one.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("manx-keep-{}-{count}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let keeper = Self::keeper(&directory.join("peers.json"));
        let ground = Self { directory, keeper };
        ground.note(version::VERSION, 2);
        ground
    }

    fn keeper(path: &std::path::Path) -> Keeper<Script> {
        Self::keeper_within(path, None)
    }

    /// The same that is told where all pods are.
    fn keeper_within(path: &std::path::Path, cluster: Option<&str>) -> Keeper<Script> {
        let cluster_cidrs = cluster.map(|cluster| vec![cluster.parse().unwrap()]);
        let (fabric, in_blocks, spared) = (FabricPart::default(), false, Vec::new());
        let node = "n1".to_owned();
        let settings = Settings { node, fabric, cluster_cidrs, in_blocks, spared };
        let root = Root::new(path.parent().unwrap().to_owned());
        let status = Arc::new(Status::new());
        Keeper::new(Script::default(), settings, &root, path.to_owned(), status)
    }

    /// Notes a plugin.
    fn note(&self, version: &str, peers: u32) {
        let note = self.directory.join("run/manx/plugin.json");
        fs::create_dir_all(note.parent().unwrap()).unwrap();
        let text = serde_json::json!({"version": version, "schemas": {"peers": peers}});
        fs::write(note, text.to_string()).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.join("peers.json")
    }

    fn tell(&mut self, nodes: Vec<Arc<Record>>) {
        self.keeper.source.told.push_back(Told::Complete { nodes, anew: false, common: None });
        self.keeper.step();
    }

    /// The names in the file.
    fn file(&self) -> Vec<String> {
        list::names(&fs::read(self.path()).unwrap_or_default())
    }

    /// What is in its directory.
    fn left(&self) -> Vec<String> {
        let left = fs::read_dir(&self.directory).unwrap();
        let mut names: Vec<_> =
            left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "run");
        names.sort();
        names
    }

    /// The modes in the file: what is sent by, and what is accepted besides.
    fn modes(&self) -> [String; 2] {
        let fabric = list::fabric(&fs::read(self.path()).unwrap()).unwrap().encode();
        ["/mode", "/accepts/mode"].map(|at| {
            let mode = fabric.pointer(at).and_then(serde_json::Value::as_str);
            mode.unwrap_or_default().to_owned()
        })
    }

    /// Another agent, with another mode.
    fn again(&mut self, mode: &str) {
        self.keeper = Self::keeper(&self.path());
        self.keeper.settings.fabric = of_mode(mode);
    }

    /// How often it was written, and how often that failed.
    fn writes(&self) -> (u64, u64) {
        let text = self.keeper.status.metrics().unwrap();
        let count = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        let name = "manx_agent_peers_file_write";
        (count(&format!("{name}s_total")), count(&format!("{name}_errors_total")))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_file_is_written_where_it_differs() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    assert_eq!(ground.file(), ["n1", "n2", "n3"]);
    ground.tell(nodes(1..=3));
    assert_eq!(ground.writes(), (1, 0));
    ground.tell(nodes([1, 3]));
    assert_eq!((ground.file(), ground.writes()), (vec!["n1".into(), "n3".into()], (2, 0)));
    assert_eq!(ground.left(), ["peers.json", "peers.mode"], "nothing else lies beside it");
}

#[test]
fn a_file_that_is_right_already_is_not_written() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    ground.keeper = Ground::keeper(&ground.path());
    ground.tell(nodes(1..=3));
    assert_eq!(ground.writes(), (0, 0));
}

#[test]
fn what_somebody_else_writes_does_not_stay() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    for text in ["", "{\"nodes\": [", "{\"nodes\": []}"] {
        fs::write(ground.path(), text).unwrap();
        ground.keeper.step();
        assert_eq!(ground.file(), ["n1", "n2", "n3"], "{text}");
    }
    fs::remove_file(ground.path()).unwrap();
    ground.keeper.step();
    assert_eq!(ground.file(), ["n1", "n2", "n3"]);
}

#[test]
fn lists_that_cannot_be_true_leave_the_file_alone() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    let before = fs::read(ground.path()).unwrap();
    ground.tell(Vec::new());
    ground.tell(nodes(2..=4));
    ground.keeper.source.told.push_back(Told::Lost("away".to_owned()));
    ground.keeper.step();
    assert_eq!((fs::read(ground.path()).unwrap(), ground.writes()), (before, (1, 0)));
    ground.tell(nodes(1..=4));
    assert_eq!(ground.file().len(), 4);
}

/// A cluster that was known before the agent was started counts as well.
#[test]
fn half_a_cluster_goes_when_a_new_list_says_so_after_a_minute() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=10));
    ground.keeper = Ground::keeper(&ground.path());
    let begin = Instant::now();
    ground.keeper.consider(&nodes(1..=3), false, begin);
    ground.keeper.write(begin);
    assert_eq!(ground.file().len(), 10);
    // Each node at its own time.
    let ask = ground.keeper.ask.unwrap();
    assert!((begin + DOUBT..=begin + DOUBT * 2).contains(&ask));
    ground.keeper.consider(&nodes(1..=4), false, begin + DOUBT);
    assert_eq!(ground.keeper.ask, Some(ask), "events do not put it off");
    ground.keeper.ask = Some(begin);
    ground.keeper.step();
    assert_eq!((ground.keeper.source.asked, ground.keeper.ask), (1, None), "asked once");
    ground.keeper.consider(&nodes(1..=3), true, begin + DOUBT);
    ground.keeper.write(begin);
    assert_eq!(ground.file(), ["n1", "n2", "n3"]);
}

/// This node was deleted and made again. Its pods have the addresses that they had.
#[test]
fn a_former_pod_cidr_stays_while_pods_have_its_addresses() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=2));
    let root = Root::new(ground.directory.clone());
    let journal = journal::Journal::new(&root, "pods");
    let addresses = vec!["10.0.1.7".parse().unwrap()];
    let (container_id, ifname) = ("c1".to_owned(), "eth0".to_owned());
    journal
        .write(&journal::Entry { container_id, ifname, addresses, ..journal::Entry::default() })
        .unwrap();
    let again = |cidr: &str| {
        let mut record = Record::clone(&node(1));
        record.pod_cidrs = vec![cidr.into()];
        vec![Arc::new(record), node(2)]
    };
    let own = |ground: &Ground| list::pod_cidrs(&fs::read(ground.path()).unwrap(), "n1").unwrap();
    let pair = |now: &str, former: &[&str]| {
        (vec![now.to_owned()], former.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    };
    ground.tell(again("10.0.8.0/24"));
    assert_eq!(own(&ground), pair("10.0.8.0/24", &["10.0.1.0/24"]));
    // Also by an agent that is started later, and for one that changes again: no pod is there.
    ground.keeper = Ground::keeper(&ground.path());
    ground.tell(again("10.0.9.0/24"));
    assert_eq!(own(&ground), pair("10.0.9.0/24", &["10.0.1.0/24"]));
    ground.keeper.step();
    assert_eq!(own(&ground), pair("10.0.9.0/24", &["10.0.1.0/24"]));
    journal.remove("c1", "eth0").unwrap();
    ground.keeper.step();
    assert_eq!(own(&ground), pair("10.0.9.0/24", &[]));
}

/// All names are there, and nodes claim what leaves most of them out, also while no agent was here.
#[test]
fn a_list_that_leaves_most_pods_without_routes_is_doubted() {
    let mut ground = Ground::new();
    let without_pods = |number| {
        let mut node = Record::clone(&node(number));
        if number > 3 {
            node.pod_cidrs.clear();
        }
        Arc::new(node)
    };
    let pods = |ground: &Ground| {
        let others = list::pods(&fs::read(ground.path()).unwrap_or_default());
        others.iter().filter(|(name, _)| name != "n1").map(|(_, cidrs)| cidrs.len()).sum::<usize>()
    };
    ground.tell(nodes(1..=9));
    ground.keeper = Ground::keeper(&ground.path());
    ground.tell((1..=9).map(without_pods).collect());
    assert_eq!(pods(&ground), 8);
    assert!(ground.keeper.said.doubt.starts_with("6 of 8 networks of pods"));
    let over = Instant::now() + DOUBT;
    ground.keeper.consider(&(1..=9).map(without_pods).collect::<Vec<_>>(), true, over);
    ground.keeper.write(over);
    assert_eq!(pods(&ground), 2);
}

#[test]
fn a_plugin_that_could_not_read_the_file_keeps_the_one_that_it_has() {
    let mut ground = Ground::new();
    ground.keeper.settings.fabric =
        FabricPart::of_file(serde_json::json!({"mode": "vxlan"}).as_object().unwrap()).0;
    ground.note("0.0.1", 1);
    ground.tell(nodes(1..=2));
    assert_eq!((ground.file().len(), ground.writes()), (0, (0, 1)));
    assert!(ground.keeper.said.unwritten.contains("manx 0.0.1"));
    assert!(ground.keeper.said.skew.contains("manx 0.0.1"));
    // One that notes nothing is as old, once it may be called.
    fs::remove_dir_all(ground.directory.join("run")).unwrap();
    let conflist = ground.directory.join("etc/cni/net.d/10-manx.conflist");
    fs::create_dir_all(conflist.parent().unwrap()).unwrap();
    fs::write(conflist, r#"{"name": "pods", "plugins": [{"type": "manx"}]}"#).unwrap();
    ground.keeper.write(ground.keeper.retry.unwrap());
    assert_eq!((ground.file().len(), ground.writes()), (0, (0, 2)));
    assert!(ground.keeper.said.unwritten.contains("manx install"));
    ground.note("9.0.0", 9);
    ground.keeper.write(ground.keeper.retry.unwrap());
    assert_eq!((ground.file().len(), ground.writes()), (2, (1, 2)));
    // What reads that one reads the next one.
    fs::remove_dir_all(ground.directory.join("run")).unwrap();
    ground.tell(nodes(1..=3));
    assert_eq!(ground.file().len(), 3);
    assert!(ground.keeper.said.skew.contains("not known"));
    // Another program in its place is not what noted itself.
    let plugins = ground.directory.join("run/plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("manx"), "0.1").unwrap();
    version::note_file(&ground.keeper.root, &plugins.join("manx")).unwrap();
    ground.keeper.plugin = Arc::new(Installed::in_directory(&ground.keeper.root, &plugins));
    ground.keeper.look_at_plugin();
    assert_eq!(ground.keeper.said.skew, "");
    fs::rename(plugins.join("manx"), plugins.join("before")).unwrap();
    fs::write(plugins.join("manx"), "0.2").unwrap();
    ground.keeper.look_at_plugin();
    assert!(ground.keeper.said.skew.contains("another program"), "{}", ground.keeper.said.skew);
}

/// A plugin of before would have to wait for the end of a change of which it can read nothing.
#[test]
fn a_plugin_that_knows_no_plain_family_gets_the_last_step_at_once() {
    for (reads, steps) in [(2, ["vxlan", ""]), (3, ["vxlan", "vxlan"])] {
        let mut ground = Ground::new();
        ground.note("9.0.0", 3);
        ground.keeper.settings.fabric = part(&json!({"mode": "vxlan", "plain": ["IPv6"]}));
        ground.tell(nodes(1..=2));
        ground.note("0.1.1", reads);
        ground.keeper.plugin.known();
        ground.keeper.settings.fabric = of_mode("vxlan");
        ground.tell(nodes(1..=3));
        assert_eq!((ground.modes(), ground.file().len()), (steps.map(str::to_owned), 3));
        let held = fs::read_to_string(ground.path()).unwrap();
        assert_eq!(held.contains("plain"), reads == 3, "{held}");
    }
}

/// A node that is new, whose plugin came with the machine.
#[test]
fn a_plugin_that_nothing_is_known_of_gets_the_file_while_it_may_not_be_called() {
    let mut ground = Ground::new();
    ground.keeper.settings.fabric = of_mode("vxlan");
    fs::remove_dir_all(ground.directory.join("run")).unwrap();
    ground.tell(nodes(1..=2));
    assert_eq!((ground.file().len(), ground.writes()), (2, (1, 0)));
}

#[test]
fn a_disk_that_takes_nothing_is_tried_again_and_costs_nothing_else() {
    let mut ground = Ground::new();
    // No directory can be made where a file is.
    fs::write(ground.directory.join("file"), "").unwrap();
    ground.keeper = Ground::keeper(&ground.directory.join("file/peers.json"));
    ground.tell(nodes(1..=2));
    assert_eq!(ground.writes(), (0, 1));
    let retry = ground.keeper.retry.unwrap();
    ground.keeper.step();
    assert_eq!(ground.writes(), (0, 1), "not at once");
    ground.tell(nodes(1..=3));
    assert_eq!(ground.writes(), (0, 2), "but for something new");
    fs::remove_file(ground.directory.join("file")).unwrap();
    ground.keeper.write(retry);
    assert_eq!(ground.writes(), (1, 2));
    let written = fs::read(ground.directory.join("file/peers.json")).unwrap();
    assert_eq!(list::names(&written).len(), 3);
}

/// The plugin would be left without any.
#[test]
fn a_file_that_nobody_could_read_is_not_written() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=2));
    let most = usize::try_from(PEERS_BYTES_MAX).unwrap();
    ground.keeper.wanted = Some(("x".repeat(most + 1), 1));
    ground.keeper.write(Instant::now());
    assert_eq!((ground.file().len(), ground.writes()), (2, (1, 1)));
    assert!(ground.keeper.said.unwritten.contains("is read up to"));
}

/// A writer that was killed leaves its temporary file, and no other.
#[test]
fn what_a_killed_writer_left_is_removed() {
    let mut ground = Ground::new();
    for left in [".123.abc.0.peers.json", ".123.abc.0.other.json"] {
        fs::write(ground.directory.join(left), "half").unwrap();
    }
    ground.tell(nodes(1..=2));
    assert_eq!(ground.left(), [".123.abc.0.other.json", "peers.json", "peers.mode"]);
}

#[test]
fn this_nodes_trouble_is_noted_and_ends() {
    let mut ground = Ground::new();
    ground.keeper.status.gate(None);
    let mut bare = Record::clone(&node(1));
    bare.pod_cidrs.clear();
    ground.tell(vec![Arc::new(bare), node(2)]);
    assert!(ground.keeper.status.unready().unwrap().contains("--allocate-node-cidrs"));
    ground.tell(nodes(1..=2));
    assert_eq!(ground.keeper.status.unready(), None);
    let begin = Instant::now();
    ground.keeper.consider(&nodes([2]), false, begin);
    assert_eq!(ground.keeper.status.unready(), None);
    ground.keeper.consider(&nodes([2]), false, begin + Duration::from_secs(600));
    assert!(ground.keeper.status.unready().unwrap().contains("no Node"));
    ground.tell(nodes(1..=2));
    assert_eq!(ground.keeper.status.unready(), None);
    // Also where nothing else changes, and no list comes.
    ground.keeper.consider(&nodes([2]), false, begin - Duration::from_secs(600));
    assert_eq!(ground.keeper.status.unready(), None);
    ground.keeper.step();
    assert!(ground.keeper.status.unready().unwrap().contains("no Node"));
}

#[test]
fn a_cluster_that_is_a_load_on_the_api_server_is_told() {
    assert_eq!(burden(1499), None);
    assert!(burden(1500).unwrap().contains("docs/kubernetes.md"));
}

/// By the time that was noted, whoever is there.
#[test]
fn a_mode_goes_on_changing_while_the_api_server_is_away() {
    let mut ground = Ground::new();
    ground.again("ipip");
    ground.tell(nodes(1..=3));
    assert_eq!(ground.modes(), ["ipip", ""]);
    let away = |ground: &mut Ground| {
        ground.keeper.source.told.push_back(Told::Lost("away".to_owned()));
        ground.keeper.step();
    };
    ground.again("vxlan");
    away(&mut ground);
    assert_eq!((ground.modes(), ground.file().len()), (["ipip", "vxlan"].map(str::to_owned), 3));
    let note = ground.directory.join("peers.mode");
    for expected in [["vxlan", "ipip"], ["vxlan", ""]] {
        let mut noted: serde_json::Value =
            serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
        noted["since"] = (clock() - 301).into();
        fs::write(&note, noted.to_string()).unwrap();
        ground.again("vxlan");
        away(&mut ground);
        assert_eq!((ground.modes(), ground.file().len()), (expected.map(str::to_owned), 3));
    }
    // With the list it is the same file.
    let before = fs::read(ground.path()).unwrap();
    ground.tell(nodes(1..=3));
    assert_eq!(fs::read(ground.path()).unwrap(), before);
}

#[test]
fn a_mode_that_the_cluster_says_is_accepted_after_it_changed() {
    let mut ground = Ground::new();
    ground.keeper.change.at_once = true;
    let told = |ground: &mut Ground, mode| {
        let common = Common {
            mode,
            plain: Vec::new(),
            cross_subnet: false,
            masquerade: true,
            families: Vec::new(),
            findings: Vec::new(),
            trouble: None,
        };
        let (nodes, common) = (nodes(1..=2), Some(Arc::new(common)));
        ground.keeper.source.told.push_back(Told::Complete { nodes, anew: false, common });
        ground.keeper.step();
    };
    told(&mut ground, Mode::Vxlan);
    assert_eq!(ground.modes(), ["vxlan", ""]);
    told(&mut ground, Mode::Ipip);
    assert_eq!(ground.modes(), ["ipip", "vxlan"]);
    // Before the cluster says so, nobody knows.
    ground.again("direct");
    ground.keeper.change.at_once = true;
    ground.keeper.source.told.push_back(Told::Lost("away".to_owned()));
    ground.keeper.step();
    assert_eq!(ground.modes(), ["ipip", "vxlan"]);
    told(&mut ground, Mode::Ipip);
    assert_eq!(ground.modes(), ["ipip", "vxlan"]);
    let over = Instant::now() + Duration::from_secs(600);
    ground.keeper.believe(over);
    ground.keeper.write(over);
    assert_eq!(ground.modes(), ["ipip", ""]);
}
