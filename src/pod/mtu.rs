// SPDX-License-Identifier: Apache-2.0
//! Which MTU an attachment gets.

use serde::{Deserialize, Serialize};

/// The MTU of the device that packets leave by, and what it is called.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Device name.
    pub device: String,
    /// MTU in bytes.
    pub mtu: u32,
}

/// The narrowest link for IPv6, in bytes (RFC 8200 section 5); the kernel takes the
/// family off a narrower one, and its addresses and routes with it.
pub const IPV6_MIN: u32 = 1280;

/// What Ethernet carries, for a node that shows no device at all.
pub const FALLBACK: u32 = 1500;

/// An MTU with the reasons that an operator may want to hear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// MTU of packets to other nodes in bytes, and of both ends unless routes
    /// carry it.
    pub mtu: u32,
    /// MTU that both ends may have where routes carry the other one, in bytes.
    pub link: u32,
    /// A line for the log, where something is odd.
    pub warning: Option<String>,
}

impl Choice {
    /// The choice for routes towards other nodes: what the way there does not
    /// carry would be lost wherever nobody may say so.
    #[must_use]
    pub fn routed(mut self, uplink: Option<&Uplink>, overhead: u32) -> Self {
        if let Some(uplink) = uplink {
            self.mtu = self.mtu.min(uplink.mtu.saturating_sub(overhead));
        }
        self
    }
}

/// Chooses: the configured value, else the value of Calico's file, else the
/// uplink's less the overhead (all in bytes).
pub fn choose(
    configured: Option<u32>,
    calico_file: Option<u32>,
    uplink: Option<&Uplink>,
    overhead: u32,
) -> Choice {
    let Some(uplink) = uplink else {
        let mtu = configured.or(calico_file);
        let warning = mtu.is_none().then(|| {
            format!("no device to take the MTU from: {FALLBACK} less {overhead}; set mtu")
        });
        let mtu = mtu.unwrap_or(FALLBACK.saturating_sub(overhead));
        return Choice { mtu, link: mtu, warning };
    };
    let fitting = uplink.mtu.saturating_sub(overhead);
    let mtu = configured.or(calico_file).unwrap_or(fitting);
    let warning = (mtu > fitting).then(|| {
        let Uplink { device, mtu: limit } = uplink;
        format!("mtu {mtu} is above {fitting} ({device}'s {limit} less {overhead} of overhead)")
    });
    Choice { mtu, link: uplink.mtu.max(mtu), warning }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(mtu: u32) -> Option<Uplink> {
        Some(Uplink { device: "eth0".into(), mtu })
    }

    /// Calico's worked values (felix, int_dataplane.go).
    #[test]
    fn the_overhead_comes_off_the_uplink() {
        for (device, overhead, mtu) in [
            (1500, 0, 1500),
            (1500, 20, 1480),
            (1500, 50, 1450),
            (1500, 70, 1430),
            (9001, 20, 8981),
            (1460, 50, 1410),
        ] {
            let choice = choose(None, None, uplink(device).as_ref(), overhead);
            assert_eq!(choice, Choice { mtu, link: device, warning: None });
        }
    }

    #[test]
    fn a_configured_value_wins_and_is_warned_about_when_too_large() {
        let choice = choose(Some(1500), Some(1300), uplink(1500).as_ref(), 50);
        assert_eq!(choice.mtu, 1500);
        let warning = choice.warning.unwrap();
        assert!(warning.contains("1500") && warning.contains("1450"), "{warning}");
        assert_eq!(choose(Some(1400), None, uplink(1500).as_ref(), 50).warning, None);
    }

    #[test]
    fn routes_carry_no_more_than_the_way() {
        for (configured, routed, link) in [
            (Some(1500), 1450, 1500),
            (Some(9000), 1450, 9000),
            (Some(1380), 1380, 1500),
            (None, 1450, 1500),
        ] {
            let uplink = uplink(1500);
            let choice = choose(configured, None, uplink.as_ref(), 50);
            let warning = choice.warning.clone();
            let choice = choice.routed(uplink.as_ref(), 50);
            assert_eq!(choice, Choice { mtu: routed, link, warning });
        }
        let choice = choose(Some(9000), None, None, 50);
        assert_eq!(choice.clone().routed(None, 50), choice);
    }

    #[test]
    fn calicos_file_comes_before_the_uplink() {
        assert_eq!(choose(None, Some(1440), uplink(1500).as_ref(), 0).mtu, 1440);
    }

    #[test]
    fn without_a_device_there_is_a_number_and_a_reason() {
        let choice = choose(None, None, None, 20);
        assert_eq!(choice.mtu, 1480);
        assert!(choice.warning.unwrap().contains("set mtu"));
        let choice = choose(Some(9000), None, None, 20);
        assert_eq!(choice, Choice { mtu: 9000, link: 9000, warning: None });
    }
}
