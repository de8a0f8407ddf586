// SPDX-License-Identifier: Apache-2.0
//! The [`Snapshot`], which goes to a file and comes back as it was: what the checks
//! of a node are made on, and what their tests feed them.

mod burden;
mod compared;
mod load;
mod network;
mod support;
mod surroundings;

use std::{collections::BTreeMap, path::PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    family::Family,
    list::Gather,
    net::{Tables, fdb, link::Link, neigh, route::Found, rule::Rule},
    state::{
        Entry,
        file::BUNDLE_BYTES_MAX,
        gzip::{decompress, is_gzip},
    },
    text::{json, secrets::redact_texts},
};

use super::fabric::Applied;
use burden::require_bearable;

pub use compared::{Compared, OfFabric, OfRemoval, OfTable};
pub use load::{Backlog, Denied, Load, Processor};
pub use network::{Fabric, Failure, Lease, Misfit, Network, Pool, Range};
pub use support::{Support, Text, Versions};
pub use surroundings::{
    Agent, Assignment, Barrier, ClosedLink, Counters, Daemon, Direction, HeldPolicies, IsolatedPod,
    Module, Plugin, Surroundings, Translation, Walk,
};

/// The form of a snapshot. It rises when a field changes its meaning; one that is
/// new has a default.
pub const VERSION: u32 = 1;

/// More networks than a bundle may have are no node's.
const NETWORKS_MAX: usize = 1 << 10;
/// The same of links, and of attachments, which have one each.
const LINKS_MAX: usize = 1 << 16;

/// What tells a bundle from other JSON.
const MARK: &str = "manx bundle";

/// A snapshot as it is in a file.
#[derive(Serialize)]
struct Bundle<'a> {
    kind: &'static str,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

/// What of a bundle is looked at before the rest.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Header {
    kind: Value,
    version: Value,
    taken_by: Value,
}

/// A node at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// [`VERSION`] of who took it.
    pub version: u32,
    /// The version of the program that took it.
    pub taken_by: String,
    /// What the kernel has.
    pub kernel: Kernel,
    /// The configurations of all networks, in the order in which runtimes read them.
    pub files: Vec<File>,
    /// The networks that are ours.
    pub networks: Vec<Network>,
    /// What was compared with what it should be.
    pub compared: Compared,
    /// What was applied of fabrics, with their route protocols.
    pub applied: Vec<(u8, Applied)>,
    /// The attachments that were noted.
    pub journal: Vec<Entry>,
    /// Files of ours that cannot be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// What belongs to others.
    pub surroundings: Surroundings,
    /// What a person reads besides; in bundles alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<Support>,
}

impl Snapshot {
    /// The same for other eyes: without what runtimes and IPAM plugins were told, which
    /// may hold their credentials.
    pub fn without_secrets(mut self) -> Self {
        for entry in &mut self.journal {
            entry.ipam = Value::Null;
            entry.args.clear();
        }
        self
    }

    /// Notes what a firewall does, each thing once.
    pub fn add_barriers(&mut self, barriers: Vec<Barrier>) {
        for barrier in barriers {
            if !self.surroundings.barriers.contains(&barrier) {
                self.surroundings.barriers.push(barrier);
            }
        }
    }

    /// The text of a file that holds it, without what looks secret in any of its texts.
    ///
    /// # Errors
    /// Where it would be more than is read.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let bytes = serde_json::to_vec(&Bundle { kind: MARK, snapshot: self });
        let mut document: Value =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes)).map_err(|e| e.to_string())?;
        redact_texts(&mut document);
        let mut bytes = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        if bytes.len() > BUNDLE_BYTES_MAX {
            let size = bytes.len();
            return Err(format!("it would have {size} bytes, and may have {BUNDLE_BYTES_MAX}"));
        }
        require_bearable(&bytes)?;
        Ok(bytes)
    }

    /// Reads one that was written, packed or not.
    ///
    /// # Errors
    /// What keeps it from being one that can be read here.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if !is_gzip(bytes) {
            return Self::decode_plain(bytes);
        }
        let plain = decompress(bytes, BUNDLE_BYTES_MAX).map_err(|error| error.to_string())?;
        Self::decode_plain(&plain)
    }

    fn decode_plain(bytes: &[u8]) -> Result<Self, String> {
        require_bearable(bytes)?;
        let no_bundle = |why: &str| format!("it is no bundle of manx bundle: {why}");
        // The form first: what is newer may have other fields.
        let header: Header = json::read(bytes).map_err(|error| no_bundle(&error.to_string()))?;
        if header.kind != MARK {
            return Err(no_bundle(&format!("its kind is {}, not {MARK:?}", header.kind)));
        }
        let by = header.taken_by.as_str().unwrap_or("a newer version");
        match header.version.as_u64() {
            None | Some(0) => {
                Err(no_bundle(&format!("its version is {}, no number from 1", header.version)))
            }
            Some(newer) if newer > VERSION.into() => Err(format!(
                "it is of form {newer}, and this version reads {VERSION}: read it with manx {by}"
            )),
            Some(_) => {
                let read: Self = json::read(bytes).map_err(|error| error.to_string())?;
                read.require_a_node()?;
                Ok(read.concluded())
            }
        }
    }

    /// That it has no more of what is compared with each other than a node can have.
    fn require_a_node(&self) -> Result<(), String> {
        let counts = [
            ("networks", self.networks.len(), NETWORKS_MAX),
            ("configurations", self.files.len(), NETWORKS_MAX),
            ("fabrics", self.compared.fabrics.len(), NETWORKS_MAX),
            ("links", self.kernel.links.len(), LINKS_MAX),
            ("attachments", self.journal.len(), LINKS_MAX),
            ("sides of attachments", self.compared.sides.len(), LINKS_MAX),
        ];
        match counts.iter().find(|(_, count, most)| count > most) {
            Some((what, count, most)) => {
                Err(format!("it has {count} {what}, and a node has {most} at most"))
            }
            None => Ok(()),
        }
    }

    /// With what follows from what was compared.
    #[must_use]
    pub fn concluded(mut self) -> Self {
        let plans = self.compared.plans();
        let compared = &self.compared;
        for network in &mut self.networks {
            let repairs = compared.repairs();
            let own = repairs.filter(|repair| repair.network() == network.name);
            network.repairs = own.map(|repair| repair.told()).gather();
            let is_own = |table: &&OfTable| table.network == network.name;
            if let Some(table) = compared.tables.iter().find(is_own) {
                network.table.clone_from(&table.held.differences);
                network.table_note.clone_from(&table.note);
            }
            let fabrics = compared.fabrics.iter().zip(&plans);
            let found = fabrics.into_iter().find(|(one, _)| one.networks.contains(&network.name));
            if let (Some(fabric), Some((seen, plan))) = (&mut network.fabric, found) {
                fabric.conclude(seen, plan);
            }
        }
        self
    }
}

/// The kernel's tables.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kernel {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses with their masks, and the indexes of their links.
    pub addresses: Vec<(u32, IpNetwork)>,
    /// All routes of both families and of every table.
    pub routes: Vec<Found>,
    /// All rules of both families.
    pub rules: Vec<Rule>,
    /// The permanent neighbours of VXLAN devices, with the devices' indexes.
    pub neighbours: Vec<(u32, neigh::Neighbour)>,
    /// Their permanent forwarding entries.
    pub forwarding: Vec<(u32, fdb::Entry)>,
    /// The indexes of the links that have an address by a router's advertisement.
    pub advertised: Vec<u32>,
    /// Parameters by their path below /proc/sys; those that the kernel has.
    pub sysctls: BTreeMap<String, String>,
}

/// A file with a network configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// The network's name.
    pub network: Option<String>,
    /// The types of its plugins, in their order.
    pub plugins: Vec<String>,
    /// Whether one of them is ours.
    pub ours: bool,
    /// Why it cannot be used, if so.
    pub problem: Option<String>,
    /// Whether ours has an object `policy`, by which Calico's plugin asks for NetworkPolicy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy: bool,
}

impl Kernel {
    /// What these tables have.
    pub fn of(tables: &Tables) -> Self {
        let routes = Family::BOTH.into_iter().flat_map(|family| tables.routes(family));
        let rules = Family::BOTH.into_iter().flat_map(|family| tables.rules(family));
        Self {
            links: tables.links.clone(),
            addresses: tables.addresses.clone(),
            routes: routes.cloned().gather(),
            rules: rules.copied().gather(),
            neighbours: tables.neighbours.clone(),
            forwarding: tables.forwarding.clone(),
            advertised: tables.advertised.clone(),
            ..Self::default()
        }
    }

    /// A link by its index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// A parameter as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.sysctls.get(key)?.parse().ok()
    }

    /// Links that are up and carry nothing.
    pub fn without_carrier(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.no_carrier && !link.loopback)
    }

    /// The names of a route's devices.
    pub fn devices(&self, found: &Found) -> Vec<&str> {
        let links = found.devices.iter().filter_map(|index| self.link(*index));
        links.map(|link| link.name.as_str()).gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::gzip::compress;

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_nothing_else_is_one() {
        let snapshot =
            Snapshot { version: VERSION, taken_by: "0.2".to_owned(), ..Snapshot::default() };
        let text = String::from_utf8(snapshot.encode().unwrap()).unwrap();
        assert_eq!(Snapshot::decode(text.as_bytes()), Ok(snapshot));
        let version = |value: &str| text.replacen(":1,", &format!(":{value},"), 1);
        for (other, words) in [
            (r#"{"version": 1, "containerId": "c1"}"#.to_owned(), "its kind is null"),
            ("[]".to_owned(), "no bundle"),
            ("{".to_owned(), "no bundle"),
            (version("\"1\""), r#"its version is "1""#),
            (version("-1"), "its version is -1"),
            (version("99"), "read it with manx 0.2"),
        ] {
            let said = Snapshot::decode(other.as_bytes()).unwrap_err();
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn names_of_links_and_pods_are_no_secrets_and_what_they_have_stays() {
        let mut snapshot = Snapshot { version: VERSION, ..Snapshot::default() };
        let link = |name: &str| Link { name: name.to_owned(), ..Link::default() };
        snapshot.kernel.links = vec![link("secret0"), link("auth")];
        let value = |value: &str| value.to_owned();
        snapshot.kernel.sysctls =
            [("net/ipv6/conf/secret0/accept_ra", "2"), ("net/x/token/y", "1")]
                .map(|(key, of)| (value(key), value(of)))
                .into();
        snapshot.networks = vec![Network { name: value("token"), ..Network::default() }];
        snapshot.journal = vec![Entry {
            network: value("token"),
            pod_namespace: Some(value("secret")),
            pod_name: Some(value("password")),
            ..Entry::default()
        }];
        let mut indexes = serde_json::json!({"secret0": 3, "token": {"password": [1], "key": "x"}});
        redact_texts(&mut indexes);
        let expected =
            serde_json::json!({"secret0": 3, "token": {"password": [1], "key": "(redacted)"}});
        assert_eq!(indexes, expected);
        assert_eq!(Snapshot::decode(&snapshot.encode().unwrap()), Ok(snapshot));
    }

    #[test]
    fn a_packed_bundle_is_read_and_a_hostile_one_is_refused() {
        let snapshot = Snapshot { version: VERSION, ..Snapshot::default() };
        let packed = compress(&snapshot.encode().unwrap());
        assert_eq!(Snapshot::decode(&packed), Ok(snapshot));
        let with = |rest: &str| format!(r#"{{"kind":"{MARK}","version":1,{rest}"#).into_bytes();
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        // Several files of gzip one behind the other are one.
        let blank = compress(&vec![b' '; 1 << 20]).repeat(BUNDLE_BYTES_MAX >> 20);
        let padded = [compress(&with("\"takenBy\":\"\"}")), blank].concat();
        for (other, words) in [
            (packed[..packed.len() - 1].to_vec(), "it ends too early"),
            (padded, "more than 67108864 bytes"),
            (compress(&with(&format!("\"networks\":[{}", "{},".repeat(1 << 20)))), "of memory"),
            (
                with(&format!("\"networks\":[{}{{}}]}}", "{},".repeat(1 << 10))),
                "it has 1025 networks",
            ),
            (with(&format!("\"journal\":[{{\"ipam\":{deep}}}]}}")), "recursion limit"),
            (format!("{{\"kind\":{deep}}}").into_bytes(), "recursion limit"),
        ] {
            let said = Snapshot::decode(&other).unwrap_err();
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
