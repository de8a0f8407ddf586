// SPDX-License-Identifier: Apache-2.0
//! What the kernel sends back, taken apart without copying: the messages of a
//! datagram, and what a message says.
//!
//! Whoever asked picks the few attributes that it wants. To decode all sixty of
//! a link's description would be most of the work of a look-up.

use netlink_packet_core::{DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE};
use nix::errno::Errno;

use super::{
    Error, Request,
    attribute::{Attributes, find, string},
};

/// `struct nlmsghdr`.
pub(super) const HEADER_BYTES: usize = 16;
/// The kernel's explanation as text.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What is made of an answer: an object, nothing if it is about another one, or
/// why it cannot be understood.
pub(crate) type Reading<T> = Result<Option<T>, DecodeError>;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer<'a> {
    /// Type of the message: RTM_NEWLINK, NLMSG_ERROR.
    pub(crate) kind: u16,
    /// NLM_F_DUMP_INTR and its like.
    pub(crate) flags: u16,
    /// Which request it answers.
    pub(crate) sequence: u32,
    /// What stands behind the netlink header.
    pub(crate) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The attributes behind a header of the object's own, whose length in
    /// bytes is given.
    pub(crate) fn attributes(&self, header_bytes: usize) -> Attributes<'a> {
        Attributes(self.body.get(header_bytes..).unwrap_or_default())
    }

    /// The number of an NLMSG_ERROR or NLMSG_DONE; `None` for success.
    pub(super) fn errno(&self) -> Option<Errno> {
        let code = i32::from_ne_bytes(field(self.body, 0)?);
        (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
    }

    /// Why `request` was refused; `None` for success and for what it tolerates.
    pub(super) fn error(&self, request: &Request) -> Option<Error> {
        let errno = self.errno().filter(|errno| !request.tolerates(*errno))?;
        let error = Error::new(request.what(), errno);
        Some(match self.words() {
            Some(words) => error.words(words),
            None => error,
        })
    }

    /// The text of the extended acknowledgement. In a refusal it stands behind the
    /// request that is repeated, or behind its header alone (netlink(7),
    /// NETLINK_EXT_ACK and NETLINK_CAP_ACK).
    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let repeated = match self.kind {
            NLMSG_DONE => 0,
            _ if self.flags & NLM_F_CAPPED != 0 => HEADER_BYTES,
            _ => u32::from_ne_bytes(field(self.body, size_of::<i32>())?) as usize,
        };
        let start = size_of::<i32>().checked_add(repeated)?.next_multiple_of(4);
        find(self.body.get(start..)?, NLMSGERR_ATTR_MSG).map(string)
    }
}

/// The messages of one datagram; a truncated tail ends the iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(field(self.0, 0)?) as usize;
        let answer = Answer {
            kind: u16::from_ne_bytes(field(self.0, 4)?),
            flags: u16::from_ne_bytes(field(self.0, 6)?),
            sequence: u32::from_ne_bytes(field(self.0, 8)?),
            body: self.0.get(HEADER_BYTES..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    }
}

/// The `N` bytes at `offset`, if there are as many.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLMSG_ERROR;

    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = Vec::from(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_ends_with_its_last_whole_message() {
        let mut datagram = message(16, 0, b"abc");
        let first = datagram.len();
        datagram.extend(message(20, 2, b"defg"));
        let told = |datagram: &[u8]| -> Vec<(u16, Vec<u8>)> {
            Answers(datagram).map(|answer| (answer.kind, answer.body.to_vec())).collect()
        };
        let both = [(16, b"abc".to_vec()), (20, b"defg".to_vec())];
        assert_eq!(told(&datagram), both);
        for length in 0..datagram.len() {
            // The padding of the last message need not be there.
            let whole = usize::from(length >= first - 1);
            assert_eq!(told(&datagram[..length]), both[..whole], "{length}");
        }
        // No header at all, a length that is less than a header's, one that is too much.
        for length in [0_u32, 15, 4096, u32::MAX] {
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(told(&datagram), [], "{length}");
        }
    }

    /// With NETLINK_CAP_ACK the header alone is repeated, with the length of all that
    /// was refused.
    #[test]
    #[cfg(target_endian = "little")]
    fn an_error_is_read_with_the_words_of_the_kernel() {
        let datagram: &[u8] = b"\
            \x30\0\0\0\x02\0\0\x03\x05\0\0\0\x09\0\0\0\xfe\xff\xff\xff\
            \x14\0\0\0\x0a\x0a\x01\0\x05\0\0\0\0\0\0\0\x0b\0\x01\0gone it\0";
        let request = Request::change(0x0a0a, 0, vec![0; 4], "change it");
        let [answer] = Answers(datagram).collect::<Vec<_>>()[..] else { panic!("not one") };
        assert_eq!((answer.sequence, answer.errno()), (5, Some(Errno::ENOENT)));
        let told = answer.error(&request).unwrap().to_string();
        assert_eq!(told, "change it: No such file or directory: gone it");
    }

    #[test]
    fn an_error_that_ends_a_dump_has_words_too() {
        let body = [&(-(Errno::ENOENT as i32)).to_ne_bytes()[..], b"\x0b\0\x01\0gone it\0"];
        let flags = NLM_F_ACK_TLVS;
        let body = &body.concat();
        let answer = Answer { kind: NLMSG_DONE, flags, sequence: 7, body };
        let error = answer.error(&Request::question(18, 0, Vec::new(), "list")).unwrap();
        assert_eq!(error.to_string(), "list: No such file or directory: gone it");
    }

    #[test]
    fn a_refusal_is_told_in_the_kernels_words_however_much_of_them_came() {
        // The header of what is refused alone, or all of it, here of an odd length.
        for (capped, repeated) in [(NLM_F_CAPPED, 16), (0, 16), (0, 35)] {
            let mut body = Vec::from((-(Errno::EINVAL as i32)).to_ne_bytes());
            body.extend(u32::to_ne_bytes(if capped == 0 { repeated } else { 4096 }));
            body.resize((4 + repeated as usize).next_multiple_of(4), 0);
            body.extend(b"\x08\0\x02\0\x01\0\0\0\x0c\0\x01\0so what\0");
            let flags = NLM_F_ACK_TLVS | capped;
            let datagram = message(NLMSG_ERROR, flags, &body);
            let request = Request::question(18, 0, Vec::new(), "try");
            let told = |body| Answer { kind: NLMSG_ERROR, flags, sequence: 7, body };
            let error = Answers(&datagram).next().unwrap().error(&request).unwrap();
            assert_eq!(error.to_string(), "try: Invalid argument: so what");
            for length in 0..body.len() {
                let error = told(&body[..length]).error(&request);
                assert_eq!(error.is_some(), length >= 4, "{length}");
                assert_eq!(error.and_then(|error| error.words.clone()), None, "{length}");
            }
            assert_eq!(told(&[0; 4]).errno(), None);
            assert_eq!(told(&body).error(&request.clone().tolerate(Errno::EINVAL)), None);
            // Whatever length the kernel would claim.
            let mut body = body.clone();
            body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            let words = told(&body).error(&request).and_then(|error| error.words.clone());
            assert_eq!(words.is_some(), capped != 0);
        }
    }
}
