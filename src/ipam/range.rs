// SPDX-License-Identifier: Apache-2.0
//! Ranges of addresses, and sets of them, out of each of which an attachment
//! gets one address.
//!
//! Pure: which addresses are taken is known elsewhere. The rules are
//! host-local's, for its configurations are to mean the same here
//! (containernetworking/plugins, plugins/ipam/host-local/backend/allocator).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use crate::family::{Family, HasFamily};

/// A run of addresses in one subnet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range {
    subnet: IpNetwork,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

/// What is wrong with a range: the key at fault, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flaw {
    /// The configuration's key.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Range {
    /// A range of `subnet`. Left out, `first` is the address behind the
    /// subnet's own, `last` the one before IPv4's broadcast address or IPv6's
    /// last, and `gateway`, which is never given out, the one behind the
    /// subnet's own.
    ///
    /// # Errors
    /// For a subnet with host bits or with fewer than four addresses, an end
    /// outside it, and ends in the wrong order.
    pub fn new(
        subnet: IpNetwork,
        first: Option<IpAddr>,
        last: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Self, Flaw> {
        let network = subnet.network();
        if subnet.ip() != network {
            let reason = format!("{subnet} has host bits set: give {network}/{}", subnet.prefix());
            return Err(Flaw { key: "subnet", reason });
        }
        let longest = subnet.family().bits() - 2;
        if subnet.prefix() > longest {
            let reason = format!("{subnet} is too small: give a prefix of at most {longest} bits");
            return Err(Flaw { key: "subnet", reason });
        }
        let end = |key, address: IpAddr| {
            let reason = || format!("{address} is not in {subnet}");
            subnet
                .contains(address)
                .then_some(address)
                .ok_or_else(|| Flaw { key, reason: reason() })
        };
        let broadcast = subnet.broadcast();
        let before = if subnet.is_ipv4() { offset(broadcast, -1) } else { broadcast };
        let first = first.map_or(Ok(offset(network, 1)), |first| end("rangeStart", first))?;
        let last = last.map_or(Ok(before), |last| end("rangeEnd", last))?;
        if first > last {
            let reason = format!("the range ends at {last}, before it starts at {first}");
            return Err(Flaw { key: "rangeEnd", reason });
        }
        Ok(Self { subnet, first, last, gateway: gateway.unwrap_or(offset(network, 1)) })
    }

    /// The subnet whose prefix length a pod's address is told with.
    pub fn subnet(&self) -> IpNetwork {
        self.subnet
    }

    /// The next hop of the subnet.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The lowest and the highest address.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (self.first, self.last)
    }

    /// Whether an address lies between the ends.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.family() == self.first.family() && self.first <= address && address <= self.last
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.family() == other.first.family()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// How many addresses can be given out. The whole of IPv6 has one less than
    /// fit a number, since its gateway is among them.
    pub fn size(&self) -> u128 {
        let span = number(self.last) - number(self.first);
        if self.contains(self.gateway) { span } else { span.saturating_add(1) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Ranges of one family, joined: an attachment gets one address out of all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Joins ranges.
    ///
    /// # Errors
    /// Without a range, with two families, or with two ranges that overlap.
    pub fn new(ranges: Vec<Range>) -> Result<Self, String> {
        let Some(first) = ranges.first() else { return Err("the set has no range".to_owned()) };
        if ranges.iter().any(|range| range.subnet.family() != first.subnet.family()) {
            let words = "one set of ranges holds both IPv4 and IPv6: an attachment gets one \
                         address of a set, so give each family a set of its own";
            return Err(words.to_owned());
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges.iter().skip(index + 1).find(|other| one.overlaps(other)) {
                return Err(format!("{one} and {other} have addresses in common"));
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges in their order.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Whether the set is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.subnet.is_ipv4())
    }

    /// The range that an address lies in.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|range| one.overlaps(range)))
    }

    /// How many addresses can be given out.
    pub fn size(&self) -> u128 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.size()))
    }

    /// Every address that can be given out, once: from the one behind `after`
    /// to the end, then from the start to `after`. From the start if `after`
    /// does not lie in the set.
    pub fn candidates(&self, after: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let after = after.and_then(|address| {
            let index = self.0.iter().position(|range| range.contains(address))?;
            Some((index, address))
        });
        let (start, address) = after.unzip();
        let start = start.unwrap_or_default();
        let (before, from) = self.0.split_at(start.min(self.0.len()));
        let split = from.first().zip(address);
        let head = split.map(|(range, address)| run(address, range.last, true));
        let tail = split.map(|(range, address)| run(range.first, address, false));
        let whole = |range: &Range| run(range.first, range.last, false);
        let rest = from.iter().skip(usize::from(split.is_some()));
        head.into_iter()
            .chain(rest.map(whole))
            .chain(before.iter().map(whole))
            .chain(tail)
            .flatten()
            .filter(|address| self.range_of(*address).is_none_or(|range| range.gateway != *address))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The addresses from `first`, or behind it, to `last`.
fn run(first: IpAddr, last: IpAddr, behind: bool) -> impl Iterator<Item = IpAddr> {
    let family = first.family();
    let numbers = (number(first)..=number(last)).skip(usize::from(behind));
    numbers.map(move |number| address(number, family))
}

fn offset(base: IpAddr, distance: i8) -> IpAddr {
    let number = number(base).wrapping_add_signed(i128::from(distance));
    address(number, base.family())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match family {
        // The low 32 bits are the address; no range leaves its family.
        Family::V4 => {
            let low = u32::try_from(number & u128::from(u32::MAX)).unwrap_or_default();
            Ipv4Addr::from_bits(low).into()
        }
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests;
