// SPDX-License-Identifier: Apache-2.0
//! Requests to nf_tables as bytes, and answers read back. Knows their headers, not
//! what tables or rules mean, and opens no socket.

use nix::errno::Errno;

use super::abi::*;
use crate::list::PushAll;
use crate::netlink::{Answer, DecodeError, Request, attribute::Attribute};

/// `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;

/// A message about something of family inet, whose name is for errors.
pub(super) fn request(
    kind: u16,
    flags: u16,
    object: impl AsRef<str>,
    attributes: impl AsRef<[Attribute]>,
) -> Request {
    of_family(NFPROTO_INET, kind, flags, object, attributes)
}

/// The same about something of any family. A question for what is not there is
/// answered, by no object.
pub(super) fn of_family(
    family: u8,
    kind: u16,
    flags: u16,
    object: impl AsRef<str>,
    attributes: impl AsRef<[Attribute]>,
) -> Request {
    let body = encode(family, 0, attributes.as_ref());
    let what = |verb| format!("{verb} {}", object.as_ref());
    // Types come in threes, of which the second asks.
    match (kind & 0xff) % 3 {
        1 => Request::question(kind, flags, body, what("read")).tolerate(Errno::ENOENT),
        _ => Request::change(kind, flags, body, what("change")),
    }
}

/// The question for the number that grows with each change of the rule set.
pub(super) fn generation() -> Request {
    of_family(NFPROTO_UNSPEC, NFT_MSG_GETGEN, 0, "the rule set's generation", [])
}

/// What stands before the requests of a transaction: with a generation, the kernel
/// carries them out only if the rule set is still of it. Refusals of all of them are
/// named by the first.
pub(super) fn begin(requests: &[Request], generation: Option<u32>) -> Request {
    let condition = generation.map(|number| Attribute::number(NFNL_BATCH_GENID, number));
    let body = encode(NFPROTO_UNSPEC, BATCH_OF_NFTABLES, condition.as_slice());
    let what = requests.first().map_or("change nf_tables".into(), Request::what).into_owned();
    Request::change(NFNL_MSG_BATCH_BEGIN, 0, body, what)
}

/// What stands behind them. Without it the kernel looks at all of them, answers, and
/// takes them back (nfnetlink.c, `NFNL_ABORT_VALIDATE`; nft's own `--check` is made of
/// it).
pub(super) fn end() -> Request {
    let body = encode(NFPROTO_UNSPEC, BATCH_OF_NFTABLES, &[]);
    Request::change(NFNL_MSG_BATCH_END, 0, body, "end a transaction")
}

fn encode(family: u8, resource: u16, attributes: &[Attribute]) -> Vec<u8> {
    // The version is always zero.
    let mut body = vec![family, 0];
    body.push_all(resource.to_be_bytes());
    attributes.iter().for_each(|attribute| attribute.emit(&mut body));
    body
}

/// An object's attributes, and the low half of the generation that they are of.
pub(super) fn object<'a>(answer: &Answer<'a>) -> Result<(u16, &'a [u8]), DecodeError> {
    let read = || {
        let generation = answer.body.get(2..HEADER_BYTES)?.try_into().ok()?;
        Some((u16::from_be_bytes(generation), answer.body.get(HEADER_BYTES..)?))
    };
    read().ok_or_else(|| "the message is shorter than its header".into())
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;
    use crate::netlink::{Answers, Batch};

    #[test]
    fn a_batch_carries_its_generation_and_one_acknowledgement() {
        let named = |name| [Attribute::string(NFTA_TABLE_NAME, name)];
        let requests = [
            request(NFT_MSG_DELTABLE, 0, "", named("a")),
            request(NFT_MSG_NEWTABLE, NLM_F_CREATE, "", named("a")),
        ];
        let expected: &[u8] = b"\
            \x1c\0\0\0\x10\0\x01\0\x07\0\0\0\0\0\0\0\0\0\0\x0a\x08\0\x01\0\0\0\x01\x02\
            \x1c\0\0\0\x02\x0a\x01\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x06\0\x01\0a\0\0\0\
            \x1c\0\0\0\0\x0a\x05\x04\x09\0\0\0\0\0\0\0\x01\0\0\0\x06\0\x01\0a\0\0\0\
            \x14\0\0\0\x11\0\x01\0\x0a\0\0\0\0\0\0\0\0\0\0\x0a";
        let (begin, end) = (begin(&requests, Some(258)), end());
        let batch = Batch { begin: Some(&begin), requests: &requests, end: Some(&end) };
        let mut sent = Vec::new();
        batch.emit(7, &mut sent);
        assert_eq!(sent, expected);
    }

    #[test]
    fn an_object_is_read_with_its_generation_and_cut_messages_end_the_reading() {
        let datagram = b"\x18\0\0\0\x00\x0a\x12\0\x05\0\0\0\x09\0\0\0\x01\0\x01\x02\x04\0\x01\0";
        let found: Vec<Answer<'_>> = Answers(datagram).collect();
        let body = b"\x01\0\x01\x02\x04\0\x01\0";
        assert_eq!(found, [Answer { kind: NFT_MSG_NEWTABLE, flags: 0x12, sequence: 5, body }]);
        assert_eq!(object(&found[0]).unwrap(), (258, &b"\x04\0\x01\0"[..]));
        for cut in 0..datagram.len() {
            assert_eq!(Answers(&datagram[..cut]).count(), 0);
        }
        for cut in 0..HEADER_BYTES {
            assert!(object(&Answer { body: &body[..cut], ..found[0] }).is_err());
        }
    }
}
