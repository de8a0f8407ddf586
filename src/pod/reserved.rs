// SPDX-License-Identifier: Apache-2.0
//! Addresses that no pod can have on whichever node, by what the address itself
//! is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is that no pod can have; `None` for all others. The kernel
/// takes most of these as an address of a link, and then routes nothing there.
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => reserved_ipv4(address),
        IpAddr::V6(address) => reserved_ipv6(address),
    }
}

/// What all addresses from the first to the last are, where no pod can have any.
pub fn reserved_all(first: IpAddr, last: IpAddr) -> Option<&'static str> {
    // Each of these networks is one run of addresses.
    let what = reserved(first)?;
    (reserved(last) == Some(what)).then_some(what)
}

fn reserved_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        [0, ..] => "an address of \"this network\" (0.0.0.0/8)",
        [127, ..] => "a loopback address (127.0.0.0/8)",
        [169, 254, ..] => "a link-local address (169.254.0.0/16)",
        [224..=239, ..] => "a multicast address (224.0.0.0/4)",
        [255, 255, 255, 255] => "the broadcast address",
        [240..=255, ..] => "a reserved address (240.0.0.0/4)",
        _ => return None,
    })
}

fn reserved_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("the loopback address");
    }
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => "an IPv4-mapped address (::ffff:0:0/96)",
        [0, 0, 0, 0, 0, 0, ..] => "an IPv4-compatible address (::/96)",
        [0xfe80..=0xfebf, ..] => "a link-local address (fe80::/10)",
        [0xff00..=0xffff, ..] => "a multicast address (ff00::/8)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_range_both_ends_are_of_one_network() {
        for (first, last, what) in [
            ("169.254.7.1", "169.254.7.254", Some("link-local")),
            ("127.0.0.1", "127.255.255.254", Some("loopback")),
            ("224.0.0.1", "239.255.255.255", Some("multicast")),
            ("fe80::1", "febf:ffff::1", Some("link-local")),
            ("169.253.255.1", "169.254.0.1", None),
            ("0.0.0.1", "255.255.255.254", None),
            ("::1", "ffff::", None),
            ("10.1.0.1", "10.1.0.9", None),
        ] {
            let found = reserved_all(first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(found.is_some(), what.is_some(), "{first}: {found:?}");
            assert!(found.unwrap_or_default().contains(what.unwrap_or_default()), "{first}");
        }
    }

    #[test]
    fn what_no_pod_can_have_ends_where_it_ends() {
        for (address, is_one) in [
            ("0.0.0.0", true),
            ("0.255.255.255", true),
            ("1.0.0.0", false),
            ("126.255.255.255", false),
            ("127.0.0.0", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("169.253.255.255", false),
            ("169.254.0.0", true),
            ("169.254.255.255", true),
            ("169.255.0.0", false),
            ("223.255.255.255", false),
            ("224.0.0.0", true),
            ("239.255.255.255", true),
            ("240.0.0.0", true),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", true),
            ("::7f00:1", true),
            ("::1:0:0", false),
            ("::ffff:10.1.0.5", true),
            ("64:ff9b::a01:5", false),
            ("fd00::5", false),
            ("fe7f:ffff::1", false),
            ("fe80::1", true),
            ("febf:ffff::1", true),
            ("fec0::1", false),
            ("feff::1", false),
            ("ff02::1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let found = reserved(address.parse().unwrap());
            assert_eq!(found.is_some(), is_one, "{address}: {found:?}");
        }
    }
}
