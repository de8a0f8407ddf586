//! What others have on a node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
