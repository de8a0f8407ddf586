// SPDX-License-Identifier: Apache-2.0
//! What others have on a node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load::{Denied, Load};
use crate::family::Family;

/// What others have on this node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Surroundings {
    /// Chains that do not forward the pods' packets, or may not.
    pub barriers: Vec<Barrier>,
    /// The plugins that the configurations of our networks name.
    pub plugins: Vec<Plugin>,
    /// A program that is installed as the plugin, and is another than the one that noted its
    /// version, with that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchanged: Option<(PathBuf, String)>,
    /// Daemons that look after links and lack a file that tells them to leave ours
    /// alone.
    pub daemons: Vec<Daemon>,
    /// Tables with chains of Calico's agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calico_chains: Vec<String>,
    /// How many packets had come by another device than the way back to their source, and
    /// were dropped, at two moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<(u64, u64)>,
    /// What the kernel had counted at the same two moments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<(Counters, Counters)>,
    /// What files of sysctl.d say of the network's parameters, in the order in which they
    /// are applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assignments: Vec<Assignment>,
    /// The memory of the machine, in bytes; 0 where that is not known.
    pub memory_bytes: u64,
    /// What the node had to do at them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<(Load, Load)>,
    /// Base chains from which a packet may meet many rules of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub walks: Vec<Walk>,
    /// Modules of the kernel that our networks need.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
    /// Whether devices of tunnels leave checksums to the hardware, where that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offloads: Vec<(String, bool)>,
    /// How many chains have policies of Calico's agent.
    #[serde(skip_serializing_if = "is_none")]
    pub policy_chains: usize,
    /// The agent of the cluster on this node, where one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// Whether network policies are enforced.
    pub enforces_policy: bool,
    /// Whether somebody has said since boot which of them are about which pods; none where that
    /// cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies_said: Option<bool>,
    /// Whether an agent enforced them since boot, and did not end that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policies_kept: bool,
    /// Tables with rules that give packets another destination; looked for by explain and
    /// bundle alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub translations: Vec<Translation>,
    /// What is enforced; looked for by explain and bundle alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<HeldPolicies>,
}

/// The table of network policies, and which policies it is made of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldPolicies {
    /// What its sets hold in the kernel, as
    /// [`Policies::encode`](crate::policy::Policies::encode) has it.
    pub sets: Value,
    /// The pods of this node of which it is known which policies are about them.
    pub pods: Vec<IsolatedPod>,
    /// What was dropped, of pods of which anything was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
}

/// A pod, and the policies of its namespace that isolate it in each direction.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IsolatedPod {
    /// Its namespace and its name.
    pub name: String,
    /// As far as it is a source.
    pub egress: Vec<String>,
    /// As far as it is a destination.
    pub ingress: Vec<String>,
}

/// A table with rules that give packets another destination.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Translation {
    /// Its family and its name.
    pub table: String,
    /// How many such rules it has.
    pub rules: usize,
}

/// An agent that runs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Agent {
    /// Whether pods may come to this node, as it says; none where it did not answer.
    pub ready: Option<bool>,
    /// What it says, or why it did not.
    pub says: String,
}

/// Counters of the kernel that only grow, each the sum of all processors.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Connections that another one with the same addresses and ports was before.
    pub insert_failed: u64,
    /// Packets whose connections found no room in the table.
    pub dropped: u64,
    /// Connections that had to go for new ones.
    pub early_dropped: u64,
    /// Packets for which a processor's queue had no room.
    pub backlog_dropped: u64,
    /// How often a processor had to leave packets in its queue for lack of time.
    pub squeezed: u64,
}

/// A line of a file of sysctl.d.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Assignment {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The parameter, as a path below /proc/sys, in which stars may stand.
    pub key: String,
    /// The value; none where patterns are not to set the parameter.
    pub value: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// How many rules a packet may meet from a base chain on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Walk {
    /// The chain with its table.
    pub chain: String,
    /// All of them.
    pub rules: u64,
    /// The longest chain on the way.
    pub longest: String,
    /// How many of them it has.
    pub of_longest: u64,
}

/// A module of the kernel.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Whether the kernel has it, built in or loaded.
    pub here: bool,
    /// Whether there is a file of it; none where no list of them can be read.
    pub installed: Option<bool>,
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
    /// What takes that back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub undo: String,
    /// The families of packets that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// The ways that are closed to them for certain, by whatever link.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<Direction>,
    /// Those that are closed by single links, and open by others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<ClosedLink>,
}

impl Barrier {
    /// Whether packets of a family are lost for certain that go this way by these links.
    pub fn closes(&self, family: Family, way: Direction, links: &[&str]) -> bool {
        let by_link =
            |one: &ClosedLink| one.closed.contains(&way) && links.contains(&one.device.as_str());
        let by_any = self.closed.contains(&way);
        self.families.contains(&family) && (by_any || self.links.iter().any(by_link))
    }
}

/// A link by which packets of pods do not pass a chain.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClosedLink {
    /// Its name.
    pub device: String,
    /// The ways that are closed for certain.
    pub closed: Vec<Direction>,
}

/// A way that packets of pods take.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From one pod of this node to another.
    Between,
    /// From a pod of this node to elsewhere.
    Out,
    /// What a pod of this node is answered from elsewhere.
    Answers,
    /// From elsewhere to a pod of this node.
    In,
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
    /// It was asked what it speaks, and had not answered when no longer was waited: how long
    /// that was, and what it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
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
