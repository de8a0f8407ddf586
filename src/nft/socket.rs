//! The conversation with nf_tables: questions with their answers, and batches
//! that happen whole or not at all. Knows no table of ours.
//!
//! The kernel handles a request within `send`, so whatever it has to say is
//! there when `send` returns. Reading therefore never waits, and silence is an
//! error rather than a hang.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::abi::*;
use super::attribute;
use super::error::Error;
use super::message::{Answer, Body, Request, answers, emit_batch, emit_trial};

/// The kernel fills at most this much per datagram of a dump
/// (net/netlink/af_netlink.c, `netlink_dump`).
pub(super) const DATAGRAM_BYTES_MAX: usize = 32 * 1024;

/// It fills no more than this before anything was received (`NLMSG_GOODSIZE`,
/// include/linux/netlink.h), nor afterwards by a buffer of this size. Small
/// enough for the allocator to have it.
const DUMPED_BYTES_MAX: usize = 8 * 1024;

/// The kernel's default limit of a message is not much above this; a larger one
/// needs a larger send buffer.
const SMALL_BATCH_BYTES: usize = 128 * 1024;

const READ: &str = "read";

/// A netlink socket of the network namespace in which it was opened.
pub(super) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    /// Errors come with the kernel's words.
    explains: bool,
}

/// What one question brought.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The attributes of each object.
    pub(super) objects: Vec<Vec<u8>>,
    /// There is no such thing (ENOENT).
    pub(super) absent: bool,
    /// The low halves of all generations that the answers are of agree with
    /// this; `None` without an object.
    generation: Option<u16>,
    /// The rule set changed under way: objects may be missing or doubled.
    torn: bool,
    complete: bool,
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
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread. The kernel
    /// binds it at the first message, and nobody without CAP_NET_ADMIN can write
    /// to it.
    pub(super) fn open() -> Result<Self, Error> {
        let inner = netlink_sys::Socket::new(NETLINK_NETFILTER)
            .map_err(|error| kernel_error("open", "a netfilter socket", &error))?;
        Ok(Self { inner, sequence: 0, explains: false })
    }

    /// Without these options, an error lacks the kernel's words and drags the
    /// request along. Who only looks does without either.
    fn explain(&mut self) -> Result<(), Error> {
        if !self.explains {
            let failed = |error: io::Error| kernel_error("set up", "a netfilter socket", &error);
            self.inner.set_ext_ack(true).map_err(failed)?;
            self.inner.set_cap_ack(true).map_err(failed)?;
            self.explains = true;
        }
        Ok(())
    }

    /// The first objects of a dump, at least `enough` unless there are fewer. The
    /// rest is not read: the socket is of no use afterwards.
    pub(super) fn first(mut self, question: &Request, enough: usize) -> Result<Reply, Error> {
        let questions = std::slice::from_ref(question);
        let enough = |reply: &Reply| reply.objects.len() >= enough;
        let replies = self.gather(questions, DUMPED_BYTES_MAX, &enough)?;
        Ok(replies.into_iter().next().unwrap_or_default())
    }

    /// Asks all questions in one message; the replies are in the same order. At
    /// most the last question may be a dump, as a socket runs one at a time.
    pub(super) fn ask(&mut self, questions: &[Request]) -> Result<Vec<Reply>, Error> {
        self.gather(questions, DATAGRAM_BYTES_MAX, &|_| false)
    }

    fn gather(
        &mut self,
        questions: &[Request],
        bytes_max: usize,
        enough: &dyn Fn(&Reply) -> bool,
    ) -> Result<Vec<Reply>, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        for question in questions {
            self.sequence = self.sequence.wrapping_add(1);
            question.emit(self.sequence, 0, &mut out);
        }
        let subject = questions.first().map_or("nf_tables", |question| &question.object);
        self.send(&out, READ, subject)?;
        let mut replies: Vec<Reply> = questions.iter().map(|_| Reply::default()).collect();
        while let Some(waiting) = replies.iter().position(|reply| !reply.complete && !enough(reply))
        {
            let object = questions.get(waiting).map_or(subject, |question| &question.object);
            let Some(datagram) = self.receive(READ, object, bytes_max)? else {
                return Err(Error::Unanswered { operation: READ, object: object.into() });
            };
            for answer in answers(&datagram) {
                let place = answer.sequence.wrapping_sub(first) as usize;
                if let (Some(reply), Some(question)) =
                    (replies.get_mut(place), questions.get(place))
                {
                    reply.add(answer, question)?;
                }
            }
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
        let batch = emit_batch(requests, generation, self.sequence.wrapping_add(1));
        self.transact(requests, &batch)
    }

    /// Whether the kernel would carry out all requests. Changes nothing.
    pub(super) fn try_out(&mut self, requests: &[Request]) -> Result<(), Error> {
        let batch = emit_trial(requests, None, self.sequence.wrapping_add(1));
        self.transact(requests, &batch)
    }

    fn transact(&mut self, requests: &[Request], batch: &[u8]) -> Result<(), Error> {
        self.explain()?;
        let first = self.sequence.wrapping_add(1);
        let subject = requests.first().map_or("nf_tables", |request| &request.object);
        self.sequence = first.wrapping_add(requests.len() as u32 + 1);
        if batch.len() > SMALL_BATCH_BYTES {
            self.make_room_for(batch.len());
        }
        self.send(batch, "change", subject)?;
        let mut acknowledged = false;
        while let Some(datagram) = self.receive("change", subject, DATAGRAM_BYTES_MAX)? {
            for answer in answers(&datagram) {
                let Body::Verdict { errno, attributes } = answer.body else { continue };
                let place = answer.sequence.wrapping_sub(first) as usize;
                // The first message is the batch's beginning.
                let request = place.checked_sub(1).and_then(|place| requests.get(place));
                if errno != 0 {
                    let object = request.map_or(subject, |request| &request.object);
                    return Err(refusal("change", object, errno, attributes));
                }
                acknowledged |= place == requests.len();
            }
        }
        match acknowledged {
            true => Ok(()),
            false => Err(Error::Unanswered { operation: "change", object: subject.into() }),
        }
    }

    /// Tries to; `send` reports the failure, with the size that was too much.
    fn make_room_for(&self, bytes: usize) {
        let room = bytes.saturating_mul(2);
        if setsockopt(&self.inner, sockopt::SndBufForce, &room).is_err() {
            // Only the first namespace's root may go beyond net.core.wmem_max.
            let limited = setsockopt(&self.inner, sockopt::SndBuf, &room);
            log::debug!("send buffer of {room} bytes: {limited:?}");
        }
    }

    fn send(&self, bytes: &[u8], operation: &'static str, object: &str) -> Result<(), Error> {
        loop {
            match self.inner.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(kernel_error(operation, object, &error)),
            }
        }
    }

    /// The next datagram, `None` if the kernel has nothing more to say.
    fn receive(
        &self,
        operation: &'static str,
        object: &str,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut datagram = Vec::with_capacity(bytes_max);
        loop {
            match self.inner.recv(&mut datagram, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => return Ok(Some(datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(kernel_error(operation, object, &error)),
            }
        }
    }
}

impl Reply {
    fn add(&mut self, answer: Answer<'_>, question: &Request) -> Result<(), Error> {
        self.torn |= answer.interrupted;
        match answer.body {
            Body::Object { generation, attributes } => {
                self.torn |= self.generation.replace(generation).is_some_and(|of| of != generation);
                self.objects.push(attributes.into());
                self.complete |= !question.is_dump();
            }
            Body::Verdict { errno, attributes } => {
                self.complete = true;
                match Errno::from_raw(errno) {
                    _ if errno == 0 => {}
                    Errno::ENOENT => self.absent = true,
                    // A dump that began again too late.
                    Errno::EINTR => self.torn = true,
                    _ => return Err(refusal(READ, &question.object, errno, attributes)),
                }
            }
        }
        Ok(())
    }
}

fn refusal(operation: &'static str, object: &str, errno: i32, attributes: &[u8]) -> Error {
    Error::Kernel {
        operation,
        object: object.into(),
        errno: Errno::from_raw(errno),
        words: attribute::find(attributes, NLMSGERR_ATTR_MSG).map(attribute::string),
    }
}

/// A failed system call.
pub(super) fn kernel_error(operation: &'static str, object: &str, error: &io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
    Error::Kernel { operation, object: object.into(), errno, words: None }
}
