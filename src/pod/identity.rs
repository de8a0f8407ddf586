// SPDX-License-Identifier: Apache-2.0
//! Who an attachment is, and the names and marks that follow from it.

use std::{collections::HashMap, ops::RangeInclusive};

use sha1_smol::{Digest, Sha1};

use crate::{
    net::{
        Mac,
        link::{ALIAS_BYTES_MAX, Link},
    },
    state::Entry,
};

/// Interface groups of all networks of ours: the high byte is an `m`.
pub const GROUPS: RangeInclusive<u32> = 0x6d00_0000..=0x6dff_ffff;

/// MAC address of every host link (Calico's), from which the pods' IPv6 next
/// hop follows.
pub const HOST_MAC: Mac = Mac([0xee; 6]);

/// The interface that carries the name Calico would give.
const FIRST_IFNAME: &str = "eth0";
/// Hexadecimal digits, or characters of the container id, in a host link's name.
const NAME_DIGITS: usize = 11;
/// First word of an alias: our mark and its version.
const ALIAS_MARK: &str = "manx1";

/// The key of an attachment (SPEC 1.1.0, "Attachment"), with the pod it is for
/// where the runtime told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Network name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// Kubernetes namespace and pod name.
    pub pod: Option<(String, String)>,
}

impl Identity {
    /// The name of the host link as Calico gives it: by the pod's name in
    /// Kubernetes, by the container id elsewhere. An interface other than the
    /// first has the name of [`Identity::unique_host_link`].
    pub fn host_link(&self, prefix: &str) -> String {
        if self.ifname != FIRST_IFNAME {
            return self.unique_host_link(prefix);
        }
        match &self.pod {
            Some((namespace, pod)) => named(prefix, &[namespace, ".", pod]),
            None => prefix.chars().chain(self.container_id.chars().take(NAME_DIGITS)).collect(),
        }
    }

    /// A name that only this attachment has.
    pub fn unique_host_link(&self, prefix: &str) -> String {
        named(prefix, &[&self.network, "\0", &self.container_id, "\0", &self.ifname])
    }

    /// Whether the host link's name says which pod it is for, so that an equal
    /// name means the same pod.
    pub fn host_link_names_the_pod(&self) -> bool {
        self.ifname == FIRST_IFNAME && self.pod.is_some()
    }

    /// The alias that marks the host link as this attachment's.
    pub fn alias(&self) -> String {
        let key = format!("{} {} {}", self.network, self.container_id, self.ifname);
        if ALIAS_MARK.len() + 1 + key.len() <= ALIAS_BYTES_MAX {
            format!("{ALIAS_MARK} {key}")
        } else {
            format!("{ALIAS_MARK} sha1:{}", Sha1::from(key).digest())
        }
    }

    /// The pod link's MAC address where none was asked for: the same for the
    /// same attachment.
    pub fn pod_mac(&self) -> Mac {
        Mac::local(
            &digest(&[&self.network, "\0", &self.container_id, "\0", &self.ifname, "\0mac"])
                .bytes(),
        )
    }
}

impl From<&Entry> for Identity {
    fn from(entry: &Entry) -> Self {
        Self {
            network: entry.network.clone(),
            container_id: entry.container_id.clone(),
            ifname: entry.ifname.clone(),
            pod: entry.pod_namespace.clone().zip(entry.pod_name.clone()),
        }
    }
}

/// The host link of an attachment of the journal: by its mark; else by its name with our
/// group, for anybody may write over an alias; behind the bridge of another plugin by its
/// name alone. One that is marked as another attachment's is none of this one's.
///
/// It goes through all links. Who asks for many attachments takes [`HostLinks`].
pub fn host_link_of<'a>(entry: &Entry, links: &'a [Link]) -> Option<&'a Link> {
    let alias = Identity::from(entry).alias();
    let is_named = |link: &&Link| {
        link.name == entry.host_link && !is_marked(link.alias.as_deref()) && may_be(link, entry)
    };
    let marked = links.iter().find(|link| link.alias.as_deref() == Some(&alias));
    marked.or_else(|| links.iter().find(is_named))
}

/// Whether a link that bears no mark may be the one that an attachment names.
fn may_be(link: &Link, entry: &Entry) -> bool {
    entry.bridged || GROUPS.contains(&link.group)
}

/// All links of a node by what [`host_link_of`] looks for, for many attachments.
pub struct HostLinks<'a> {
    marked: HashMap<&'a str, &'a Link>,
    named: HashMap<&'a str, &'a Link>,
}

impl<'a> HostLinks<'a> {
    /// Those among these links.
    pub fn new(links: &'a [Link]) -> Self {
        let (mut marked, mut named) = (HashMap::new(), HashMap::new());
        for link in links {
            match link.alias.as_deref().filter(|alias| is_marked(Some(alias))) {
                Some(alias) => marked.entry(alias).or_insert(link),
                None => named.entry(link.name.as_str()).or_insert(link),
            };
        }
        Self { marked, named }
    }

    /// The one of an attachment.
    pub fn of(&self, entry: &Entry) -> Option<&'a Link> {
        let marked = self.marked.get(Identity::from(entry).alias().as_str());
        let named = || self.named.get(entry.host_link.as_str());
        marked.or_else(|| named().filter(|link| may_be(link, entry))).copied()
    }
}

/// Whether a link's alias is a mark of ours, of whichever attachment.
pub fn is_marked(alias: Option<&str>) -> bool {
    alias.is_some_and(|alias| alias.split(' ').next() == Some(ALIAS_MARK))
}

/// The attachment that an alias names, unless it was too long and is a digest.
pub fn of_alias(alias: &str) -> Option<Identity> {
    let mut words = alias.split(' ');
    if words.next() != Some(ALIAS_MARK) {
        return None;
    }
    let (network, container_id, ifname) = (words.next()?, words.next()?, words.next()?);
    let [network, container_id, ifname] = [network, container_id, ifname].map(str::to_owned);
    Some(Identity { network, container_id, ifname, pod: None })
}

/// The interface group of a network's host links.
pub fn group(network: &str) -> u32 {
    let digest = Sha1::from(network).digest().bytes();
    let low = digest.iter().take(3).fold(0, |low, byte| low << 8 | u32::from(*byte));
    GROUPS.start() | low
}

fn named(prefix: &str, parts: &[&str]) -> String {
    let digits = digest(parts).to_string();
    prefix.chars().chain(digits.chars().take(NAME_DIGITS)).collect()
}

fn digest(parts: &[&str]) -> Digest {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part.as_bytes());
    }
    sha1.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(ifname: &str, pod: Option<(&str, &str)>) -> Identity {
        Identity {
            network: "net".into(),
            container_id: "cnitool-0123456789".into(),
            ifname: ifname.into(),
            pod: pod.map(|(namespace, name)| (namespace.into(), name.into())),
        }
    }

    #[test]
    fn a_link_is_an_attachments_by_its_mark_or_by_its_name_and_group() {
        let entry = Entry {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            host_link: "cali1".into(),
            ..Entry::default()
        };
        let alias = Identity::from(&entry).alias();
        let other = "manx1 net c2 eth0".to_owned();
        let ours = *GROUPS.start();
        for (name, alias, group, bridged, expected) in [
            ("cali1", Some(alias.clone()), 0, false, true),
            ("renamed", Some(alias), 0, false, true),
            ("cali1", Some("a note".to_owned()), ours, false, true),
            ("cali1", None, ours, false, true),
            ("cali1", None, 0, false, false),
            ("cali1", None, 0, true, true),
            ("cali1", Some(other.clone()), ours, false, false),
            ("cali1", Some(other), 0, true, false),
            ("cali2", None, ours, true, false),
        ] {
            let link = Link { name: name.into(), alias, group, ..Link::default() };
            let entry = Entry { bridged, ..entry.clone() };
            let found = host_link_of(&entry, std::slice::from_ref(&link));
            assert_eq!(found.is_some(), expected, "{link:?} {bridged}");
            let links = [Link { name: "other".into(), ..Link::default() }, link];
            let found = HostLinks::new(&links).of(&entry);
            assert_eq!(found, host_link_of(&entry, &links), "among others");
            assert_eq!(found.is_some(), expected);
        }
    }

    /// Vectors from Calico (libcalico-go, names/workloadendpoint).
    #[test]
    fn a_pods_first_link_has_calicos_name() {
        for (namespace, pod, name) in [
            ("ops", "nginx-stateful-test-0", "cali05ad595351c"),
            ("default", "nginx", "calic440f455693"),
            ("test", "pod1", "cali17fddc925b9"),
            ("kube-system", "coredns-0", "cali8c346e38bf4"),
        ] {
            assert_eq!(identity("eth0", Some((namespace, pod))).host_link("cali"), name);
        }
    }

    #[test]
    fn outside_kubernetes_the_container_id_names_the_link() {
        assert_eq!(identity("eth0", None).host_link("cali"), "calicnitool-012");
    }

    #[test]
    fn a_second_interface_has_a_name_of_its_own() {
        let pod = Some(("test", "pod1"));
        let names = ["eth0", "eth1", "net1"].map(|name| identity(name, pod).host_link("cali"));
        assert_eq!(names[1].len(), 15);
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    }

    #[test]
    fn an_alias_names_its_attachment_and_fits() {
        let short = identity("eth0", None);
        assert_eq!(short.alias(), "manx1 net cnitool-0123456789 eth0");
        assert_eq!(of_alias(&short.alias()), Some(short));
        let mut long = identity("eth0", None);
        long.container_id = "x".repeat(300);
        assert!(long.alias().len() <= ALIAS_BYTES_MAX && is_marked(Some(&long.alias())));
        assert_eq!(of_alias(&long.alias()), None);
    }

    #[test]
    fn groups_lie_in_the_range() {
        for network in ["a", "b", "k8s-pod-network"] {
            assert!(GROUPS.contains(&group(network)));
        }
        assert_ne!(group("a"), group("b"));
        assert!(!is_marked(Some("manx10 a b c")) && !is_marked(None));
    }
}
