//! A blocking rtnetlink socket that sends several messages at once.
//!
//! A plugin lives for a few milliseconds and asks the kernel a handful of
//! questions in a fixed order; a runtime and a reactor would cost it more than
//! the questions do. Batches are not transactions: the kernel goes on after a
//! message that failed, and answers for each in order, so an error is carried
//! back to the request that caused it.

use std::{io, os::fd::AsRawFd};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            MsgFlags, getsockopt, setsockopt,
            sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{
    Error, Request,
    answer::{Answer, Answers, Reading},
};

/// One datagram of the kernel is never larger (netlink_dump, af_netlink.c).
const RECEIVE_BYTES: usize = 32 * 1024;
/// Messages in one send: their answers have to fit into the socket's receive
/// buffer (net.core.rmem_default, 212992 bytes).
pub(super) const BATCH: usize = 100;
/// Changes in one send at most, where the receive buffer has room for as many
/// refusals.
const CHANGES: usize = 500;
/// What the receive buffer is charged for one refusal, in bytes: a buffer of a
/// kilobyte and its description (`struct sk_buff`).
const ANSWER_BYTES: usize = 1280;
/// The receive buffer that is asked for where many answers may come.
const BUFFER_BYTES: usize = 1 << 20;
/// How long an answer may take. The kernel has answered when the send returns,
/// so one that is not there then was lost.
const PATIENCE_SECONDS: i64 = 10;
/// How often an interrupted dump is begun again.
const DUMP_ATTEMPTS: u32 = 20;

/// A request of a batch that the kernel refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// Its place in the batch, from 0.
    pub at: usize,
    /// What the kernel said.
    pub error: Error,
}

/// A socket bound to the network namespace in which it was opened, wherever
/// the thread goes afterwards.
pub struct Socket {
    raw: RawSocket,
    sequence: u32,
    /// What is sent, and then what comes back.
    buffer: Vec<u8>,
    /// Filters of a dump are refused where the kernel does not know them. Without
    /// the option it ignores them.
    filters: bool,
}

/// What becomes of an answer that is no error.
type Take<'a> = dyn FnMut(&Answer<'_>) -> Result<(), DecodeError> + 'a;

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The failing system call; `EPROTONOSUPPORT` without rtnetlink.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<RawSocket> {
            let raw = RawSocket::new(NETLINK_ROUTE)?;
            // Which binds it as well.
            raw.connect(&SocketAddr::new(0, 0))?;
            raw.set_ext_ack(true)?;
            setsockopt(&raw, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
            Ok(raw)
        };
        let raw = open().map_err(|error| Error::from_io("open a netlink socket", &error))?;
        let buffer = Vec::with_capacity(RECEIVE_BYTES);
        Ok(Self { raw, sequence: 0, buffer, filters: false })
    }

    /// Sends all requests at once and waits for the last one's answer.
    /// Returns what `read` makes of what the queries among them answered, in
    /// order.
    ///
    /// # Errors
    /// The first request that failed with an errno that it does not tolerate;
    /// those behind it were carried out all the same.
    pub(super) fn exchange<T>(
        &mut self,
        requests: &[Request],
        read: impl Fn(&Answer<'_>) -> Reading<T>,
    ) -> Result<Vec<T>, Error> {
        let mut objects = Vec::new();
        let failures = self.converse(requests, &mut |answer| {
            objects.extend(read(answer)?);
            Ok(())
        })?;
        failures.into_iter().next().map_or(Ok(objects), |failure| Err(failure.error))
    }

    /// Carries out changes.
    ///
    /// # Errors
    /// As for a batch: the first request that failed.
    pub fn apply(&mut self, requests: &[Request]) -> Result<(), Error> {
        let failures = self.converse(requests, &mut |_| Ok(()))?;
        failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.error))
    }

    /// Carries out any number of changes, several hundred to a send, and goes
    /// on after those that fail.
    ///
    /// # Errors
    /// All that failed, in order.
    pub fn apply_all(&mut self, requests: &[Request]) -> Vec<Failed> {
        let many = if requests.len() > BATCH { self.room() } else { BATCH };
        let mut failures = Vec::new();
        for (number, chunk) in requests.chunks(many).enumerate() {
            let start = number * many;
            match self.converse(chunk, &mut |_| Ok(())) {
                Ok(failed) => failures.extend(
                    failed.into_iter().map(|failed| Failed { at: start + failed.at, ..failed }),
                ),
                Err(error) => failures.push(Failed { at: start, error }),
            }
        }
        failures
    }

    /// How many changes one send may have if all of them may be refused. The
    /// larger buffer is for those who may exceed net.core.rmem_max; others get
    /// as much as that allows.
    fn room(&self) -> usize {
        // A refusal then repeats the header of what it refuses, not all of it.
        let _ = self.raw.set_cap_ack(true);
        let _ = setsockopt(&self.raw, RcvBufForce, &BUFFER_BYTES)
            .or_else(|_| setsockopt(&self.raw, RcvBuf, &BUFFER_BYTES));
        let bytes = getsockopt(&self.raw, RcvBuf).unwrap_or_default();
        (bytes / ANSWER_BYTES).clamp(BATCH, CHANGES)
    }

    /// Sends all requests at once, hands over what the queries among them
    /// answered, and gathers which ones failed. The last one tells when it is
    /// done: a query by its answer, a change by an acknowledgement.
    ///
    /// A socket that overran stays congested until it has been read empty, and
    /// the kernel drops the answers to come: what is still there is read then,
    /// without waiting for more.
    fn converse(
        &mut self,
        requests: &[Request],
        take: &mut Take<'_>,
    ) -> Result<Vec<Failed>, Error> {
        let mut failures = Vec::new();
        let Some((last, before)) = requests.split_last() else { return Ok(failures) };
        let first = self.sequence.wrapping_add(1);
        self.buffer.clear();
        for request in before {
            self.emit(request, 0);
        }
        self.emit(last, if last.is_query() { 0 } else { NLM_F_ACK });
        self.send(last.what())?;
        let mut done = false;
        let mut overrun = None;
        while !done {
            let waits = if overrun.is_some() { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
            match self.receive(last.what(), waits) {
                Ok(()) => {}
                Err(error) if error.errno == Errno::ENOBUFS => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) if error.errno == Errno::EAGAIN && overrun.is_some() => break,
                Err(error) => return Err(error),
            }
            for answer in Answers(&self.buffer) {
                let at = answer.sequence.wrapping_sub(first) as usize;
                let Some(request) = requests.get(at) else { continue };
                done |= answer.sequence == self.sequence;
                if answer.kind == NLMSG_ERROR {
                    failures.extend(answer.error(request).map(|error| Failed { at, error }));
                } else {
                    take(&answer).map_err(|error| unreadable(request, &error))?;
                }
            }
        }
        match overrun {
            Some(mut error) if failures.is_empty() => {
                error.words = Some("more answers than the receive buffer holds".to_owned());
                Err(error)
            }
            _ => Ok(failures),
        }
    }

    /// Dumps all objects that the query's filter lets through, again from the
    /// start when the kernel says that the list changed underneath.
    ///
    /// # Errors
    /// The kernel's refusal, or `EINTR` if the list never held still.
    pub(super) fn dump<T>(
        &mut self,
        query: &Request,
        read: impl Fn(&Answer<'_>) -> Reading<T>,
    ) -> Result<Vec<T>, Error> {
        if !self.filters {
            let strict = self.raw.set_netlink_get_strict_chk(true);
            strict.map_err(|error| Error::from_io(query.what(), &error))?;
            self.filters = true;
        }
        for _ in 0..DUMP_ATTEMPTS {
            let mut objects = Vec::new();
            let held_still = self.dump_once(query, &mut |answer| {
                objects.extend(read(answer)?);
                Ok(())
            })?;
            if held_still {
                return Ok(objects);
            }
        }
        Err(Error::new(query.what(), Errno::EINTR))
    }

    fn dump_once(&mut self, query: &Request, take: &mut Take<'_>) -> Result<bool, Error> {
        self.buffer.clear();
        self.emit(query, NLM_F_DUMP);
        self.send(query.what())?;
        let mut interrupted = false;
        loop {
            self.receive(query.what(), MsgFlags::empty())?;
            let answers = Answers(&self.buffer);
            for answer in answers.filter(|answer| answer.sequence == self.sequence) {
                interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
                match answer.kind {
                    NLMSG_DONE => {
                        return match answer.errno() {
                            Some(Errno::EINTR) => Ok(false),
                            Some(errno) => Err(Error::new(query.what(), errno)),
                            None => Ok(!interrupted),
                        };
                    }
                    NLMSG_ERROR => {
                        return answer.error(query).map_or(Ok(!interrupted), Err);
                    }
                    _ => take(&answer).map_err(|error| unreadable(query, &error))?,
                }
            }
        }
    }

    /// Puts a request under the next number into the buffer.
    fn emit(&mut self, request: &Request, extra_flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        request.emit(self.sequence, extra_flags, &mut self.buffer);
    }

    fn send(&self, what: &str) -> Result<(), Error> {
        loop {
            match self.raw.send(&self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(what, &error)),
            }
        }
    }

    /// Reads the next datagram into the buffer; `EAGAIN` if there is none and
    /// none is waited for.
    fn receive(&mut self, what: &str, flags: MsgFlags) -> Result<(), Error> {
        let waits = !flags.contains(MsgFlags::MSG_DONTWAIT);
        self.buffer.clear();
        loop {
            match self.raw.recv(&mut self.buffer, flags.bits()) {
                Ok(0) => return Err(Error::new(what, Errno::EPIPE)),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waits && error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::new(what, Errno::ETIMEDOUT));
                }
                Err(error) => return Err(Error::from_io(what, &error)),
            }
        }
    }
}

fn unreadable(request: &Request, error: &DecodeError) -> Error {
    Error { what: request.what().to_owned(), errno: Errno::EBADMSG, words: Some(error.to_string()) }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket(fd {})", self.raw.as_raw_fd())
    }
}

#[cfg(test)]
mod tests;
