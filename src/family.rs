// SPDX-License-Identifier: Apache-2.0
//! The two families of addresses, and what differs by them alone.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use nix::libc::{AF_INET, AF_INET6};
use serde::{Deserialize, Serialize};

/// An address family. What holds for addresses of IPv6 and less for those of IPv4
/// goes by the greater one: IPv6.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// What is of one family.
pub trait HasFamily {
    /// Its family.
    fn family(&self) -> Family;
}

impl HasFamily for IpAddr {
    fn family(&self) -> Family {
        if self.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl HasFamily for IpNetwork {
    fn family(&self) -> Family {
        self.ip().family()
    }
}

impl Family {
    /// Each of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The greatest of what is there; IPv4 for nothing.
    pub fn greatest<'a, T: HasFamily + 'a>(all: impl IntoIterator<Item = &'a T>) -> Self {
        all.into_iter().map(HasFamily::family).max().unwrap_or(Self::V4)
    }

    /// Length of an address in bits: the prefix length of a network that is one address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Length of an address in bytes.
    pub const fn bytes(self) -> u8 {
        self.bits() / 8
    }

    /// The kernel's number (`AF_INET`, `AF_INET6`).
    pub fn number(self) -> u8 {
        let number = match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        };
        u8::try_from(number).unwrap_or_default()
    }

    /// The version of IP.
    pub fn version(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// As nft and iptables write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// All addresses.
    pub fn everything(self) -> IpNetwork {
        let any = match self {
            Self::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        IpNetwork::new(any, 0).unwrap_or(any.into())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.version())
    }
}

/// Whether a network is one address.
pub fn is_single(network: &IpNetwork) -> bool {
    network.prefix() == network.family().bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_the_family() {
        for (family, network, number, words) in [
            (Family::V4, "0.0.0.0/0", 2, ["IPv4", "ip"]),
            (Family::V6, "::/0", 10, ["IPv6", "ip6"]),
        ] {
            assert_eq!(family.everything(), network.parse().unwrap());
            assert_eq!((family.everything().family(), family.number()), (family, number));
            assert_eq!([&family.to_string(), family.word()], words);
            let one = IpNetwork::from(family.everything().ip());
            assert!(is_single(&one) && !is_single(&family.everything()));
            assert_eq!(u32::from(one.prefix()), 8 * u32::from(family.bytes()));
        }
        let all = Family::BOTH.map(Family::everything);
        assert_eq!((Family::greatest(&all), Family::greatest(&all[..1])), (Family::V6, Family::V4));
    }
}
