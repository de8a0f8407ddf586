// SPDX-License-Identifier: Apache-2.0
//! Messages of this protocol as requests.

use netlink_packet_core::Emitable;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Request;
use crate::family::Family;
use crate::netlink::Words;

/// A message with its flags and the words to report it by.
pub(super) fn encode(message: RouteNetlinkMessage, flags: u16, what: impl Into<Words>) -> Request {
    let mut body = vec![0; Emitable::buffer_len(&message)];
    message.emit(&mut body);
    let kind = message.message_type();
    // Types come in fours, of which the third asks (include/uapi/linux/rtnetlink.h).
    match kind % 4 {
        2 => Request::question(kind, flags, body, what),
        _ => Request::change(kind, flags, body, what),
    }
}

/// A family as the messages have it.
pub(super) fn family_of(family: Family) -> AddressFamily {
    AddressFamily::from(family.number())
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage};
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    #[test]
    fn a_send_holds_what_the_library_makes_of_each_message() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        let message = RouteNetlinkMessage::NewLink(message);
        let request = encode(message.clone(), NLM_F_CREATE, "create");
        let mut expected = NetlinkMessage::from(message);
        expected.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
        let mut sent = Vec::new();
        for sequence in [7, 8] {
            request.emit(sequence, NLM_F_ACK, &mut sent);
            expected.header.sequence_number = sequence;
            expected.finalize();
            let mut bytes = vec![0; expected.buffer_len()];
            expected.serialize(&mut bytes);
            assert!(sent.ends_with(&bytes), "{sent:?} {bytes:?}");
            assert_eq!(sent.len() % bytes.len(), 0);
        }
    }
}
