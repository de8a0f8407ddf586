// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use crate::list::Gather as _;
use std::{fmt::Debug, net::Ipv6Addr};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Answer, Mac, addr, classifier,
    conntrack::Connection,
    fdb, forwarding,
    icmp::{ipv4, ipv6},
    link::Link,
    monitor, neigh, next_hops, nsid, raw, route, rule,
};
use crate::netlink::{Answers, attribute::find};

/// A bundle holds it as it was read.
fn keeps<T: Debug + DeserializeOwned + PartialEq + Serialize>(one: &T) {
    let text = serde_json::to_vec(one).unwrap();
    assert_eq!(&serde_json::from_slice::<T>(&text).unwrap(), one);
}

/// Answers about links, addresses, routes, rules, neighbours and their like.
pub fn answers(datagram: &[u8]) {
    for answer in Answers(datagram) {
        let answer = &answer;
        if let Ok(Some(link)) = Link::read(answer) {
            keeps(&link);
        }
        if let Ok(Some(found)) = route::read(answer) {
            keeps(&found);
        }
        if let Ok(Some(rule)) = rule::read(answer) {
            assert!(!rule.to_string().is_empty());
            keeps(&rule);
        }
        if let Ok(Some(address)) = addr::read(answer) {
            keeps(&address);
        }
        let _ =
            addr::parsed(answer).map(|message| message.is_some_and(|it| addr::is_advertised(&it)));
        let _ = neigh::read(answer);
        if let Ok(entry) = raw::Neighbour::of(answer) {
            if let Some(found) = neigh::permanent_of(&entry, entry.index) {
                keeps(&found);
            }
            if let Some(found) = fdb::permanent_of(&entry, entry.index) {
                keeps(&found);
            }
        }
        let _ = (next_hops::read(answer), classifier::read(answer), forwarding::read(answer));
        let _ = (nsid::number(answer), nsid::link(answer), monitor::event(answer));
        for length in [answer.body.len() / 2, answer.body.len().saturating_sub(1)] {
            let body = answer.body.get(..length).unwrap_or_default();
            let cut = &Answer { body, ..*answer };
            let _ = (Link::read(cut), route::read(cut), rule::read(cut), addr::read(cut));
        }
    }
}

/// A connection: it is forgotten by the first packet's ends, byte for byte.
pub fn connection(attributes: &[u8]) {
    let Some(connection) = Connection::read(attributes) else { return };
    let mut message = Vec::new();
    connection.deletion().emit(1, 0, &mut message);
    let [answer] = Answers(&message).gather()[..] else { panic!("not one message") };
    for kind in [1, 12, 18] {
        assert_eq!(find(&answer.body[4..], kind), find(attributes, kind), "attribute {kind}");
    }
}

/// A message of ICMP.
pub fn icmp(bytes: &[u8]) {
    let _ = (ipv4(bytes), ipv6(Ipv6Addr::LOCALHOST.into(), bytes));
}

/// The text of a hardware address.
pub fn mac(text: &str) {
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string(), text.to_ascii_lowercase().replace('-', ":"));
    }
}
