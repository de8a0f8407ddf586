// SPDX-License-Identifier: Apache-2.0
//! One send to the kernel, and the answers to all that it held.
//!
//! A batch is not a transaction: the kernel goes on after a message that failed,
//! and answers in order. So an error is carried back to the request that caused it,
//! and the answer to the last request ends the reading.

use std::io;

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::Socket as RawSocket;
use nix::{
    errno::Errno,
    sys::socket::{
        MsgFlags, getsockopt, setsockopt,
        sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce},
    },
};

use super::{Answer, Answers, Error, Request};
use crate::list::PushAll;

/// One datagram of the kernel is never larger (netlink_dump, af_netlink.c).
pub(super) const RECEIVE_BYTES: usize = 32 * 1024;
/// Messages in one send: their answers have to fit into the socket's receive
/// buffer (net.core.rmem_default, 212992 bytes).
pub(crate) const BATCH: usize = 100;
/// Changes in one send at most, where the receive buffer has room for as many
/// refusals.
const CHANGES: usize = 500;
/// What the receive buffer is charged for one refusal, in bytes: a buffer of a
/// kilobyte and its description (`struct sk_buff`).
const ANSWER_BYTES: usize = 1280;
/// The receive buffer that is asked for where many answers may come.
const BUFFER_BYTES: usize = 1 << 20;
/// The kernel's default limit of a send is not much above this; a larger one needs
/// a larger send buffer.
const SMALL_SEND_BYTES: usize = 128 * 1024;
/// A refusal that repeats as much of what it refuses may not fit into a datagram.
const REPEATED_BYTES_MAX: usize = RECEIVE_BYTES / 2;

/// A request of a batch that the kernel refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// Its place in the batch, from 0.
    pub at: usize,
    /// What the kernel said.
    pub error: Error,
}

/// What is sent at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    /// The message that opens a transaction, if it is one. An error of all of the
    /// transaction comes as an error of this message.
    pub(crate) begin: Option<&'a Request>,
    pub(crate) requests: &'a [Request],
    pub(crate) end: Option<&'a Request>,
}

impl<'a> Batch<'a> {
    pub(super) fn of(requests: &'a [Request]) -> Self {
        Self { begin: None, requests, end: None }
    }

    /// Appends all messages, numbered from `sequence` on. The answer to the last request
    /// is the last of all: a question has one anyway, a change is asked to be
    /// acknowledged. Errors come unasked.
    pub(crate) fn emit(&self, sequence: u32, out: &mut Vec<u8>) {
        let all = self.begin.into_iter().chain(self.requests).chain(self.end);
        let last = self.requests.last().filter(|last| !last.is_question());
        let mut number = sequence;
        for request in all {
            let is_last = last.is_some_and(|last| std::ptr::eq(last, request));
            request.emit(number, if is_last { NLM_F_ACK } else { 0 }, out);
            number = number.wrapping_add(1);
        }
    }

    /// How many messages stand before the requests, and how many there are.
    fn lengths(&self) -> (u32, u32) {
        let before = self.begin.iter().count();
        let all = before + self.requests.len() + self.end.iter().count();
        (before as u32, all as u32)
    }
}

/// What became of the requests, beside the objects that were handed over.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) failed: Vec<Failed>,
    /// The list changed while it was dumped: objects may be missing or doubled.
    pub(super) torn: bool,
}

/// What becomes of an answer that is an object: its request's place, and itself.
pub(super) type Take<'a> = dyn FnMut(usize, &Answer<'_>) -> Result<(), DecodeError> + 'a;

pub(super) struct Channel {
    pub(super) raw: RawSocket,
    sequence: u32,
    /// What is sent, and then what comes back.
    buffer: Vec<u8>,
    /// Errors come with the kernel's words.
    ext_ack: bool,
    /// They repeat the header of what they refuse, not all of it.
    cap_ack: bool,
    /// Filters of a dump are refused where the kernel does not know them.
    strict: bool,
}

impl Channel {
    /// The kernel binds the socket at the first send.
    pub(super) fn open(protocol: isize, receive_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            raw: RawSocket::new(protocol)?,
            sequence: 0,
            buffer: Vec::with_capacity(receive_bytes),
            ext_ack: false,
            cap_ack: false,
            strict: false,
        })
    }

    /// Sends all of a batch and hands over what its questions brought. After `enough`
    /// objects the rest is not read, and the socket is of no further use.
    pub(super) fn exchange(
        &mut self,
        batch: &Batch<'_>,
        enough: usize,
        take: &mut Take<'_>,
    ) -> Result<Outcome, Error> {
        let (Some(first), Some(last)) = (batch.requests.first(), batch.requests.last()) else {
            return Ok(Outcome::default());
        };
        let number = self.sequence.wrapping_add(1);
        let (before, all) = batch.lengths();
        self.sequence = self.sequence.wrapping_add(all);
        self.buffer.clear();
        batch.emit(number, &mut self.buffer);
        // Questions do without it, which saves the call.
        if batch.requests.iter().any(|request| !request.is_question()) {
            self.set_ext_ack();
        }
        self.send().map_err(|error| Error::from_io(first.what(), &error))?;
        let mut progress = Progress::new(batch, number.wrapping_add(before));
        while !progress.ended && progress.objects < enough {
            match self.receive() {
                Ok(true) => progress.read(&self.buffer, take)?,
                Ok(false) => break,
                // The socket stays congested until it has been read empty, and the
                // kernel drops the answers to come.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    progress.overrun = true;
                }
                Err(error) => return Err(Error::from_io(last.what(), &error)),
            }
        }
        // Of a socket that goes on for long, after a batch that was large for once.
        self.buffer.clear();
        self.buffer.shrink_to(RECEIVE_BYTES);
        progress.outcome(enough, last)
    }

    /// How many changes one send may have if all of them may be refused. The
    /// larger buffer is for those who may exceed net.core.rmem_max; others get
    /// as much as that allows.
    pub(super) fn room(&mut self) -> usize {
        self.set_cap_ack();
        let _ = setsockopt(&self.raw, RcvBufForce, &BUFFER_BYTES)
            .or_else(|_| setsockopt(&self.raw, RcvBuf, &BUFFER_BYTES));
        let bytes = getsockopt(&self.raw, RcvBuf).unwrap_or_default();
        (bytes / ANSWER_BYTES).clamp(BATCH, CHANGES)
    }

    pub(super) fn set_strict(&mut self) -> io::Result<()> {
        if !self.strict {
            self.raw.set_netlink_get_strict_chk(true)?;
            self.strict = true;
            self.set_ext_ack();
        }
        Ok(())
    }

    /// A refusal without words is one all the same.
    fn set_ext_ack(&mut self) {
        if !self.ext_ack {
            self.ext_ack = true;
            log_failure("NETLINK_EXT_ACK", self.raw.set_ext_ack(true));
        }
    }

    fn set_cap_ack(&mut self) {
        if !self.cap_ack {
            self.cap_ack = true;
            log_failure("NETLINK_CAP_ACK", self.raw.set_cap_ack(true));
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = self.buffer.len();
        if bytes > REPEATED_BYTES_MAX {
            self.set_cap_ack();
        }
        if bytes > SMALL_SEND_BYTES {
            // Only the first namespace's root may go beyond net.core.wmem_max. What is
            // too much is reported by the send.
            let room = bytes.saturating_mul(2);
            let forced = setsockopt(&self.raw, SndBufForce, &room);
            let made = forced.or_else(|_| setsockopt(&self.raw, SndBuf, &room));
            log_failure("SO_SNDBUF", made.map_err(io::Error::from));
        }
        loop {
            match self.raw.send(&self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Reads the next datagram into the buffer; false if the kernel has nothing more
    /// to say.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            match self.raw.recv_from(&mut self.buffer, MsgFlags::MSG_DONTWAIT.bits()) {
                // Whoever has CAP_NET_ADMIN in the namespace can send to our socket, a
                // pod in its own for example. The kernel's port is 0.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What has come back so far.
struct Progress<'a> {
    batch: &'a Batch<'a>,
    /// The number of the first request.
    first: u32,
    outcome: Outcome,
    objects: usize,
    /// Questions that have no answer yet.
    unanswered: usize,
    /// The last request has its answer.
    ended: bool,
    /// The receive buffer was too small, and something is lost.
    overrun: bool,
}

impl<'a> Progress<'a> {
    fn new(batch: &'a Batch<'a>, first: u32) -> Self {
        let unanswered = batch.requests.iter().filter(|request| request.is_question()).count();
        let (outcome, objects) = (Outcome::default(), 0);
        Self { batch, first, outcome, objects, unanswered, ended: false, overrun: false }
    }

    fn read(&mut self, datagram: &[u8], take: &mut Take<'_>) -> Result<(), Error> {
        for answer in Answers(datagram) {
            let at = answer.sequence.wrapping_sub(self.first) as usize;
            let Some(request) = self.batch.requests.get(at) else {
                self.read_begin(&answer);
                continue;
            };
            self.outcome.torn |= answer.flags & NLM_F_DUMP_INTR != 0;
            let whole = match answer.kind {
                // A dump that began again too late.
                NLMSG_DONE if answer.errno() == Some(Errno::EINTR) => {
                    self.outcome.torn = true;
                    true
                }
                NLMSG_DONE | NLMSG_ERROR => {
                    let error = answer.error(request);
                    self.outcome.failed.push_all(error.map(|error| Failed { at, error }));
                    true
                }
                _ => {
                    take(at, &answer).map_err(|error| unreadable(request, &error))?;
                    self.objects += 1;
                    !request.is_dump()
                }
            };
            self.ended |= whole && at + 1 == self.batch.requests.len();
            if whole && request.is_question() {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// An answer that is not to a request may be to the message that opens the
    /// transaction.
    fn read_begin(&mut self, answer: &Answer<'_>) {
        let number = self.first.wrapping_sub(1);
        if let Some(begin) = self.batch.begin.filter(|_| answer.sequence == number) {
            let error = answer.error(begin);
            self.outcome.failed.push_all(error.map(|error| Failed { at: 0, error }));
        }
    }

    /// Where an answer is missing, the errors that did come are the reason, as after a
    /// transaction that was refused as a whole; without any, that it is missing.
    fn outcome(self, enough: usize, last: &Request) -> Result<Outcome, Error> {
        let whole = self.ended && self.unanswered == 0 || self.objects >= enough;
        if whole && !self.overrun || !self.outcome.failed.is_empty() {
            return Ok(self.outcome);
        }
        if self.overrun {
            let words = "more answers than the receive buffer holds".to_owned();
            return Err(Error::new(last.what(), Errno::ENOBUFS).words(words));
        }
        Err(Error::unanswered(last.what()))
    }
}

fn log_failure(option: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("netlink: {option}: {error}");
    }
}

fn unreadable(request: &Request, error: &DecodeError) -> Error {
    Error::new(request.what(), Errno::EBADMSG).words(error.to_string())
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_DUMP;

    use super::*;

    /// A message of the kernel's about the request of that number.
    fn message(kind: u16, flags: u16, number: u32, errno: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let body = (-errno).to_ne_bytes().to_vec();
        Request::change(kind, flags, body, "").emit(number, 0, &mut bytes);
        bytes
    }

    fn read(batch: &Batch<'_>, overrun: bool, messages: &[Vec<u8>]) -> Result<Outcome, Error> {
        let mut progress = Progress::new(batch, 5);
        progress.overrun = overrun;
        progress.read(&messages.concat(), &mut |_, _| Ok(()))?;
        progress.outcome(usize::MAX, batch.requests.last().unwrap())
    }

    #[test]
    fn a_dump_is_torn_whole_refused_or_missing() {
        let list = [Request::question(18, NLM_F_DUMP, Vec::new(), "list")];
        let object = |flags| message(16, flags, 5, 0);
        let done = |errno| message(NLMSG_DONE, 0, 5, errno);
        let [intr, none] = [Errno::EINTR as i32, Errno::ENOENT as i32];
        let missing = Error::unanswered("list");
        let refused = Error::new("list", Errno::ENOENT);
        for (messages, expected) in [
            (vec![object(0), done(0)], Ok(false)),
            (vec![object(NLM_F_DUMP_INTR), object(0), done(0)], Ok(true)),
            (vec![object(0), message(NLMSG_DONE, NLM_F_DUMP_INTR, 5, 0)], Ok(true)),
            (vec![object(0), done(intr)], Ok(true)),
            (vec![object(0), done(none)], Err(refused.clone())),
            (vec![message(NLMSG_ERROR, 0, 5, none)], Err(refused)),
            (vec![object(0), message(NLMSG_DONE, 0, 4, 0)], Err(missing.clone())),
            (vec![], Err(missing)),
        ] {
            let outcome = read(&Batch::of(&list), false, &messages);
            let told = outcome.and_then(|outcome| match outcome.failed.into_iter().next() {
                Some(failed) => Err(failed.error),
                None => Ok(outcome.torn),
            });
            assert_eq!(told, expected, "{messages:?}");
        }
        let lost = read(&Batch::of(&list), true, &[object(0), done(0)]).unwrap_err();
        assert_eq!(lost.errno, Errno::ENOBUFS);
    }

    #[test]
    fn errors_come_back_to_their_requests() {
        let change = |what| Request::change(16, 0, Vec::new(), what);
        let begin = change("a transaction");
        let requests = ["a", "b", "c"].map(change);
        let told = |batch: &Batch<'_>, messages: &[Vec<u8>]| {
            let failed = read(batch, false, messages).unwrap().failed;
            failed.into_iter().map(|it| (it.at, it.error.what.clone())).collect::<Vec<_>>()
        };
        let answer = |number, errno| message(NLMSG_ERROR, 0, number, errno);
        let batch = Batch::of(&requests);
        assert_eq!(told(&batch, &[answer(7, 0)]), []);
        let second = [(1, "b".to_owned())];
        assert_eq!(told(&batch, &[answer(6, 1), answer(7, 0)]), second);
        // The number before the first is another's, unless it is that of the beginning.
        assert_eq!(told(&batch, &[answer(4, 1), answer(7, 0)]), []);
        let transaction = Batch { begin: Some(&begin), ..batch };
        assert_eq!(told(&transaction, &[answer(4, 1)]), [(0, "a transaction".to_owned())]);
    }
}
