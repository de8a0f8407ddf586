// SPDX-License-Identifier: Apache-2.0
//! The plugin of this node may be of another version than the agent. Pure.

use std::path::PathBuf;

use crate::node::version::{Identity, Plugin, VERSION};

/// The form of the peers file that a plugin reads of which nothing is known: the first one.
const UNKNOWN_READS: u32 = 1;

/// What is known of the plugin.
pub(super) struct Known {
    /// What it noted, or who installed it.
    pub(super) noted: Option<Plugin>,
    /// What is installed, if the agent can see that.
    pub(super) installed: Vec<(PathBuf, Identity)>,
    /// What that says, where the note is not of it.
    pub(super) said: Option<Plugin>,
}

impl Known {
    fn sure(&self) -> Option<&Plugin> {
        let noted = self.noted.as_ref().filter(|plugin| !plugin.is_gone_from(&self.installed));
        noted.or(self.said.as_ref())
    }

    /// Whether its version is known.
    pub(super) fn is_sure(&self) -> bool {
        self.sure().is_some()
    }

    /// The newest form of the peers file that it reads.
    pub(super) fn reads(&self) -> u32 {
        self.sure().map_or(UNKNOWN_READS, |plugin| plugin.schemas.peers)
    }

    /// Why no pods may come to a node that has none yet, where its peers file is of this form:
    /// each of them would fail.
    pub(super) fn hindrance(&self, form: u32) -> Option<String> {
        match self.sure() {
            Some(plugin) if plugin.schemas.peers < form => Some(format!(
                "the plugin of this node is manx {}, which cannot read the peers file that is there; \
                 fix: install manx {VERSION} here",
                plugin.version
            )),
            Some(_) => None,
            // Every version reads it.
            None if form <= UNKNOWN_READS => None,
            None => Some(format!(
                "it is not known whether the plugin of this node reads the peers file, for {}; fix: \
                 run manx install there at each boot, or let the agent see the directory of plugins \
                 (--plugin-dir)",
                self.doubt()
            )),
        }
    }

    /// Why a peers file of this form is not written in place of one of the form `held`: the
    /// plugin could not read it, and no pod would start.
    pub(super) fn refusal(&self, form: u32, held: u32) -> Option<String> {
        let words = match self.sure() {
            Some(Plugin { version, schemas, .. }) if schemas.peers < form => format!(
                "the plugin of this node is manx {version}, which reads peers files of form {} and \
                 none of form {form}: it stays as it is until manx {VERSION} is installed",
                schemas.peers
            ),
            // Whoever reads the one that is there reads the next one.
            None if UNKNOWN_READS < form && held < form => format!(
                "the plugin of this node may be of a version that reads no peers file of form \
                 {form}, for {}: it stays as it is until manx {VERSION} is installed",
                self.doubt()
            ),
            _ => return None,
        };
        Some(format!(
            "{words} here, and has noted that in /run/manx/plugin.json (manx install does, and the \
             plugin itself when it is called)"
        ))
    }

    /// Why the version is not known.
    fn doubt(&self) -> String {
        match (&self.noted, self.installed.first()) {
            (Some(Plugin { version, .. }), Some((path, _))) => format!(
                "{} is another program than the one that noted itself as manx {version}",
                path.display()
            ),
            _ => "none has noted its version since boot, as 0.1.1 and earlier do not".to_owned(),
        }
    }

    /// That they differ, or may.
    pub(super) fn remark(&self) -> Option<String> {
        let what = match self.sure() {
            None => {
                format!("the version of the plugin of this node is not known: {}", self.doubt())
            }
            Some(plugin) if plugin.version != VERSION => {
                format!(
                    "the plugin of this node is manx {}, and its agent {VERSION}",
                    plugin.version
                )
            }
            Some(_) => return None,
        };
        Some(format!(
            "version-skew: {what}: the agent's pod installs its own version when it starts"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::version::Schemas;

    const FILE: Identity = Identity { inode: 7, modified: 70 };
    const OTHER: Identity = Identity { inode: 8, modified: 80 };

    fn plugin(version: &str, peers: u32) -> Option<Plugin> {
        let version = version.to_owned();
        Some(Plugin { version, schemas: Schemas { peers }, file: Some(FILE) })
    }

    fn known(noted: Option<Plugin>, installed: &[Identity]) -> Known {
        let path = PathBuf::from("/opt/cni/bin/manx");
        let installed = installed.iter().map(|file| (path.clone(), *file)).collect();
        Known { noted, installed, said: None }
    }

    #[test]
    fn a_plugin_gets_no_file_that_is_newer_than_it_reads() {
        // Whether or not what is installed can be seen: the same, a newer and an older one.
        for seen in [&[][..], &[FILE], &[OTHER, FILE]] {
            let same = known(plugin(VERSION, 2), seen);
            assert_eq!((same.refusal(2, 1), same.remark()), (None, None));
            let upgraded = known(plugin("9.0.0", 7), seen);
            assert_eq!(upgraded.refusal(2, 1), None);
            assert!(upgraded.remark().unwrap().contains("9.0.0"));
            let older = known(plugin("0.0.1", 1), seen);
            assert_eq!(older.refusal(1, 1), None);
            let words = older.refusal(2, 2).unwrap();
            assert!(words.contains("manx 0.0.1") && words.contains("none of form 2"), "{words}");
        }
    }

    /// One that notes nothing, and one in the place of one that did.
    #[test]
    fn a_plugin_of_which_nothing_is_known_gets_what_every_version_reads() {
        for (noted, installed, why) in [
            (None, &[][..], "none has noted"),
            (None, &[OTHER], "none has noted"),
            (plugin(VERSION, 2), &[OTHER], "another program than the one that noted itself"),
        ] {
            let unknown = known(noted, installed);
            assert_eq!(unknown.refusal(1, 1), None);
            let words = unknown.refusal(2, 1).unwrap();
            assert!(words.contains(why) && words.contains("manx install"), "{words}");
            assert!(unknown.remark().unwrap().contains(why));
            assert!(unknown.hindrance(2).unwrap().contains(why));
            assert_eq!(unknown.hindrance(1), None, "every version reads it");
            assert_eq!(unknown.refusal(2, 2), None, "it has one of that form");
            let asked = Known { said: plugin(VERSION, 2), ..unknown };
            assert_eq!(
                (asked.refusal(2, 1), asked.remark(), asked.hindrance(2)),
                (None, None, None)
            );
            let older = Known { said: plugin("0.1.0", 1), ..asked };
            assert!(older.refusal(2, 1).unwrap().contains("manx 0.1.0"));
            assert!(older.hindrance(2).unwrap().contains("manx 0.1.0"));
            assert_eq!(older.hindrance(1), None);
        }
    }
}
