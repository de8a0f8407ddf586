// SPDX-License-Identifier: Apache-2.0
//! The same calls to the real host-local and to manx-ipam, each on a store of
//! its own: their answers and their files are to be the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::ground::{Ground, Program};
use crate::harness::{Plugin, Reply};

/// Versions with a result of their own.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Both stores, and what both programs are told.
#[derive(Clone, Debug)]
pub struct Twin {
    pub reference: Ground,
    pub ours: Ground,
    ipam: Value,
    keys: Vec<(String, Value)>,
    args: Option<String>,
}

impl Twin {
    /// Two empty stores for this IPAM section.
    pub fn new(ipam: Value) -> Self {
        let (reference, ours) = (Ground::new(), Ground::new());
        Self { reference, ours, ipam, keys: Vec::new(), args: None }
    }

    /// The same stores with another section.
    pub fn section(&self, ipam: Value) -> Self {
        Self { ipam, ..self.clone() }
    }

    /// The same stores with one more key in the configuration.
    pub fn key(&self, key: &str, value: Value) -> Self {
        let mut other = self.clone();
        other.keys.push((key.to_owned(), value));
        other
    }

    /// The same stores with CNI_ARGS.
    pub fn args(&self, args: &str) -> Self {
        Self { args: Some(args.to_owned()), ..self.clone() }
    }

    /// Writes the same file into both stores.
    pub fn write(&self, name: &str, content: &str) {
        self.reference.write(name, content);
        self.ours.write(name, content);
    }

    /// One of the programs.
    pub fn plugin(&self, program: Program) -> Plugin {
        let ground = if program == Program::Manx { &self.ours } else { &self.reference };
        let mut ipam = self.ipam.clone();
        ipam["type"] = "manx-ipam".into();
        ipam["dataDir"] = json!(ground.data_dir());
        let plugin = ground.ipam_plugin(program, &ipam);
        self.keys.iter().fold(plugin, |plugin, (key, value)| plugin.with(key, value.clone()))
    }

    fn call(&self, program: Program, verb: &str, id: &str, ifname: &str) -> Reply {
        let ground = if program == Program::Manx { &self.ours } else { &self.reference };
        let mut pod = ground.container(id, ifname);
        pod.args.clone_from(&self.args);
        self.plugin(program).call(verb).pod(&pod).run()
    }

    /// Calls both and compares; the answer is ours.
    #[track_caller]
    fn both(&self, verb: &str, id: &str, ifname: &str) -> Reply {
        let theirs = self.call(Program::HostLocal, verb, id, ifname);
        let ours = self.call(Program::Manx, verb, id, ifname);
        assert_eq!(theirs.succeeded(), ours.succeeded(), "{theirs:#?}\n{ours:#?}");
        if ours.succeeded() {
            assert_eq!(theirs.json, ours.json, "{} of {id}", self.ipam);
        } else {
            self.put_pointers_back();
        }
        assert_eq!(files(&self.reference), files(&self.ours), "after {verb}: {ours:#?}");
        ours
    }

    fn put_pointers_back(&self) {
        let ours = self.ours.files();
        for name in self.reference.files().keys().filter(|name| name.starts_with("last_")) {
            match ours.get(name) {
                Some(pointer) => self.reference.write(name, pointer),
                None => fs::remove_file(self.reference.store().join(name)).unwrap(),
            }
        }
    }

    /// An ADD that both answer alike.
    #[track_caller]
    pub fn add(&self, id: &str, ifname: &str) -> Value {
        self.both("ADD", id, ifname).ok()
    }

    /// An ADD that both refuse; our error. host-local has by then moved pointers,
    /// which are put back.
    #[track_caller]
    pub fn refused(&self, id: &str) -> Value {
        self.both("ADD", id, "eth0").error()
    }

    /// A DEL that both do.
    #[track_caller]
    pub fn del(&self, id: &str, ifname: &str) {
        self.both("DEL", id, ifname).ok();
    }
}

/// The files of a store with their contents and permissions.
fn files(ground: &Ground) -> BTreeMap<String, (String, u32)> {
    let mode =
        |name: &str| fs::metadata(ground.store().join(name)).unwrap().permissions().mode() & 0o777;
    let mut files: BTreeMap<String, (String, u32)> = ground
        .files()
        .into_iter()
        .map(|(name, content)| (name.clone(), (content, mode(&name))))
        .collect();
    if ground.store().exists() {
        files.insert(".".into(), (String::new(), mode(".")));
    }
    files
}
