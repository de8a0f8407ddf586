//! A blocking rtnetlink socket that sends several messages at once.
//!
//! A plugin lives for a few milliseconds and asks the kernel a handful of
//! questions in a fixed order; a runtime and a reactor would cost it more than
//! the questions do. Batches are not transactions: the kernel goes on after a
//! message that failed, and answers for each in order, so an error is carried
//! back to the request that caused it.

use std::{io, os::fd::AsRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
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

use super::Error;

/// One datagram of the kernel is never larger (netlink_dump, af_netlink.c).
const RECEIVE_BYTES: usize = 32 * 1024;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// The acknowledgement carries attributes behind the echoed header.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The kernel's explanation as text.
const NLMSGERR_ATTR_MSG: u16 = 1;
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

/// A message to the kernel with the words to report it by.
#[derive(Clone, Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    what: String,
    tolerated: Vec<Errno>,
}

impl Request {
    pub(super) fn new(message: RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Self {
        Self { message, flags, what: what.into(), tolerated: Vec::new() }
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

    fn emit(&self, sequence: u32, extra_flags: u16, buffer: &mut Vec<u8>) {
        let mut message = NetlinkMessage::from(self.message.clone());
        message.header.flags = NLM_F_REQUEST | self.flags | extra_flags;
        message.header.sequence_number = sequence;
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        if let Some(space) = buffer.get_mut(start..) {
            message.serialize(space);
        }
    }
}

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
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The failing system call; `EPROTONOSUPPORT` without rtnetlink.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<RawSocket> {
            let mut raw = RawSocket::new(NETLINK_ROUTE)?;
            raw.bind_auto()?;
            raw.connect(&SocketAddr::new(0, 0))?;
            raw.set_ext_ack(true)?;
            raw.set_cap_ack(true)?;
            // Filters of a dump are ignored, not refused, without it.
            raw.set_netlink_get_strict_chk(true)?;
            setsockopt(&raw, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
            Ok(raw)
        };
        let raw = open().map_err(|error| Error::from_io("open a netlink socket", &error))?;
        Ok(Self { raw, sequence: 0 })
    }

    /// Sends all requests at once and waits for the last one's answer.
    /// Returns what the queries among them answered, in order.
    ///
    /// # Errors
    /// The first request that failed with an errno that it does not tolerate;
    /// those behind it were carried out all the same.
    pub(super) fn exchange(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let (answers, failures) = self.converse(requests)?;
        failures.into_iter().next().map_or(Ok(answers), |failure| Err(failure.error))
    }

    /// Carries out changes.
    ///
    /// # Errors
    /// As for a batch: the first request that failed.
    pub fn apply(&mut self, requests: &[Request]) -> Result<(), Error> {
        self.exchange(requests).map(|_| ())
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
            match self.converse(chunk) {
                Ok((_, failed)) => failures.extend(
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
        let _ = setsockopt(&self.raw, RcvBufForce, &BUFFER_BYTES)
            .or_else(|_| setsockopt(&self.raw, RcvBuf, &BUFFER_BYTES));
        let bytes = getsockopt(&self.raw, RcvBuf).unwrap_or_default();
        (bytes / ANSWER_BYTES).clamp(BATCH, CHANGES)
    }

    /// Sends all requests at once, and gathers what the queries among them
    /// answered and which ones failed.
    ///
    /// A socket that overran stays congested until it has been read empty, and
    /// the kernel drops the answers to come: what is still there is read then,
    /// without waiting for more.
    fn converse(
        &mut self,
        requests: &[Request],
    ) -> Result<(Vec<RouteNetlinkMessage>, Vec<Failed>), Error> {
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        let Some((last, _)) = requests.split_last() else { return Ok((answers, failures)) };
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let ack = if std::ptr::eq(request, last) { NLM_F_ACK } else { 0 };
            request.emit(self.sequence, ack, &mut bytes);
        }
        self.send(&bytes, last.what())?;
        let end = self.sequence;
        let mut done = false;
        let mut overrun = None;
        while !done {
            let waits = if overrun.is_some() { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
            let datagram = match self.receive(last.what(), waits) {
                Ok(datagram) => datagram,
                Err(error) if error.errno == Errno::ENOBUFS => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) if error.errno == Errno::EAGAIN && overrun.is_some() => break,
                Err(error) => return Err(error),
            };
            for reply in Replies(&datagram) {
                let at = reply.sequence.wrapping_sub(first) as usize;
                let Some(request) = requests.get(at) else { continue };
                if reply.kind == NLMSG_ERROR {
                    done |= reply.sequence == end;
                    failures.extend(reply.error(request).map(|error| Failed { at, error }));
                } else {
                    answers.push(reply.decode(request)?);
                }
            }
        }
        match overrun {
            Some(mut error) if failures.is_empty() => {
                error.words = Some("more answers than the receive buffer holds".to_owned());
                Err(error)
            }
            _ => Ok((answers, failures)),
        }
    }

    /// Dumps all objects that the query's filter lets through, again from the
    /// start when the kernel says that the list changed underneath.
    ///
    /// # Errors
    /// The kernel's refusal, or `EINTR` if the list never held still.
    pub(super) fn dump(&mut self, query: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(query)? {
                return Ok(objects);
            }
        }
        Err(Error::new(query.what(), Errno::EINTR))
    }

    fn dump_once(&mut self, query: &Request) -> Result<Option<Vec<RouteNetlinkMessage>>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        query.emit(self.sequence, NLM_F_DUMP, &mut bytes);
        self.send(&bytes, query.what())?;
        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            let datagram = self.receive(query.what(), MsgFlags::empty())?;
            for reply in Replies(&datagram).filter(|reply| reply.sequence == self.sequence) {
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match reply.kind {
                    NLMSG_DONE => {
                        return match reply.errno() {
                            Some(Errno::EINTR) => Ok(None),
                            Some(errno) => Err(Error::new(query.what(), errno)),
                            None => Ok((!interrupted).then_some(objects)),
                        };
                    }
                    NLMSG_ERROR => match reply.error(query) {
                        Some(error) => return Err(error),
                        None => return Ok((!interrupted).then_some(objects)),
                    },
                    _ => objects.push(reply.decode(query)?),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8], what: &str) -> Result<(), Error> {
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(what, &error)),
            }
        }
    }

    /// The next datagram; `EAGAIN` if there is none and none is waited for.
    fn receive(&self, what: &str, flags: MsgFlags) -> Result<Vec<u8>, Error> {
        let waits = !flags.contains(MsgFlags::MSG_DONTWAIT);
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            match self.raw.recv(&mut buffer, flags.bits()) {
                Ok(0) => return Err(Error::new(what, Errno::EPIPE)),
                Ok(_) => return Ok(buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waits && error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::new(what, Errno::ETIMEDOUT));
                }
                Err(error) => return Err(Error::from_io(what, &error)),
            }
        }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket(fd {})", self.raw.as_raw_fd())
    }
}

/// One message of a datagram, undecoded.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    bytes: &'a [u8],
}

impl Reply<'_> {
    /// The number of an NLMSG_ERROR or NLMSG_DONE; `None` for success.
    fn errno(&self) -> Option<Errno> {
        let code = i32::from_ne_bytes(field(self.bytes, HEADER_BYTES)?);
        (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
    }

    fn error(&self, request: &Request) -> Option<Error> {
        let errno = self.errno()?;
        if request.tolerated.contains(&errno) {
            return None;
        }
        Some(Error { what: request.what.clone(), errno, words: self.words() })
    }

    /// The text of the extended acknowledgement, which stands behind the
    /// echoed header (netlink(7), NETLINK_EXT_ACK with NETLINK_CAP_ACK).
    fn words(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let mut attributes = self.bytes.get(HEADER_BYTES + 4 + HEADER_BYTES..)?;
        loop {
            let length = usize::from(u16::from_ne_bytes(field(attributes, 0)?));
            let kind = u16::from_ne_bytes(field(attributes, 2)?);
            let value = attributes.get(4..length)?;
            if kind == NLMSGERR_ATTR_MSG {
                let text = String::from_utf8_lossy(value);
                return Some(text.trim_end_matches('\0').to_owned());
            }
            attributes = attributes.get(length.next_multiple_of(4)..)?;
        }
    }

    fn decode(&self, request: &Request) -> Result<RouteNetlinkMessage, Error> {
        let unreadable = |words: String| Error {
            what: request.what.clone(),
            errno: Errno::EBADMSG,
            words: Some(words),
        };
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => Ok(inner),
            _ => Err(unreadable(format!("message type {}", self.kind))),
        }
    }
}

/// The messages of one datagram; a truncated tail ends the iteration.
struct Replies<'a>(&'a [u8]);

impl<'a> Iterator for Replies<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(field(self.0, 0)?) as usize;
        let bytes = self.0.get(..length).filter(|bytes| bytes.len() >= HEADER_BYTES)?;
        let reply = Reply {
            kind: u16::from_ne_bytes(field(bytes, 4)?),
            flags: u16::from_ne_bytes(field(bytes, 6)?),
            sequence: u32::from_ne_bytes(field(bytes, 8)?),
            bytes,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    }
}

/// The `N` bytes at `offset`, if there are as many.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
