// SPDX-License-Identifier: Apache-2.0
//! host-local and manx-ipam at once on one store, in any order: whichever gave
//! an address, whichever takes it back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::ground::{Ground, Program, addresses, content};
use crate::harness::{Plugin, Pod, Reply};
use crate::random::{Random, seed};

/// Operations in all, in rounds; after each round the store is looked at.
const OPERATIONS: usize = 2048;
const ROUNDS: usize = 8;
const WORKERS: usize = 8;

/// More attachments than the pool has addresses.
const CONTAINERS: usize = 30;
const IFNAMES: [&str; 3] = ["eth0", "net1", "net2"];

const POOL: &str = "10.1.0.0/26";
const POOL_IPV6: &str = "fd00:1::/64";
/// A /26 without its own, its broadcast and its gateway's address.
const POOL_SIZE: usize = 61;

/// What the test knows of an attachment: its addresses while it lives.
type Attachment = Mutex<Option<Vec<String>>>;

struct Scene {
    ground: Ground,
    /// By program, then by whether it asks for one family or for two.
    plugins: [[Plugin; 2]; 2],
    attachments: Vec<(Pod, Attachment)>,
    /// Whose each address is: from the end of its ADD to the start of its DEL.
    held: Mutex<HashMap<String, usize>>,
    counts: [AtomicUsize; 4],
}

/// Indexes of [`Scene::counts`].
const ADDS: usize = 0;
const DELS: usize = 1;
const EXHAUSTED: usize = 2;
const REFUSED: usize = 3;

impl Scene {
    fn new() -> Self {
        let ground = Ground::new();
        let plugins = [Program::HostLocal, Program::Manx].map(|program| {
            [&[POOL][..], &[POOL, POOL_IPV6]]
                .map(|subnets| ground.ipam_plugin(program, &ground.ipam(subnets)))
        });
        let attachments = (0..CONTAINERS)
            .flat_map(|number| IFNAMES.map(|ifname| (format!("container{number}"), ifname)))
            .map(|(id, ifname)| (ground.container(&id, ifname), Mutex::new(None)))
            .collect();
        let held = Mutex::new(HashMap::new());
        Self { ground, plugins, attachments, held, counts: Default::default() }
    }

    fn count(&self, what: usize) {
        self.counts[what].fetch_add(1, Ordering::Relaxed);
    }

    /// An operation on some attachment that no other worker is busy with: a
    /// runtime has one at a time, too. So many of a hundred live ones are let
    /// live. Now and then comes what a runtime should not do, an ADD of what
    /// lives and a DEL of what does not.
    fn operate(&self, random: &mut Random, spared: usize) {
        let (index, mut state) = loop {
            let index = random.below(self.attachments.len());
            match self.attachments[index].1.try_lock() {
                Ok(state) if state.is_some() && random.percent(spared) => {}
                Ok(state) => break (index, state),
                Err(_) => {}
            }
        };
        let pod = &self.attachments[index].0;
        let families = random.below(2);
        let plugin = &self.plugins[random.below(2)][families];
        if random.percent(if state.is_none() { 95 } else { 10 }) {
            let reply = plugin.add(pod);
            match &*state {
                None => *state = self.added(index, families, reply),
                Some(_) => {
                    reply.error();
                    self.count(REFUSED);
                }
            }
        } else {
            // From here on somebody else may get them.
            for address in state.take().unwrap_or_default() {
                assert_eq!(self.held.lock().unwrap().remove(&address), Some(index));
            }
            plugin.del(pod).ok();
            self.count(DELS);
        }
    }

    fn added(&self, index: usize, families: usize, reply: Reply) -> Option<Vec<String>> {
        let mut held = self.held.lock().unwrap();
        if !reply.succeeded() {
            let busy = held.keys().filter(|address| address.starts_with("10.")).count() + WORKERS;
            let error = reply.error();
            let msg = error["msg"].as_str().unwrap();
            let full = msg.contains("no free address") || msg.contains("no IP addresses available");
            assert!(full && busy >= POOL_SIZE, "at most {busy} of {POOL_SIZE} are in use: {error}");
            self.count(EXHAUSTED);
            return None;
        }
        let result = reply.ok();
        self.count(ADDS);
        let addresses = addresses(&result);
        assert_eq!(addresses.len(), families + 1, "{result}");
        require_in_pools(&result);
        for address in &addresses {
            let other = held.insert(address.clone(), index);
            assert_eq!(other, None, "{address} was given twice");
        }
        Some(addresses)
    }

    /// The store, at a moment when nobody works, is what the test knows of it.
    fn assert_as_known(&self) {
        let mut expected = BTreeMap::new();
        for (pod, state) in &self.attachments {
            let addresses = state.lock().unwrap().clone().unwrap_or_default();
            expected.extend(addresses.into_iter().map(|address| (address, content(pod))));
        }
        let mut files = self.ground.files();
        files.retain(|name, _| !name.starts_with("last_reserved_ip."));
        assert_eq!(files, expected);
    }
}

fn require_in_pools(result: &Value) {
    for ip in result["ips"].as_array().unwrap() {
        let (address, length) = ip["address"].as_str().unwrap().split_once('/').unwrap();
        let (expected, gateway) =
            if address.contains(':') { ("64", "fd00:1::1") } else { ("26", "10.1.0.1") };
        assert_eq!((length, ip["gateway"].as_str()), (expected, Some(gateway)), "{result}");
        let inside = match address.strip_prefix("10.1.0.") {
            Some(last) => (2..=62).contains(&last.parse::<u8>().unwrap()),
            None => address.starts_with("fd00:1::"),
        };
        assert!(inside && address != gateway, "{result}");
    }
}

#[test]
fn host_local_and_manx_ipam_alternate_on_one_store() {
    let seed = seed();
    println!("MANX_TEST_SEED={seed}");
    let scene = Scene::new();
    for round in 0..ROUNDS {
        // Fills the pool, keeps it full, drains it a little, and again.
        let spared = [90, 60, 0, 30][round % 4];
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let scene = &scene;
                scope.spawn(move || {
                    let mut random =
                        Random::new(seed + u64::try_from(round * 100 + worker).unwrap());
                    for _ in 0..OPERATIONS / ROUNDS / WORKERS {
                        scene.operate(&mut random, spared);
                    }
                });
            }
        });
        scene.assert_as_known();
    }
    for (index, (pod, state)) in scene.attachments.iter().enumerate() {
        if state.lock().unwrap().take().is_some() {
            scene.plugins[index % 2][index / 2 % 2].del(pod).ok();
        }
    }
    scene.assert_as_known();
    let [adds, dels, exhausted, refused] =
        scene.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!("{adds} ADDs, {dels} DELs, {exhausted} found no address, {refused} had one already");
    assert!(adds > 500 && dels > 500 && exhausted > 50 && refused > 20);
}
