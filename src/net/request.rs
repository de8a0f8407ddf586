//! A message to the kernel, encoded when it is made: whoever sends it copies
//! bytes and knows nothing of what they say.

use std::borrow::Cow;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_REQUEST, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

/// A message to the kernel with the words to report it by.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    what: Cow<'static, str>,
    tolerated: Vec<Errno>,
}

impl Request {
    pub(super) fn new(
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut body = vec![0; Emitable::buffer_len(&message)];
        message.emit(&mut body);
        let (kind, what) = (message.message_type(), what.into());
        Self { kind, flags, body, what, tolerated: Vec::new() }
    }

    /// A message that the library does not know: its type, and what stands behind
    /// the netlink header.
    pub(super) fn encoded(kind: u16, body: Vec<u8>, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, flags: 0, body, what: what.into(), tolerated: Vec::new() }
    }

    /// The same request, for which `errno` counts as success.
    #[must_use]
    pub fn tolerate(mut self, errno: Errno) -> Self {
        self.tolerated.push(errno);
        self
    }

    /// What is reported when it fails.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether it asks for an object: types come in fours, of which the third
    /// gets (include/uapi/linux/rtnetlink.h).
    pub(super) fn is_query(&self) -> bool {
        self.kind % 4 == 2
    }

    pub(super) fn tolerates(&self, errno: Errno) -> bool {
        self.tolerated.contains(&errno)
    }

    /// Appends the whole message and its padding.
    pub(super) fn emit(&self, sequence: u32, extra_flags: u16, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        let length = header.buffer_len() + self.body.len();
        header.length = u32::try_from(length).unwrap_or(u32::MAX);
        header.message_type = self.kind;
        header.flags = NLM_F_REQUEST | self.flags | extra_flags;
        header.sequence_number = sequence;
        let start = buffer.len();
        buffer.resize(start + header.buffer_len(), 0);
        header.emit(buffer.get_mut(start..).unwrap_or_default());
        buffer.extend_from_slice(&self.body);
        buffer.resize(start + length.next_multiple_of(4), 0);
    }
}

/// Attributes as they stand in a message, for what the library does not know.
pub(super) fn encode(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NetlinkMessage};
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    #[test]
    fn a_send_holds_what_the_library_makes_of_each_message() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        let message = RouteNetlinkMessage::NewLink(message);
        let request = Request::new(message.clone(), NLM_F_CREATE, "create");
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
