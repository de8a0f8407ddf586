// SPDX-License-Identifier: Apache-2.0
//! An IPAM plugin that the test writes: a shell script that notes how it was
//! called and answers what it was told to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::Scratch;

const SCRIPT: &str = r#"#!/bin/sh
# Notes the call in DIR, then does what DIR/VERB.* say.
dir='@DIR@'
conf=$(cat)
printf %s "$conf" >"$dir/$CNI_COMMAND.stdin"
env >"$dir/$CNI_COMMAND.env"
[ -f "$dir/$CNI_COMMAND.sh" ] && . "$dir/$CNI_COMMAND.sh"
echo "$CNI_COMMAND" >>"$dir/log"
[ -f "$dir/$CNI_COMMAND.err" ] && cat "$dir/$CNI_COMMAND.err" >&2
[ -f "$dir/$CNI_COMMAND.out" ] && cat "$dir/$CNI_COMMAND.out"
[ -f "$dir/$CNI_COMMAND.status" ] && exit "$(cat "$dir/$CNI_COMMAND.status")"
exit 0
"#;

/// The script and its notes.
#[derive(Clone, Debug)]
pub struct ScriptIpam {
    dir: PathBuf,
}

impl ScriptIpam {
    /// Writes the script `name` into `bin`. It answers ADD with one address and
    /// a default route, and the other verbs with success.
    pub fn new(scratch: &Scratch, bin: &Path, name: &str) -> Self {
        let dir = scratch.dir(&format!("notes-{name}-{}", bin.display()).replace('/', "_"));
        let text = SCRIPT.replace("@DIR@", &dir.display().to_string());
        scratch.script(bin.join(name).to_str().expect("a path of ASCII"), &text);
        let ipam = Self { dir };
        ipam.answers("ADD", &Self::result());
        ipam
    }

    /// A result of version 1.1.0 as IPAM plugins give it: no interfaces.
    pub fn result() -> Value {
        json!({
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.244.9.2/24", "gateway": "10.244.9.1"}],
            "routes": [{"dst": "0.0.0.0/0"}],
        })
    }

    /// Makes a verb succeed with this document.
    pub fn answers(&self, verb: &str, result: &Value) {
        self.put(verb, "out", &result.to_string());
        self.put(verb, "status", "0");
    }

    /// Makes a verb fail with this code and message.
    pub fn fails(&self, verb: &str, code: u32, msg: &str) {
        self.put(
            verb,
            "out",
            &json!({"cniVersion": "1.1.0", "code": code, "msg": msg}).to_string(),
        );
        self.put(verb, "status", "1");
    }

    /// Makes a verb write this to stderr.
    pub fn complains(&self, verb: &str, text: &str) {
        self.put(verb, "err", text);
    }

    /// Makes a verb run this shell text first.
    pub fn does(&self, verb: &str, shell: &str) {
        self.put(verb, "sh", shell);
    }

    /// The verbs called so far, in order.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    /// The environment of the last call of a verb.
    pub fn env(&self, verb: &str) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.dir.join(format!("{verb}.env"))).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The standard input of the last call of a verb.
    pub fn stdin(&self, verb: &str) -> Value {
        let text = fs::read_to_string(self.dir.join(format!("{verb}.stdin"))).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn put(&self, verb: &str, what: &str, text: &str) {
        let path = self.dir.join(format!("{verb}.{what}"));
        fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
}
