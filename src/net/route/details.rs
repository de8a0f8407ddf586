// SPDX-License-Identifier: Apache-2.0
//! What a route has beside what leads packets: of somebody else's it is told, so that the
//! route can be made again as it was.

use netlink_packet_core::DecodeError;
use nix::libc::{RTA_CACHEINFO, RTA_FLOW, RTA_IIF, RTA_MARK};
use serde::{Deserialize, Serialize};

use super::super::raw::{self, NextHop, RTAX_ADVMSS, RTAX_LOCK, RTAX_MTU};

/// Attributes (include/uapi/linux/rtnetlink.h) that libc does not have.
const RTA_PREF: u16 = 20;
const RTA_EXPIRES: u16 = 23;
const RTA_PAD: u16 = 24;
const RTA_UID: u16 = 25;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
const RTA_NH_ID: u16 = 30;

/// What only a look-up answers, and what is told elsewhere.
const OF_ANSWERS: [u16; 9] = [
    RTA_CACHEINFO,
    RTA_EXPIRES,
    RTA_PAD,
    RTA_IIF,
    RTA_MARK,
    RTA_UID,
    RTA_IP_PROTO,
    RTA_SPORT,
    RTA_DPORT,
];

/// Metrics that are numbers, as ip-route(8) calls them (`RTAX_*`).
const METRICS: [(u16, &str); 13] = [
    (3, "window"),
    (4, "rtt"),
    (5, "rttvar"),
    (6, "ssthresh"),
    (7, "cwnd"),
    (9, "reordering"),
    (10, "hoplimit"),
    (11, "initcwnd"),
    (12, "features"),
    (13, "rto_min"),
    (14, "initrwnd"),
    (15, "quickack"),
    (17, "fastopen_no_cookie"),
];
const FEATURES: u16 = 12;
/// `RTAX_FEATURE_ECN`, the one that ip-route(8) has a word for everywhere.
const FEATURE_ECN: u32 = 1;
/// The tool fixes it by itself.
const RTO_MIN: u16 = 13;

/// The rest of a route.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The next-hop object that it names.
    pub object: Option<u32>,
    /// Its metrics but for the path MTU and the segment size, by their numbers.
    pub metrics: Vec<(u16, u32)>,
    /// A bit for each metric that does not change by itself.
    pub locked: u32,
    /// How many of the packets each path gets, where they are not alike.
    pub weights: Vec<u32>,
    /// Realms: of the source in the upper half, of the destination in the lower.
    pub realms: u32,
    /// The preference that a router gave it (RFC 4191): 1 is high, 3 is low.
    pub preference: u8,
    /// It has what is not told here.
    pub hidden: bool,
}

impl Details {
    /// Nothing where there is nothing special.
    pub(super) fn noted(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Takes an attribute of the route that nobody else knows.
    pub(super) fn take(&mut self, kind: u16, value: &[u8]) -> Result<(), DecodeError> {
        match kind {
            RTA_NH_ID => self.object = Some(raw::number(value)?),
            RTA_FLOW => self.realms = raw::number(value)?,
            RTA_PREF => self.preference = value.first().copied().unwrap_or_default(),
            _ => self.hidden |= !OF_ANSWERS.contains(&kind),
        }
        Ok(())
    }

    /// Takes a metric.
    pub(super) fn take_metric(&mut self, kind: u16, value: &[u8]) -> Result<(), DecodeError> {
        match kind {
            RTAX_MTU | RTAX_ADVMSS => {}
            RTAX_LOCK => self.locked = raw::number(value)?,
            _ if METRICS.iter().any(|(known, _)| *known == kind) => {
                self.metrics.push((kind, raw::number(value)?));
            }
            _ => self.hidden = true,
        }
        Ok(())
    }

    /// Takes one of several paths.
    pub(super) fn take_hop(&mut self, hop: &NextHop<'_>) {
        self.weights.push(u32::from(hop.weight) + 1);
    }

    /// With all paths taken, so many of which are taken to be on the link.
    pub(super) fn conclude(&mut self, onlink: usize) {
        self.hidden |= onlink > 0 && onlink != self.weights.len();
        // Paths that are alike need no weights.
        if self.weights.iter().all(|weight| *weight == 1) {
            self.weights.clear();
        }
    }

    /// As words of ip-route(8); none where it has no words for all of them.
    pub fn words(&self) -> Option<String> {
        if self.hidden {
            return None;
        }
        let mut words = String::new();
        match (self.realms >> 16, self.realms & 0xffff) {
            (0, 0) => {}
            (0, to) => words += &format!(" realms {to}"),
            (from, to) => words += &format!(" realms {from}/{to}"),
        }
        words += match self.preference {
            0 => "",
            1 => " pref high",
            3 => " pref low",
            _ => return None,
        };
        for (kind, value) in &self.metrics {
            let (_, name) = METRICS.iter().find(|(known, _)| known == kind)?;
            let lock = match self.is_locked(*kind) {
                is_locked if *kind == RTO_MIN => is_locked.then_some("")?,
                true => " lock",
                false => "",
            };
            let value = match *kind {
                FEATURES => (*value == FEATURE_ECN).then(|| "ecn".to_owned())?,
                RTO_MIN => format!("{value}ms"),
                _ => value.to_string(),
            };
            words += &format!(" {name}{lock} {value}");
        }
        Some(words)
    }

    /// Whether a metric does not change by itself.
    pub fn is_locked(&self, metric: u16) -> bool {
        self.locked.checked_shr(metric.into()).is_some_and(|bits| bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_has_no_words_for_is_not_told() {
        let words = |change: fn(&mut Details)| {
            let mut details = Details::default();
            change(&mut details);
            details.words()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(words(|_| ()), some(""));
        assert_eq!(words(|it| it.realms = 7), some(" realms 7"));
        assert_eq!(words(|it| it.realms = 3 << 16 | 7), some(" realms 3/7"));
        assert_eq!(words(|it| it.preference = 3), some(" pref low"));
        assert_eq!(
            words(|it| (it.metrics, it.locked) = (vec![(3, 4000), (10, 9)], 1 << 10)),
            some(" window 4000 hoplimit lock 9")
        );
        assert_eq!(
            words(|it| (it.metrics, it.locked) = (vec![(13, 5), (12, 1)], 1 << 13)),
            some(" rto_min 5ms features ecn")
        );
        assert_eq!(words(|it| it.metrics = vec![(13, 5)]), None);
        assert_eq!(words(|it| it.metrics = vec![(12, 3)]), None);
        assert_eq!(words(|it| it.hidden = true), None);
    }
}
