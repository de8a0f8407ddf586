// SPDX-License-Identifier: Apache-2.0
//! What is known of the plugin of this node: what was noted of it, else what it says itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::skew::Known;
use crate::{
    cni::printed,
    node::version::{self, Identity, Plugin, Schemas},
    state::Root,
    text::json,
};

/// A program says its version within milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
/// How soon one that said nothing is asked again.
const AGAIN: Duration = Duration::from_secs(60);

/// The plugin of this node, which may not be there to be seen.
#[derive(Debug)]
pub(super) struct Installed {
    root: Root,
    directory: PathBuf,
    said: Mutex<Option<Said>>,
    /// The newest form of the peers file that it reads, as far as that was known last.
    reads: AtomicU32,
}

/// What the program says that was asked last.
#[derive(Debug)]
struct Said {
    file: Identity,
    asked: Instant,
    answer: Option<Plugin>,
}

impl Installed {
    pub(super) fn in_directory(root: &Root, directory: &Path) -> Self {
        Self {
            root: root.clone(),
            directory: directory.to_owned(),
            said: Mutex::default(),
            reads: AtomicU32::default(),
        }
    }

    /// What is known of it now.
    pub(super) fn known(&self) -> Known {
        let installed = version::installed(&self.directory);
        let mut known = Known { noted: version::noted(&self.root), installed, said: None };
        if !known.is_sure() {
            known.said = known.installed.first().and_then(|(path, file)| self.ask(path, *file));
        }
        if known.is_sure() {
            self.reads.store(known.reads(), Ordering::Relaxed);
        }
        known
    }

    /// Takes for granted that it reads peers files of this form, as the one is that is there:
    /// that holds until more is known of it.
    pub(super) fn has_read(&self, form: u32) {
        self.reads.fetch_max(form, Ordering::Relaxed);
    }

    /// Whether it reads peers files of this form, by what was known last: no disk is waited for.
    pub(super) fn reads(&self, form: u32) -> bool {
        self.reads.load(Ordering::Relaxed) >= form
    }

    /// Asks a program, once.
    fn ask(&self, path: &Path, file: Identity) -> Option<Plugin> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |said: &&Said| {
            said.file == file && (said.answer.is_some() || said.asked.elapsed() < AGAIN)
        };
        if let Some(known) = said.as_ref().filter(is_known) {
            return known.answer.clone();
        }
        let answer = printed(Command::new(path).args(["version", "--json"]).env_clear(), LIMIT)
            .and_then(|text| read(&text));
        *said = Some(Said { file, asked: Instant::now(), answer: answer.clone() });
        answer
    }
}

/// What `manx version --json` prints.
fn read(text: &[u8]) -> Option<Plugin> {
    let said: Value = serde_json::from_slice(text).ok()?;
    let version = said.get("version")?.as_str()?;
    let schemas = said.get("schemas").map(|schemas| json::of_value(schemas.clone()));
    let schemas = match schemas {
        Some(schemas) => schemas.ok()?,
        // 0.1.1 and earlier say nothing of forms, and read the first alone.
        None => Schemas { peers: 1 },
    };
    Some(Plugin { version: version.to_owned(), schemas, file: None })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process};

    use super::*;

    #[test]
    fn every_version_says_what_it_reads() {
        for (text, expected) in [
            (r#"{"version": "0.1.0", "revision": null, "cniVersions": ["1.0.0"]}"#, Some(1)),
            (r#"{"version": "0.1.1"}"#, Some(1)),
            (r#"{"version": "0.2.0", "schemas": {"peers": 7, "others": 1}}"#, Some(7)),
            (r#"{"version": "0.2.0", "schemas": 2}"#, None),
            (r#"{"version": "0.2.0", "schemas": [7]}"#, None),
            (r#"{"version": 2}"#, None),
            ("manx 0.2.0", None),
        ] {
            let said = read(text.as_bytes());
            assert_eq!(said.map(|plugin| plugin.schemas.peers), expected, "{text}");
        }
    }

    /// What is known no more, as of a plugin that was exchanged, reads what the one before did.
    #[test]
    fn what_a_plugin_reads_holds_until_more_is_known() {
        let nowhere = Path::new("/nonexistent");
        let installed = Installed::in_directory(&Root::new(nowhere), nowhere);
        assert!(!installed.reads(3));
        installed.has_read(3);
        assert!(!installed.known().is_sure());
        assert!(installed.reads(3) && !installed.reads(4));
        installed.has_read(2);
        assert!(installed.reads(3));
    }

    #[test]
    fn a_program_is_asked_where_nothing_is_noted() {
        let root = std::env::temp_dir().join(format!("manx-plugin-{}", process::id()));
        let directory = root.join("bin");
        fs::create_dir_all(&directory).unwrap();
        let installed = Installed::in_directory(&Root::new(&root), &directory);
        assert!(!installed.known().is_sure(), "there is none");
        let put = |version: &str| {
            let script = format!("#!/bin/sh\necho '{{\"version\": \"{version}\"}}'\n");
            fs::write(directory.join("new"), script).unwrap();
            fs::set_permissions(directory.join("new"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(directory.join("new"), directory.join("manx")).unwrap();
        };
        put("0.1.0");
        assert_eq!(installed.known().said.unwrap().version, "0.1.0");
        assert!(installed.known().is_sure());
        // Another program in its place, and one that is none.
        put("0.1.1");
        assert_eq!(installed.known().said.unwrap().version, "0.1.1");
        fs::write(directory.join("new"), "of long ago").unwrap();
        fs::rename(directory.join("new"), directory.join("manx")).unwrap();
        assert!(!installed.known().is_sure());
        fs::remove_dir_all(root).unwrap();
    }
}
