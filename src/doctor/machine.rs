// SPDX-License-Identifier: Apache-2.0
//! Checks of what the kernel can do that is asked of it.

use super::{Answer, Seen};
use crate::{
    list::{Gather, Ordered, PushAll},
    node::{Module, Snapshot},
    object::{Action, Kind},
    text::shell::quoted,
};

/// The kernel's release, as a parameter.
pub const RELEASE: &str = "kernel/osrelease";
/// Whether it takes no more modules. One that takes none at all does not have it.
pub const MODULES_DISABLED: &str = "kernel/modules_disabled";

/// From this release on the kernel leaves the checksum of a packet alone that has none and
/// whose source is translated; before, what VXLAN carried came with a wrong one
/// ("netfilter: nat: never update the UDP checksum when it's 0").
const CHECKSUMS: (u32, u32) = (5, 7);

const VXLAN: &str = "vxlan";
const IPIP: &str = "ipip";

/// Whether a kernel of this release may spoil checksums of tunnels; not, where it cannot
/// be read.
pub fn mangles_checksums(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next()?.parse::<u32>().ok();
    let read = next().zip(next());
    read.is_some_and(|read| read < CHECKSUMS)
}

/// The modules of the tunnels of our networks.
fn carriers(snapshot: &Snapshot) -> Vec<&str> {
    let networks = snapshot.networks.iter();
    networks.filter_map(|network| network.fabric.as_ref()?.module.as_deref()).gather()
}

pub(super) fn tunnel_offload(snapshot: &Snapshot) -> Answer {
    if !carriers(snapshot).contains(&VXLAN) {
        return Err("no network has tunnels of VXLAN".to_owned());
    }
    let surroundings = &snapshot.surroundings;
    let mut seen = Vec::new();
    let release = snapshot.kernel.sysctls.get(RELEASE).map(String::as_str).unwrap_or_default();
    let on = surroundings.offloads.iter().filter(|(_, on)| *on && mangles_checksums(release));
    seen.push_all(on.map(|(device, _)| {
        let evidence = format!(
            "it leaves checksums to the hardware, and kernel {release} spoils those of packets whose \
             source is translated: before 5.7 they are dropped where they arrive"
        );
        let set = |value| format!("ethtool -K {} tx-checksum-ip-generic {value}", quoted(device));
        Seen::warning(format!("link {device}"), evidence).fix(set("off")).undo(set("on"))
    }));
    let counted = surroundings.load.as_ref();
    let pair =
        counted.and_then(|(one, other)| Some((one.wrong_checksums?, other.wrong_checksums?)));
    let (before, after) = pair.unwrap_or_default();
    let wrong = after.saturating_sub(before);
    if wrong > 0 {
        let tunnels = snapshot.kernel.links.iter().filter(|link| link.vxlan.is_some());
        let tunnel = tunnels.map(|link| link.name.as_str()).next().unwrap_or(VXLAN);
        let word = quoted(tunnel);
        let evidence = format!(
            "{wrong} packets of UDP, which carries it, came with a wrong checksum in a moment, {after} \
             since boot: on the node that sends them a network card or an old kernel spoils them"
        );
        let fix = format!(
            "on the nodes that send: ethtool -K {word} tx-checksum-ip-generic off # at each boot"
        );
        let undo = format!("ethtool -K {word} tx-checksum-ip-generic on # there");
        seen.push(Seen::warning(format!("link {tunnel}"), evidence).fix(fix).undo(undo));
    }
    Ok(seen)
}

/// A module is loaded when a device is made that needs it, unless it cannot be.
pub(super) fn module_missing(snapshot: &Snapshot) -> Answer {
    let mut wanted: Vec<(&str, String)> = Vec::new();
    for network in &snapshot.networks {
        let Some(fabric) = &network.fabric else { continue };
        let Some(module) = fabric.module.as_deref() else { continue };
        let is_made = |link: &crate::net::link::Link| link.kind.as_deref() == Some(module);
        let lacks =
            fabric.changes.iter().any(|it| it.kind == Kind::Link && it.action == Action::Create);
        if lacks && !snapshot.kernel.links.iter().any(is_made) {
            wanted.push((module, format!("network {} has its tunnels of it", network.name)));
        }
    }
    let masquerades = snapshot.networks.iter().find(|network| network.masquerades);
    let tracks = snapshot.kernel.sysctls.contains_key("net/netfilter/nf_conntrack_max");
    if let Some(network) = masquerades.filter(|_| !tracks) {
        wanted.push(("nf_conntrack", format!("network {} is masqueraded by it", network.name)));
    }
    wanted.order();
    wanted.dedup_by_key(|(module, _)| *module);
    let seen = wanted.into_iter().filter_map(|(name, why)| {
        let module = snapshot.surroundings.modules.iter().find(|module| module.name == name)?;
        missing(module, &why, snapshot)
    });
    Ok(seen.gather())
}

fn missing(module: &Module, why: &str, snapshot: &Snapshot) -> Option<Seen> {
    let Module { name, here, installed } = module;
    let takes = snapshot.kernel.sysctls.get(MODULES_DISABLED).map(String::as_str);
    let release = snapshot.kernel.sysctls.get(RELEASE).map(String::as_str).unwrap_or_default();
    if *here {
        return None;
    }
    let (what, fix) = match (takes, installed) {
        (None, _) => (
            format!("kernel {release} takes no modules, and has it not built in"),
            format!("a kernel with {name}{}", instead(name)),
        ),
        (Some("1"), _) => (
            "it is not loaded, and kernel.modules_disabled is 1".to_owned(),
            format!("echo {name} > /etc/modules-load.d/manx.conf, then reboot"),
        ),
        (Some(_), Some(false)) => (
            format!(
                "kernel {release} has it not, and there is no file of it in /lib/modules/{release}"
            ),
            format!(
                "package linux-modules-extra-{release} on Ubuntu, kernel-modules-extra on Fedora and \
                 RHEL, linux-image-amd64 rather than the cloud image on Debian; then modprobe {name}{}",
                instead(name)
            ),
        ),
        // It is loaded when it is asked for.
        (Some(_), Some(true) | None) => return None,
    };
    Some(Seen::error(format!("module {name}"), format!("{why}: {what}")).fix(fix))
}

/// What does without it.
fn instead(module: &str) -> &'static str {
    match module {
        IPIP => "; or \"mode\": \"vxlan\" on every node",
        VXLAN => "; or \"mode\": \"direct\" on every node, where nodes share a subnet",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::Severity,
        net::link::Link,
        node::{Fabric, Load, Network},
        object::Told,
    };

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, before) in [
            ("5.4.0-190-generic", true),
            ("5.6.19", true),
            ("4.18.0-553.el8_10.x86_64", true),
            ("5.7", false),
            ("5.10.0-30-amd64", false),
            ("6.18.44-fc-v657", false),
            ("", false),
            ("new", false),
            ("99999999999.1", false),
        ] {
            assert_eq!(mangles_checksums(release), before, "{release}");
        }
    }

    /// With tunnels of a module whose device has to be made.
    fn node(module: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let change = Told {
            kind: Kind::Link,
            action: Action::Create,
            object: "link tunl0".into(),
            before: None,
            after: Some("ipip".into()),
        };
        let module = Some(module.to_owned());
        let fabric = Some(Fabric { module, changes: vec![change], ..Fabric::default() });
        snapshot.networks =
            vec![Network { name: "net".into(), fabric, masquerades: true, ..Network::default() }];
        let sysctls =
            [(RELEASE, "6.1.0"), (MODULES_DISABLED, "0"), ("net/netfilter/nf_conntrack_max", "9")];
        snapshot.kernel.sysctls = sysctls.map(|(key, value)| (key.into(), value.into())).into();
        snapshot
    }

    #[test]
    fn a_module_is_missing_where_nothing_can_load_it() {
        for (disabled, here, installed, words) in [
            (Some("0"), false, Some(false), "no file of it"),
            (Some("1"), false, Some(true), "modules_disabled is 1"),
            (Some("1"), false, None, "modules_disabled is 1"),
            (None, false, None, "takes no modules"),
            (Some("0"), false, Some(true), ""),
            (Some("0"), false, None, ""),
            (Some("0"), true, Some(false), ""),
            (None, true, None, ""),
        ] {
            for name in [IPIP, VXLAN] {
                let mut snapshot = node(name);
                let module = |name: &str| Module { name: name.into(), here, installed };
                snapshot.surroundings.modules = vec![module(name), module("nf_conntrack")];
                match disabled {
                    Some(value) => {
                        snapshot.kernel.sysctls.insert(MODULES_DISABLED.into(), value.into())
                    }
                    None => snapshot.kernel.sysctls.remove(MODULES_DISABLED),
                };
                let seen = module_missing(&snapshot).unwrap();
                let told: Vec<_> = seen.iter().map(|one| one.object.as_str()).collect();
                if words.is_empty() {
                    assert_eq!(told, Vec::<&str>::new());
                    continue;
                }
                assert_eq!(told, [format!("module {name}")]);
                assert!(seen[0].evidence.contains(words), "{words}: {}", seen[0].evidence);
                assert!(seen[0].fix.contains(name) && seen[0].severity == Severity::Error);
                // The masquerade's, where the kernel keeps no connections.
                snapshot.kernel.sysctls.remove("net/netfilter/nf_conntrack_max");
                assert_eq!(module_missing(&snapshot).unwrap().len(), 2);
                // A device of the kind is there, or none has to be made.
                let link = Link { kind: Some(name.to_owned()), ..Link::default() };
                snapshot.kernel.links.push(link);
                assert_eq!(module_missing(&snapshot).unwrap().len(), 1);
            }
        }
        assert!(module_missing(&Snapshot::default()).unwrap().is_empty());
    }

    #[test]
    fn checksums_are_spoilt_by_old_kernels_and_seen_where_they_arrive() {
        let mut snapshot = node(VXLAN);
        let tunnel = Link { name: "vxlan.calico".into(), ..Link::default() };
        snapshot.kernel.links = vec![tunnel];
        snapshot.surroundings.offloads = vec![("vxlan.calico".into(), true)];
        assert!(tunnel_offload(&snapshot).unwrap().is_empty(), "a new kernel");
        snapshot.kernel.sysctls.insert(RELEASE.into(), "5.4.0-190-generic".into());
        let [one] = &tunnel_offload(&snapshot).unwrap()[..] else { panic!() };
        assert_eq!(one.fix, "ethtool -K vxlan.calico tx-checksum-ip-generic off");
        assert_eq!(one.undo, "ethtool -K vxlan.calico tx-checksum-ip-generic on");
        snapshot.surroundings.offloads[0].1 = false;
        assert!(tunnel_offload(&snapshot).unwrap().is_empty(), "it is off");
        let counted = |wrong| Load { wrong_checksums: Some(wrong), ..Load::default() };
        snapshot.surroundings.load = Some((counted(3), counted(5)));
        let [one] = &tunnel_offload(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("2 packets"), "{}", one.evidence);
        snapshot.surroundings.load = Some((counted(5), counted(5)));
        assert!(tunnel_offload(&snapshot).unwrap().is_empty());
        assert!(tunnel_offload(&node(IPIP)).is_err());
    }
}
