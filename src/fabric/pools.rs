// SPDX-License-Identifier: Apache-2.0
//! Whether addresses are given out where the peers file puts this node's pods:
//! nobody routes others here, and those of another node would be cut off there.
//!
//! Pure. Where ranges are written, and what is said to whom, is known elsewhere.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;

use crate::{family::HasFamily, ipam::Range, list::Gather};

/// A range that this node gives addresses out of, and where it is written.
pub type Place = (String, Range);

/// What is wrong with a range or an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Misfit {
    /// It has addresses of another node's pods.
    OfPeer {
        /// The range or the address, and where it comes from.
        given: String,
        /// The other node.
        node: String,
        /// That node's pod CIDR.
        cidr: IpNetwork,
    },
    /// It has addresses outside of this node's pod CIDRs that are nobody's.
    Outside {
        /// The range or the address, and where it comes from.
        given: String,
        /// This node's pod CIDRs.
        own: Vec<IpNetwork>,
    },
}

/// What the peers file says of pods.
#[derive(Clone, Copy)]
pub struct Cidrs<'a> {
    /// This node's.
    pub own: &'a [IpNetwork],
    /// Those of all nodes, which may be thousands: looked up for what is not within
    /// this node's.
    pub all: &'a dyn Fn() -> Vec<IpNetwork>,
    /// Which node has one of them: looked up for a message alone.
    pub node: &'a dyn Fn(IpNetwork) -> String,
}

impl Cidrs<'_> {
    /// What is wrong with these ranges.
    pub fn misfits(&self, places: &[Place]) -> Vec<Misfit> {
        places.iter().filter_map(|(path, range)| self.misfit(path, range.ends())).gather()
    }

    /// What is wrong with an address that came from `source`.
    pub fn misfit_of(&self, source: &str, address: IpAddr) -> Option<Misfit> {
        self.misfit(source, (address, address))
    }

    fn misfit(&self, source: &str, (first, last): (IpAddr, IpAddr)) -> Option<Misfit> {
        let given = || match first == last {
            true => format!("{source} {first}"),
            false => format!("{source} {first}-{last}"),
        };
        let shared = |cidr: &&IpNetwork| {
            let same_family = cidr.family() == first.family();
            same_family && cidr.network() <= last && first <= cidr.broadcast()
        };
        // No two nodes have an address in common, or their list is refused.
        if within(self.own, first, last) {
            return None;
        }
        let all = (self.all)();
        let of_peer = all.iter().filter(shared).find(|cidr| !self.own.contains(cidr));
        if let Some(cidr) = of_peer {
            let node = (self.node)(*cidr);
            return Some(Misfit::OfPeer { given: given(), node, cidr: *cidr });
        }
        // A node without pods, such as one of the control plane, gives out none.
        let has_pods = !self.own.is_empty();
        has_pods.then(|| Misfit::Outside { given: given(), own: self.own.to_vec() })
    }
}

/// Whether every address of a run lies in one of the networks.
fn within(networks: &[IpNetwork], first: IpAddr, last: IpAddr) -> bool {
    let mut next = first;
    loop {
        let Some(network) = networks.iter().find(|network| network.contains(next)) else {
            return false;
        };
        if last <= network.broadcast() {
            return true;
        }
        let Some(behind) = successor(network.broadcast()) else { return false };
        next = behind;
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits().checked_add(1)?).into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits().checked_add(1)?).into(),
    })
}

impl Misfit {
    /// Whether another node's pods would be cut off.
    pub fn is_of_peer(&self) -> bool {
        matches!(self, Self::OfPeer { .. })
    }

    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        "give ipam this node's own podCIDRs of the peers file (\"subnet\": \"usePodCidr\" does), \
         or correct the peers file"
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfPeer { given, node, cidr } => {
                write!(f, "{given} is in {node}'s podCIDR {cidr}, whose pods it would cut off")
            }
            Self::Outside { given, own } => {
                let own: Vec<String> = own.iter().map(ToString::to_string).gather();
                let own = own.join(", ");
                write!(
                    f,
                    "{given} is outside of this node's podCIDRs ({own}), so that no other node \
                     has a route to its pods"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn told(subnet: &str, first: Option<&str>, last: Option<&str>) -> String {
        let own = networks(&["10.1.0.0/24", "10.1.1.0/25", "fd00:1::/64"]);
        let all =
            networks(&["10.1.0.0/24", "10.1.1.0/25", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"]);
        let end = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let range = Range::new(subnet.parse().unwrap(), end(first), end(last), None).unwrap();
        let all = || all.clone();
        let cidrs = Cidrs { own: &own, all: &all, node: &|_| "b".to_owned() };
        let misfits = cidrs.misfits(&[("ipam".to_owned(), range)]);
        misfits.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_within_what_is_ours_fit() {
        for subnet in ["10.1.0.0/24", "10.1.0.64/26", "fd00:1::/64", "fd00:1::/80"] {
            assert_eq!(told(subnet, None, None), "", "{subnet}");
        }
        // Two that lie side by side are one.
        assert_eq!(told("10.1.0.0/16", Some("10.1.0.9"), Some("10.1.1.127")), "");
        // What is not given out does not count.
        assert_eq!(told("10.0.0.0/8", Some("10.1.0.9"), Some("10.1.0.10")), "");
    }

    #[test]
    fn ranges_that_reach_into_a_peers_are_told_with_it() {
        for (subnet, first, last) in [
            ("10.2.0.0/24", None, None),
            ("10.2.0.128/25", None, None),
            ("10.0.0.0/8", None, None),
            ("10.0.0.0/8", Some("10.1.0.9"), Some("10.2.0.0")),
            ("fd00:2::/64", None, None),
            ("fd00::/16", None, None),
        ] {
            let told = told(subnet, first, last);
            assert!(told.contains("b's podCIDR"), "{subnet}: {told}");
        }
    }

    #[test]
    fn ranges_that_nobody_has_are_told() {
        for (subnet, first, last) in [
            ("10.9.0.0/24", None, None),
            ("10.1.0.0/16", Some("10.1.0.9"), Some("10.1.1.128")),
            ("10.0.0.0/8", Some("10.0.255.255"), Some("10.1.0.9")),
            ("fd00:9::/64", None, None),
        ] {
            let told = told(subnet, first, last);
            assert!(told.contains("outside of this node's podCIDRs"), "{subnet}: {told}");
        }
    }
}
