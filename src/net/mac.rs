// SPDX-License-Identifier: Apache-2.0
//! Ethernet addresses.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address made of the first six bytes of
    /// `digest` (missing bytes count as zero).
    pub fn local(digest: &[u8]) -> Self {
        let mut octets = [0; 6];
        for (octet, byte) in octets.iter_mut().zip(digest) {
            *octet = *byte;
        }
        octets[0] = (octets[0] | 0x02) & 0xfe;
        Self(octets)
    }

    /// Whether the address can belong to one interface: not all zero, not a group.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The link-local address that the kernel derives from this one
    /// (modified EUI-64, RFC 4291 appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Six pairs of hexadecimal digits with colons or hyphens between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a MAC address such as 02:00:5e:10:00:01");
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            // To from_str_radix a sign is part of a number.
            let is_pair = |it: &&str| it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit());
            let part = parts.next().filter(is_pair).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(octets)) }
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_links_mac_gives_the_known_gateway() {
        assert_eq!(Mac([0xee; 6]).link_local().to_string(), "fe80::ecee:eeff:feee:eeee");
    }

    #[test]
    fn text_round_trips_and_junk_is_refused() {
        let mac: Mac = "02-00-5E-10-00-01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:01");
        for junk in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "2:0:5e:10:0:1",
            "zz:00:5e:10:00:01",
            "02:00:5e:10:+5:01",
        ] {
            assert!(junk.parse::<Mac>().is_err(), "{junk}");
        }
    }

    #[test]
    fn a_derived_address_is_local_and_unicast() {
        assert_eq!(Mac::local(&[0xff; 20]).0, [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(Mac::local(&[]).is_unicast());
    }
}
