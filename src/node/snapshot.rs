//! The [`Snapshot`], which goes to a file and comes back as it was: what the checks
//! of a node are made on, and what their tests feed them.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fabric::pools,
    family::{Family, HasFamily},
    net::{link::Link, route::Found, rule::Rule},
    object::Told,
    state::Entry,
};

/// The form of a snapshot. It rises when a field changes its meaning; one that is
/// new has a default.
pub const VERSION: u32 = 1;

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
    /// The attachments that were noted.
    pub journal: Vec<Entry>,
    /// Files of ours that cannot be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// What belongs to others.
    pub surroundings: Surroundings,
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

    /// The text of a file that holds it.
    ///
    /// # Errors
    /// Of making it.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Bundle { kind: MARK, snapshot: self })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads one that was written.
    ///
    /// # Errors
    /// What keeps it from being one that can be read here.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let no_bundle = |why: &str| format!("it is no bundle of manx bundle: {why}");
        // The form first: what is newer may have other fields.
        let header: Header =
            serde_json::from_slice(bytes).map_err(|error| no_bundle(&error.to_string()))?;
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
            Some(_) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        }
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
}

/// A network of ours.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The file that configures it.
    pub file: PathBuf,
    /// First letters of the names of its host links.
    pub host_prefix: String,
    /// Whether forwarding is turned on for its pods.
    pub manages_forwarding: bool,
    /// Whether its pods' packets leave with the node's address.
    pub masquerades: bool,
    /// The MTU that fits the node's links, in bytes: that of a pod of IPv4 alone, and of
    /// one with IPv6. None where it cannot be told.
    pub mtu: Option<(u32, u32)>,
    /// The MTU that is configured, in bytes.
    pub configured_mtu: Option<u32>,
    /// Where its addresses are from.
    pub pool: Option<Pool>,
    /// How its routes to other nodes stand, where it has any.
    pub fabric: Option<Fabric>,
    /// What its live attachments lack on the node's side.
    pub repairs: Vec<Told>,
    /// In what its nftables table differs.
    pub table: Vec<String>,
    /// What that table does without, and why.
    pub table_note: Option<String>,
}

/// The addresses of a network, where a store of leases can be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// The directory of the leases.
    pub directory: PathBuf,
    /// The ranges.
    pub ranges: Vec<Range>,
    /// What is leased.
    pub leases: Vec<Lease>,
    /// Whether other plugins have addresses of this store.
    pub shared: bool,
    /// Ranges that are not this node's by its peers file.
    pub misfits: Vec<Misfit>,
    /// Why its ranges are not known, if so.
    pub problem: Option<String>,
}

/// A range of addresses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// Where it is written.
    pub path: String,
    /// Which set it is of: a pod gets an address of each.
    pub set: usize,
    /// Its first address.
    pub first: IpAddr,
    /// Its last address.
    pub last: IpAddr,
    /// How many addresses it has to give; as text, for it may be above 2^53.
    pub size: String,
}

impl Network {
    /// The MTU that fits a pod with these addresses.
    pub fn mtu_of(&self, addresses: &[IpAddr]) -> Option<u32> {
        let (ipv4, ipv6) = self.mtu?;
        Some(match Family::greatest(addresses) {
            Family::V4 => ipv4,
            Family::V6 => ipv6,
        })
    }
}

impl Range {
    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last && address.family() == self.first.family()
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.family() == other.first.family()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// How many addresses it has to give.
    pub fn size(&self) -> u128 {
        self.size.parse().unwrap_or_default()
    }
}

/// A lease of an address.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Whose.
    pub container_id: String,
    /// The interface; none in host-local's older format.
    pub ifname: Option<String>,
}

impl Lease {
    /// Whether it is this attachment's.
    pub fn is_of(&self, entry: &Entry) -> bool {
        let same = self.ifname.as_ref().is_none_or(|ifname| *ifname == entry.ifname);
        same && self.container_id == entry.container_id
    }
}

/// A range that is not this node's.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Misfit {
    /// Whether it has addresses of another node's pods.
    pub of_peer: bool,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}

impl From<&pools::Misfit> for Misfit {
    fn from(misfit: &pools::Misfit) -> Self {
        let fix = misfit.fix().to_owned();
        Self { of_peer: misfit.is_of_peer(), text: misfit.to_string(), fix }
    }
}

/// The routes between nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fabric {
    /// The peers file.
    pub peers_file: PathBuf,
    /// What is wrong with it, if so.
    pub problem: Option<String>,
    /// Why nothing was compared, if so.
    pub failure: Option<Failure>,
    /// The protocol of its routes.
    pub protocol: u8,
    /// Whether a fabric was applied since boot.
    pub applied: bool,
    /// Whether it was applied by the file as it is now.
    pub is_current: bool,
    /// This node by the file.
    pub node: String,
    /// This node's addresses by the file.
    pub addresses: Vec<IpAddr>,
    /// The pod CIDRs of this node.
    pub own_cidrs: Vec<IpNetwork>,
    /// Those of the other nodes.
    pub remote_cidrs: Vec<IpNetwork>,
    /// Keys of the file that nothing reads, as a sentence.
    pub unread: Option<String>,
    /// Nodes that are left out, each with the reason.
    pub left_out: Vec<String>,
    /// What is to be changed.
    pub changes: Vec<Told>,
    /// What single peers lack, and no change mends.
    pub wanting: Vec<String>,
    /// What all peers lack, and no change mends.
    pub not_ready: Vec<String>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

/// Why a fabric was not compared.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// The configuration contradicts the peers file, or another network's. Else the
    /// kernel does not answer.
    pub of_configuration: bool,
    /// In words, of this network where they name nothing else.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}

/// What others have on this node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Surroundings {
    /// Chains that do not forward the pods' packets, or may not.
    pub barriers: Vec<Barrier>,
    /// The plugins that the configurations of our networks name.
    pub plugins: Vec<Plugin>,
    /// Daemons that look after links and lack a file that tells them to leave ours
    /// alone.
    pub daemons: Vec<Daemon>,
}

/// A chain that does not forward the pods' packets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Barrier {
    /// Packets are lost for certain.
    pub certain: bool,
    /// The hook that it is at; empty where the chain is not known.
    pub hook: String,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}

/// A plugin beside ours.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugin {
    /// Its type, as configurations name it.
    pub kind: String,
    /// The configuration that names it.
    pub file: PathBuf,
    /// What it is asked to speak there.
    pub offered: Vec<String>,
    /// Where it is.
    pub path: Option<PathBuf>,
    /// What it speaks.
    pub versions: Vec<String>,
    /// Why nothing is known of it, if so.
    pub problem: Option<String>,
}

/// A daemon that looks after links.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    /// What it is called.
    pub name: String,
    /// Files that it lacks.
    pub missing: Vec<PathBuf>,
    /// How it is told to read them.
    pub reload: String,
}

impl Kernel {
    /// A link by its index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// A parameter as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.sysctls.get(key)?.parse().ok()
    }

    /// The names of a route's devices.
    pub fn devices(&self, found: &Found) -> Vec<&str> {
        let links = found.devices.iter().filter_map(|index| self.link(*index));
        links.map(|link| link.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
