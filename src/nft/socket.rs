// SPDX-License-Identifier: Apache-2.0
//! The conversation with nf_tables: questions with their answers, and batches
//! that happen whole or not at all. Knows no table of ours.

use super::error::Error;
use super::message::{begin, end, object};
use crate::list::Gather;
use crate::netlink::{self, Answer, Batch, DecodeError, Netfilter, Request};

/// A netlink socket of the network namespace in which it was opened.
pub(super) type Socket = netlink::Socket<Netfilter>;

/// What one question brought.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The attributes of each object.
    pub(super) objects: Vec<Vec<u8>>,
    /// There is no such thing.
    pub(super) absent: bool,
    /// The low halves of all generations that the answers are of agree with
    /// this; `None` without an object.
    generation: Option<u16>,
    /// The rule set changed under way: objects may be missing or doubled.
    torn: bool,
}

impl Reply {
    /// Whether the rule set changed under way.
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }

    /// Whether the reply is whole and of `generation`.
    pub(super) fn is_of(&self, generation: u32) -> bool {
        let low_half = (generation & 0xffff) as u16;
        !self.torn && self.generation.is_none_or(|of| of == low_half)
    }

    pub(super) fn add(&mut self, answer: &Answer<'_>) -> Result<(), DecodeError> {
        let (generation, attributes) = object(answer)?;
        self.torn |= self.generation.replace(generation).is_some_and(|of| of != generation);
        self.objects.push(attributes.into());
        Ok(())
    }
}

/// The first objects of a dump, by a socket of its own: at least `enough` unless
/// there are fewer.
pub(super) fn head(question: &Request, enough: usize) -> Result<Reply, Error> {
    let mut reply = Reply::default();
    Socket::head(question, enough, &mut |_, answer| reply.add(answer))?;
    Ok(reply)
}

impl Socket {
    /// Asks all questions in one message; the replies are in the same order. At
    /// most the last question may be a dump.
    pub(super) fn replies(&mut self, questions: &[Request]) -> Result<Vec<Reply>, Error> {
        let mut replies: Vec<Reply> = questions.iter().map(|_| Reply::default()).gather();
        let held_still = self.ask(questions, &mut |place, answer| {
            replies.get_mut(place).map_or(Ok(()), |reply| reply.add(answer))
        })?;
        for (reply, question) in replies.iter_mut().zip(questions) {
            reply.absent = reply.objects.is_empty() && !question.is_dump();
        }
        if let Some(last) = replies.last_mut() {
            last.torn |= !held_still;
        }
        Ok(replies)
    }

    /// Carries out all requests, or none: with `generation`, only if the rule
    /// set is still of it (`ERESTART` otherwise).
    pub(super) fn commit(
        &mut self,
        requests: &[Request],
        generation: Option<u32>,
    ) -> Result<(), Error> {
        let (begin, end) = (begin(requests, generation), end());
        let batch = Batch { begin: Some(&begin), requests, end: Some(&end) };
        Ok(self.transact(&batch)?)
    }

    /// Whether the kernel would carry out all requests. Changes nothing.
    pub(super) fn try_out(&mut self, requests: &[Request]) -> Result<(), Error> {
        let begin = begin(requests, None);
        Ok(self.transact(&Batch { begin: Some(&begin), requests, end: None })?)
    }
}
