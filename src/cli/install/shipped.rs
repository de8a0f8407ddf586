// SPDX-License-Identifier: Apache-2.0
//! The configuration of a node that has none: the shipped one, with the versions
//! that the portmap of this node speaks. Debian 12's, for one, fails each ADD and
//! DEL of a newer version.

use std::path::Path;

use crate::{
    cli::validate::versions,
    cni::{Delegate, Version},
    list::Gather,
};

/// Its name, and what it says.
pub(super) const DEFAULT: (&str, &str) =
    ("10-manx.conflist", include_str!("../../../conf/10-manx.conflist"));

/// The plugin behind us in it.
const CHAINED: &str = "portmap";

/// The versions that it offers, oldest first.
const OFFERED: [Version; 2] = [Version::V1_0_0, Version::V1_1_0];

/// The text for the plugins of a directory, and what is to be said of it.
pub(super) fn for_plugins(directory: &Path) -> (String, Option<String>) {
    let text = DEFAULT.1.to_owned();
    let path = [directory.to_owned()];
    // One that is not there yet is told as missing; it may be a newer one.
    let Some(spoken) = Delegate::find(CHAINED, &path).and_then(|it| versions(&it, &path)).ok()
    else {
        return (text, None);
    };
    let kept: Vec<Version> = OFFERED.into_iter().filter(|it| spoken.contains(it)).gather();
    let oldest = spoken.iter().max().filter(|version| **version >= Version::V0_3_1).copied();
    let Some(first) = kept.first().copied().or(oldest).filter(|_| kept != OFFERED) else {
        return (text, None);
    };
    let list = |versions: &[Version]| {
        let quoted = versions.iter().map(|version| format!("{:?}", version.as_str()));
        format!("[{}]", quoted.gather().join(", "))
    };
    let kept = if kept.is_empty() { vec![first] } else { kept };
    let text = text
        .replace(
            &format!("\"cniVersions\": {}", list(&OFFERED)),
            &format!("\"cniVersions\": {}", list(&kept)),
        )
        .replace("\"cniVersion\": \"1.0.0\"", &format!("\"cniVersion\": {:?}", first.as_str()));
    let told = format!(
        "{} speaks no newer CNI version than {}: the configuration offers no newer one, and \
         runtimes then call neither GC nor STATUS; install a newer {CHAINED}, then write {} for \
         cniVersions",
        directory.join(CHAINED).display(),
        spoken.iter().max().copied().unwrap_or(first),
        list(&OFFERED)
    );
    (text, Some(told))
}
