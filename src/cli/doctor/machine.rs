// SPDX-License-Identifier: Apache-2.0
//! What the kernel of this node can do, beside what it does: its modules, and what its
//! devices leave to the hardware.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    cni::printed,
    doctor::{RELEASE, mangles_checksums},
    list::{Gather, distinct},
    node::{Module, Snapshot},
    state::{Root, file::TEXT_BYTES_MAX, read_text},
};

/// Where lists of modules are, by release of the kernel.
const MODULES: &str = "/lib/modules";
/// What the kernel has, built in (where it has parameters) or loaded.
const LOADED: &str = "/sys/module";
/// The masquerade's.
const CONNTRACK: &str = "nf_conntrack";

/// One that takes longer hangs.
const TOOL_LIMIT: Duration = Duration::from_millis(500);

/// What ethtool calls the checksum of packets that a device sends.
const CHECKSUM: &str = "tx-checksum-ip-generic:";

/// Notes what our networks ask of the kernel.
pub(super) fn look(root: &Root, snapshot: &mut Snapshot) {
    let networks = snapshot.networks.iter();
    let of_tunnels = networks.filter_map(|network| network.fabric.as_ref()?.module.clone());
    let names: Vec<String> = of_tunnels.chain([CONNTRACK.to_owned()]).gather();
    let names = distinct(names);
    let release = snapshot.kernel.sysctls.get(RELEASE).cloned().unwrap_or_default();
    let lists = ["modules.builtin", "modules.dep"].map(|list| {
        let path = root.path(MODULES).join(&release).join(list);
        read_text(&path, TEXT_BYTES_MAX).ok()
    });
    snapshot.surroundings.modules = names.into_iter().map(|name| module(name, &lists)).gather();
    // A newer one does not have the fault that this is asked for.
    if mangles_checksums(&release) {
        let tunnels = snapshot.kernel.links.iter().filter(|link| link.vxlan.is_some());
        let offloads = tunnels.filter_map(|link| Some((link.name.clone(), offload(&link.name)?)));
        snapshot.surroundings.offloads = offloads.gather();
    }
}

/// By the lists of what is built in and of what there are files of.
fn module(name: String, [builtin, files]: &[Option<String>; 2]) -> Module {
    let named = |list: &Option<String>| {
        list.as_ref().map(|text| text.lines().any(|line| is_line_of(line, &name)))
    };
    let loaded = Path::new(LOADED);
    // Where nothing can be seen, nothing is said.
    let unseen = !loaded.is_dir();
    let here = unseen || loaded.join(&name).exists() || named(builtin) == Some(true);
    Module { here, installed: named(files), name }
}

/// Lines are `kernel/net/ipv4/ipip.ko.zst: …`.
fn is_line_of(line: &str, module: &str) -> bool {
    let file = line.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    file.split('.').next().is_some_and(|name| name.replace('-', "_") == module)
}

/// Whether a device leaves checksums to the hardware; none where nobody tells.
fn offload(device: &str) -> Option<bool> {
    let text = printed(Command::new("ethtool").args(["-k", device]), TOOL_LIMIT)?;
    of_features(&String::from_utf8_lossy(&text))
}

fn of_features(text: &str) -> Option<bool> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.trim().strip_prefix(CHECKSUM))?;
    Some(value.trim_start().starts_with("on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_the_lists_of_their_files() {
        let builtin = Some("kernel/net/ipv4/ip_tunnel.ko\nkernel/net/x/manx-here.ko\n".to_owned());
        let files =
            Some("kernel/net/ipv4/ipip.ko.zst: kernel/net/ipv4/tunnel4.ko.zst\n".to_owned());
        let lists = [builtin, files];
        for (name, here, installed) in [
            ("ipip", false, Some(true)),
            ("tunnel4", false, Some(false)),
            ("manx_here", true, Some(false)),
            ("manx_gone", false, Some(false)),
        ] {
            // Whatever this kernel has loaded.
            let found = module(name.to_owned(), &lists);
            let loaded = Path::new(LOADED).join(name).exists();
            assert_eq!((found.here, found.installed), (here || loaded, installed), "{name}");
        }
        assert_eq!(module("manx_gone".to_owned(), &[None, None]).installed, None);
    }

    #[test]
    fn what_ethtool_tells_is_read() {
        let text = "Features for vxlan.calico:\nrx-checksumming: on\n\
                    \ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: on\n";
        assert_eq!(of_features(text), Some(true));
        assert_eq!(of_features(&text.replace("generic: on", "generic: off [fixed]")), Some(false));
        assert_eq!(of_features(""), None);
    }
}
