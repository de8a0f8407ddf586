//! What the kernel sends back, taken apart without copying: the messages of a
//! datagram, and the attributes of a message.
//!
//! Whoever asked picks the few attributes that it wants. To decode all sixty of
//! a link's description would be most of the work of a look-up. It is the kernel
//! that wrote them, and still nothing here trusts a length.

use netlink_packet_core::{DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NlasIterator};
use nix::errno::Errno;

use super::{Error, Request};

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// The kernel's explanation as text.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What is made of an answer: an object, nothing if it is about another one, or
/// why it cannot be understood.
pub(super) type Reading<T> = Result<Option<T>, DecodeError>;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    /// Type of the message: RTM_NEWLINK, NLMSG_ERROR.
    pub(super) kind: u16,
    /// NLM_F_DUMP_INTR and its like.
    pub(super) flags: u16,
    /// Which request it answers.
    pub(super) sequence: u32,
    /// What stands behind the netlink header.
    pub(super) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The attributes behind a header of the object's own, whose length in
    /// bytes is given.
    pub(super) fn attributes(&self, header_bytes: usize) -> NlasIterator<&'a [u8]> {
        NlasIterator::new(self.body.get(header_bytes..).unwrap_or_default())
    }

    /// The number of an NLMSG_ERROR or NLMSG_DONE; `None` for success.
    pub(super) fn errno(&self) -> Option<Errno> {
        let code = i32::from_ne_bytes(field(self.body, 0)?);
        (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
    }

    /// Why `request` was refused; `None` for success and for what it tolerates.
    pub(super) fn error(&self, request: &Request) -> Option<Error> {
        let errno = self.errno().filter(|errno| !request.tolerates(*errno))?;
        Some(Error { what: request.what().to_owned(), errno, words: self.words() })
    }

    /// The text of the extended acknowledgement, which stands behind the request
    /// that is repeated, or behind its header alone (netlink(7), NETLINK_EXT_ACK
    /// and NETLINK_CAP_ACK).
    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let repeated = match self.flags & NLM_F_CAPPED {
            0 => u32::from_ne_bytes(field(self.body, size_of::<i32>())?) as usize,
            _ => HEADER_BYTES,
        };
        let start = size_of::<i32>().checked_add(repeated)?.next_multiple_of(4);
        let mut attributes = self.attributes(start).map_while(Result::ok);
        let message = attributes.find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
        Some(text(message.value()))
    }
}

/// The messages of one datagram; a truncated tail ends the iteration.
pub(super) struct Answers<'a>(pub(super) &'a [u8]);

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

/// A string with or without the NUL at its end. Whoever may make links may give
/// them names that are not UTF-8, and ours are found beside them all the same.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

#[cfg(test)]
pub(super) mod tests;
