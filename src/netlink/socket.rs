// SPDX-License-Identifier: Apache-2.0
//! A blocking socket that sends several messages at once.

use std::{fmt, marker::PhantomData, os::fd::AsRawFd};

use nix::errno::Errno;

use super::{
    Answer, Error, Failed, Protocol, Reading, Request,
    channel::{BATCH, Batch, Channel, RECEIVE_BYTES, Take},
};
use crate::list::PushAll;

/// How often an interrupted dump is begun again.
const DUMP_ATTEMPTS: u32 = 20;
/// The kernel fills no more than this before anything was received
/// (`NLMSG_GOODSIZE`, include/linux/netlink.h), nor afterwards by a buffer of this
/// size. Small enough for the allocator to have it.
const HEAD_BYTES: usize = 8 * 1024;
/// Where nothing ends the reading before the last answer does.
const ALL: usize = usize::MAX;

/// A socket of the network namespace in which it was opened, wherever the thread
/// goes afterwards.
pub struct Socket<P> {
    pub(super) channel: Channel,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Socket<P> {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The failing system call; `EPROTONOSUPPORT` where the kernel lacks the protocol.
    pub fn open() -> Result<Self, Error> {
        Self::open_for(RECEIVE_BYTES)
    }

    fn open_for(receive_bytes: usize) -> Result<Self, Error> {
        let failed = |error| Error::from_io(format!("open a {} socket", P::NAME), &error);
        let channel = Channel::open(P::NUMBER, receive_bytes).map_err(failed)?;
        Ok(Self { channel, protocol: PhantomData })
    }

    /// Sends all requests at once and waits for the last one's answer.
    /// Returns what `read` makes of what the questions among them brought, in
    /// order.
    ///
    /// # Errors
    /// The first request that failed with an errno that it does not tolerate;
    /// those behind it were carried out all the same.
    pub(crate) fn exchange<T>(
        &mut self,
        requests: &[Request],
        read: impl Fn(&Answer<'_>) -> Reading<T>,
    ) -> Result<Vec<T>, Error> {
        let mut objects = Vec::new();
        self.ask(requests, &mut |_, answer| {
            objects.push_all(read(answer)?);
            Ok(())
        })?;
        Ok(objects)
    }

    /// The same for answers that are told apart by their questions' places. The last
    /// question may be a dump, as a socket runs one at a time; says whether it is
    /// whole.
    pub(crate) fn ask(&mut self, requests: &[Request], take: &mut Take<'_>) -> Result<bool, Error> {
        let outcome = self.channel.exchange(&Batch::of(requests), ALL, take)?;
        first_of(outcome.failed).map(|()| !outcome.torn)
    }

    /// The first objects of a dump, at least `enough` unless there are fewer, by a
    /// socket of its own. The rest is not read.
    pub(crate) fn head(
        question: &Request,
        enough: usize,
        take: &mut Take<'_>,
    ) -> Result<(), Error> {
        let mut socket = Self::open_for(HEAD_BYTES)?;
        let batch = Batch::of(std::slice::from_ref(question));
        first_of(socket.channel.exchange(&batch, enough, take)?.failed)
    }

    /// Carries out changes.
    ///
    /// # Errors
    /// As for a batch: the first request that failed.
    pub fn apply(&mut self, requests: &[Request]) -> Result<(), Error> {
        self.transact(&Batch::of(requests))
    }

    /// Carries out all requests of a transaction, or none.
    ///
    /// # Errors
    /// The first request that failed; what is wrong with all of them.
    pub(crate) fn transact(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        first_of(self.channel.exchange(batch, ALL, &mut |_, _| Ok(()))?.failed)
    }

    /// Carries out any number of changes, several hundred to a send, and goes
    /// on after those that fail.
    ///
    /// # Errors
    /// All that failed, in order.
    pub fn apply_all(&mut self, requests: &[Request]) -> Vec<Failed> {
        let many = if requests.len() > BATCH { self.channel.room() } else { BATCH };
        let mut failures = Vec::new();
        for (number, chunk) in requests.chunks(many).enumerate() {
            let start = number * many;
            match self.channel.exchange(&Batch::of(chunk), ALL, &mut |_, _| Ok(())) {
                Ok(outcome) => failures.push_all(
                    outcome.failed.into_iter().map(|it| Failed { at: start + it.at, ..it }),
                ),
                Err(error) => failures.push(Failed { at: start, error }),
            }
        }
        failures
    }

    /// Dumps all objects that the question's filter lets through, again from the
    /// start when the kernel says that the list changed underneath.
    ///
    /// # Errors
    /// The kernel's refusal, or `EINTR` if the list never held still.
    pub(crate) fn dump<T>(
        &mut self,
        question: &Request,
        read: impl Fn(&Answer<'_>) -> Reading<T>,
    ) -> Result<Vec<T>, Error> {
        if P::STRICT {
            let strict = self.channel.set_strict();
            strict.map_err(|error| Error::from_io(question.what(), &error))?;
        }
        for _ in 0..DUMP_ATTEMPTS {
            let mut objects = Vec::new();
            let held_still = self.ask(std::slice::from_ref(question), &mut |_, answer| {
                objects.push_all(read(answer)?);
                Ok(())
            })?;
            if held_still {
                return Ok(objects);
            }
        }
        Err(Error::new(question.what(), Errno::EINTR))
    }
}

fn first_of(failed: Vec<Failed>) -> Result<(), Error> {
    failed.into_iter().next().map_or(Ok(()), |failed| Err(failed.error))
}

impl<P: Protocol> fmt::Debug for Socket<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({}, fd {})", P::NAME, self.channel.raw.as_raw_fd())
    }
}
