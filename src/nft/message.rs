//! Requests to nf_tables as bytes, and answers read back. Knows headers and
//! sequence numbers, not what tables or rules mean, and opens no socket.

use super::abi::*;
use super::attribute::Attribute;

const NETLINK_HEADER_BYTES: usize = 16;
/// `struct nfgenmsg`.
const NETFILTER_HEADER_BYTES: usize = 4;

/// One message to the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    family: u8,
    attributes: Vec<Attribute>,
    /// What the message is about, for the error that names it.
    pub(super) object: String,
}

impl Request {
    /// A message about something of family inet.
    pub(super) fn new(
        kind: u16,
        flags: u16,
        object: impl Into<String>,
        attributes: impl Into<Vec<Attribute>>,
    ) -> Self {
        let attributes = attributes.into();
        Self { kind, flags, family: NFPROTO_INET, attributes, object: object.into() }
    }

    /// The same about something of another family.
    pub(super) fn of_family(mut self, family: u8) -> Self {
        self.family = family;
        self
    }

    /// The question for the number that grows with each change of the rule set.
    pub(super) fn generation() -> Self {
        Self {
            kind: NFT_MSG_GETGEN,
            flags: 0,
            family: NFPROTO_UNSPEC,
            attributes: Vec::new(),
            object: "the rule set's generation".into(),
        }
    }

    /// Whether the answer ends with a message that says so.
    pub(super) fn is_dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }

    /// Appends the message under a sequence number.
    pub(super) fn emit(&self, sequence: u32, further_flags: u16, out: &mut Vec<u8>) {
        let flags = self.flags | further_flags;
        emit_message((self.kind, flags, self.family), 0, sequence, &self.attributes, out);
    }
}

/// A whole transaction: the requests between a beginning and an end, numbered
/// from `sequence` on, the beginning included. Only the last request asks for an
/// acknowledgement: failures are always reported.
pub(super) fn emit_batch(requests: &[Request], generation: Option<u32>, sequence: u32) -> Vec<u8> {
    let mut out = emit_trial(requests, generation, sequence);
    let end = (NFNL_MSG_BATCH_END, 0, NFPROTO_UNSPEC);
    let last = sequence.wrapping_add(requests.len() as u32 + 1);
    emit_message(end, BATCH_OF_NFTABLES, last, &[], &mut out);
    out
}

/// The same without its end: the kernel looks at all of it, answers, and takes it
/// back (nfnetlink.c, `NFNL_ABORT_VALIDATE`; nft's own `--check` is made of it).
pub(super) fn emit_trial(requests: &[Request], generation: Option<u32>, sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let condition: Vec<Attribute> = generation
        .map(|generation| Attribute::number(NFNL_BATCH_GENID, generation))
        .into_iter()
        .collect();
    let begin = (NFNL_MSG_BATCH_BEGIN, 0, NFPROTO_UNSPEC);
    emit_message(begin, BATCH_OF_NFTABLES, sequence, &condition, &mut out);
    let mut next = sequence;
    for (place, request) in requests.iter().enumerate() {
        next = next.wrapping_add(1);
        let last = place + 1 == requests.len();
        request.emit(next, if last { NLM_F_ACK } else { 0 }, &mut out);
    }
    out
}

fn emit_message(
    (kind, flags, family): (u16, u16, u8),
    resource: u16,
    sequence: u32,
    attributes: &[Attribute],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(kind.to_ne_bytes());
    out.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    // The kernel fills in the port of the sender; the version is always zero.
    out.extend([0; 4]);
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    attributes.iter().for_each(|attribute| attribute.emit(out));
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Answer<'a> {
    /// The number of the request that this answers.
    pub(super) sequence: u32,
    /// The rule set changed while it was being dumped.
    pub(super) interrupted: bool,
    pub(super) body: Body<'a>,
}

/// What a message from the kernel says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body<'a> {
    /// An object's attributes, and the low half of the generation they are of.
    Object { generation: u16, attributes: &'a [u8] },
    /// Success of a request, the end of a dump, or a failure with its errno
    /// (positive) and the kernel's attributes about it.
    Verdict { errno: i32, attributes: &'a [u8] },
}

/// The messages of one datagram. Ends at the first one that cannot be read.
pub(super) fn answers(mut rest: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let message = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16_at(message, 4)?;
        let flags = u16_at(message, 6)?;
        let payload = message.get(NETLINK_HEADER_BYTES..)?;
        let body = match kind {
            NLMSG_ERROR | NLMSG_DONE => verdict(kind, flags, payload)?,
            _ => Body::Object {
                generation: u16::from_be_bytes(payload.get(2..4)?.try_into().ok()?),
                attributes: payload.get(NETFILTER_HEADER_BYTES..)?,
            },
        };
        let interrupted = kind != NLMSG_ERROR && flags & NLM_F_DUMP_INTR != 0;
        Some(Answer { sequence: u32_at(message, 8)?, interrupted, body })
    })
}

/// An error holds the header of the request before its attributes
/// (`NETLINK_CAP_ACK` keeps the rest of the request out).
fn verdict(kind: u16, flags: u16, payload: &[u8]) -> Option<Body<'_>> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    let skip = if kind == NLMSG_ERROR { 4 + NETLINK_HEADER_BYTES } else { 4 };
    let attributes = if flags & NLM_F_ACK_TLVS != 0 { payload.get(skip..) } else { None };
    Some(Body::Verdict {
        errno: code.checked_neg().unwrap_or(i32::MAX),
        attributes: attributes.unwrap_or_default(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn a_batch_carries_its_generation_and_one_acknowledgement() {
        let named = |name| [Attribute::string(NFTA_TABLE_NAME, name)];
        let requests = [
            Request::new(NFT_MSG_DELTABLE, 0, "", named("a")),
            Request::new(NFT_MSG_NEWTABLE, NLM_F_CREATE, "", named("a")),
        ];
        let expected: &[u8] = b"\
            \x1c\0\0\0\x10\0\x01\0\x07\0\0\0\0\0\0\0\0\0\0\x0a\x08\0\x01\0\0\0\x01\x02\
            \x1c\0\0\0\x02\x0a\x01\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x06\0\x01\0a\0\0\0\
            \x1c\0\0\0\0\x0a\x05\x04\x09\0\0\0\0\0\0\0\x01\0\0\0\x06\0\x01\0a\0\0\0\
            \x14\0\0\0\x11\0\x01\0\x0a\0\0\0\0\0\0\0\0\0\0\x0a";
        assert_eq!(emit_batch(&requests, Some(258), 7), expected);
    }

    #[test]
    fn an_error_is_read_with_the_words_of_the_kernel() {
        let datagram: &[u8] = b"\
            \x30\0\0\0\x02\0\0\x02\x05\0\0\0\x09\0\0\0\xfe\xff\xff\xff\
            \x14\0\0\0\x0a\x0a\x01\0\x05\0\0\0\0\0\0\0\x0b\0\x01\0gone it\0";
        let words: &[u8] = b"\x0b\0\x01\0gone it\0";
        let expected = Answer {
            sequence: 5,
            interrupted: false,
            body: Body::Verdict { errno: 2, attributes: words },
        };
        assert_eq!(answers(datagram).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn an_interrupted_dump_says_so_and_cut_messages_end_the_reading() {
        let object = b"\x18\0\0\0\x00\x0a\x12\0\x05\0\0\0\x09\0\0\0\x01\0\x01\x02\x04\0\x01\0";
        let found: Vec<_> = answers(object).collect();
        let body = Body::Object { generation: 258, attributes: b"\x04\0\x01\0" };
        assert_eq!(found, [Answer { sequence: 5, interrupted: true, body }]);
        for cut in 0..object.len() {
            assert_eq!(answers(&object[..cut]).count(), 0);
        }
    }
}
