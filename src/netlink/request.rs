// SPDX-License-Identifier: Apache-2.0
//! A message to the kernel, encoded when it is made: whoever sends it copies
//! bytes and knows nothing of what they say.

use std::{borrow::Cow, net::IpAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;

use crate::list::PushAll;

/// A message to the kernel with the words to report it by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
    what: Words,
    tolerated: Cow<'static, [Errno]>,
    is_question: bool,
}

/// The words to report a message by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Words {
    Text(Cow<'static, str>),
    /// Of thousands of messages few fail: put together for those.
    About(&'static str, IpAddr),
}

impl From<&'static str> for Words {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<(&'static str, IpAddr)> for Words {
    fn from((text, address): (&'static str, IpAddr)) -> Self {
        Self::About(text, address)
    }
}

impl Request {
    /// A message that changes something: its type and flags, and what stands behind
    /// the netlink header. It is answered when it fails or an acknowledgement is
    /// asked for.
    pub(crate) fn change(kind: u16, flags: u16, body: Vec<u8>, what: impl Into<Words>) -> Self {
        let (what, tolerated) = (what.into(), Cow::default());
        Self { kind, flags, body, what, tolerated, is_question: false }
    }

    /// A message that asks for an object, or with `NLM_F_DUMP` for a list of them.
    pub(crate) fn question(kind: u16, flags: u16, body: Vec<u8>, what: impl Into<Words>) -> Self {
        Self { is_question: true, ..Self::change(kind, flags, body, what) }
    }

    /// The same request, for which `errno` counts as success.
    #[must_use]
    pub fn tolerate(mut self, errno: Errno) -> Self {
        self.tolerated.to_mut().push(errno);
        self
    }

    /// The same for all of these and no others.
    #[must_use]
    pub(crate) fn tolerate_all(self, errnos: &'static [Errno]) -> Self {
        Self { tolerated: errnos.into(), ..self }
    }

    /// What is reported when it fails.
    pub fn what(&self) -> Cow<'_, str> {
        match &self.what {
            Words::Text(text) => Cow::Borrowed(text),
            Words::About(text, address) => Cow::Owned(format!("{text} {address}")),
        }
    }

    pub(super) fn is_question(&self) -> bool {
        self.is_question
    }

    /// Whether the answer ends with a message that says so.
    pub(crate) fn is_dump(&self) -> bool {
        self.is_question && self.flags & NLM_F_DUMP == NLM_F_DUMP
    }

    pub(super) fn tolerates(&self, errno: Errno) -> bool {
        self.tolerated.contains(&errno)
    }

    /// Appends the whole message (`struct nlmsghdr`) and its padding.
    pub(crate) fn emit(&self, sequence: u32, further_flags: u16, out: &mut Vec<u8>) {
        let length = super::answer::HEADER_BYTES + self.body.len();
        out.push_all(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        out.push_all(self.kind.to_ne_bytes());
        out.push_all((NLM_F_REQUEST | self.flags | further_flags).to_ne_bytes());
        out.push_all(sequence.to_ne_bytes());
        // The kernel fills in the port of the sender.
        out.push_all([0; 4]);
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}
