// SPDX-License-Identifier: Apache-2.0
//! What calico-node left of its eBPF data plane, by its names: files of the kernel that keep
//! programs and maps, and programs at the links of pods. Whether the host sees those files
//! depends on who mounted them.

use std::{collections::BTreeSet, fs};

use super::site::{Former, HOST_LINK};
use crate::{
    list::Gather,
    net::{Error, Socket, classifier, link::Link},
    state::Root,
};

/// Where they are kept, and what their names begin with.
const KEPT: [&str; 4] =
    ["/sys/fs/bpf", "/sys/fs/bpf/tc/globals", "/sys/fs/bpf/ctlb", "/sys/fs/bpf/tcx"];
const PREFIX: &str = "cali";
/// A directory of Felix's, which is there without that data plane as well.
const SHARED: &str = "calico";

/// # Errors
/// Of the kernel's answers.
pub(super) fn read(former: Former, links: &[Link], root: &Root) -> Result<Vec<String>, Error> {
    if former != Former::Calico {
        return Ok(Vec::new());
    }
    let mut found = BTreeSet::new();
    for directory in KEPT {
        let files = fs::read_dir(root.path(directory)).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let own = names.filter(|name| name.starts_with(PREFIX) && name != SHARED);
        found.extend(own.map(|name| format!("{directory}/{name}")));
    }
    let mut host = Socket::open()?;
    for link in links.iter().filter(|link| link.name.starts_with(HOST_LINK)) {
        let names = classifier::names(&mut host, link.index)?;
        let own = names.iter().filter(|name| name.contains(PREFIX));
        found.extend(own.map(|name| format!("{name} at {}", link.name)));
    }
    Ok(found.into_iter().gather())
}
