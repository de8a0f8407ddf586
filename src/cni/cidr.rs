// SPDX-License-Identifier: Apache-2.0
//! CIDR text as CNI means it.
//!
//! It exists because `ipnetwork` reads more than the other programs on a node
//! do: a bare address, a dotted netmask, a prefix with a sign. What we accept,
//! a chained plugin must be able to read as well.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// Reads `ADDRESS/PREFIX`, keeping the host bits. An IPv4-mapped IPv6 address
/// becomes IPv4, as every reader of a result would print it.
///
/// # Errors
/// What was expected instead, as a clause for the caller's message.
pub fn parse(text: &str) -> Result<IpNetwork, String> {
    read(text).ok_or_else(|| {
        format!("{text:?} is not an address with a prefix length such as 10.1.2.3/24")
    })
}

/// Reads an address without a prefix, IPv4-mapped ones as IPv4.
///
/// # Errors
/// As [`parse`].
pub fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| format!("{text:?} is not an IP address"))
}

/// Whether a text is an IPv4-mapped IPv6 address, with or without a prefix.
pub fn is_mapped(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or_default();
    address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_some())
}

fn read(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let length: u8 = length.parse().ok().filter(|_| plain)?;
    match address.to_canonical() {
        canonical if canonical.is_ipv4() && address.is_ipv6() => {
            if length > 128 {
                return None;
            }
            IpNetwork::new(canonical, length.checked_sub(96)?).ok()
        }
        canonical => IpNetwork::new(canonical, length).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r33_host_bits_survive() {
        for text in ["10.1.2.3/24", "0.0.0.0/0", "10.0.0.1/32", "fd00::5/64", "::/0"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mapped_address_becomes_ipv4() {
        assert_eq!(parse("::ffff:10.1.2.3/120").unwrap().to_string(), "10.1.2.3/24");
        assert_eq!(parse_address("::ffff:10.1.2.3").unwrap().to_string(), "10.1.2.3");
        assert!(is_mapped("::ffff:10.1.2.3/120") && is_mapped("::ffff:a01:203"));
        assert!(!is_mapped("10.1.2.3/24") && !is_mapped("::a01:203") && !is_mapped("fd00::5"));
        assert!(parse("::ffff:10.1.2.3/64").is_err());
        assert!(parse("::ffff:10.1.2.3/129").is_err());
    }

    #[test]
    fn what_only_lax_parsers_read_is_refused() {
        for text in [
            "",
            "/",
            "10.1.2.3",
            "10.1.2.3/",
            "10.1.2.3/255.255.255.0",
            "10.1.2.3/+24",
            "10.1.2.3/024",
            "10.1.2.3/33",
            "10.1.2.3/-1",
            "10.1.2.3/24/",
            " 10.1.2.3/24",
            "10.1.2.03/24",
            "fe80::1%eth0/64",
            "fd00::/129",
            "fd00::/256",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        for text in ["", "10.0.0.0/8", "10.0.0", "fe80::1%eth0"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
