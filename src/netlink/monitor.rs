// SPDX-License-Identifier: Apache-2.0
//! Tells that something has changed. What it was is not decoded here beyond whether it
//! matters: whoever wants to know reads the event, or looks.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_sys::Socket as RawSocket;
use nix::{errno::Errno, sys::socket::MsgFlags};

use super::{Answer, Answers, Error, Protocol, channel::RECEIVE_BYTES};

type Concerns = dyn Fn(&Answer<'_>) -> bool;

/// A subscription to the changes of the namespace in which it was opened.
pub struct Monitor {
    raw: RawSocket,
    /// What it tells of, for errors.
    subject: &'static str,
    /// Whether an event matters.
    concerns: Box<Concerns>,
}

impl Monitor {
    /// Subscribes to groups of events, of which those count that `concerns` says so
    /// of.
    pub(crate) fn open<P: Protocol>(
        groups: &[u32],
        subject: &'static str,
        concerns: impl Fn(&Answer<'_>) -> bool + 'static,
    ) -> Result<Self, Error> {
        let open = || -> io::Result<RawSocket> {
            let mut raw = RawSocket::new(P::NUMBER)?;
            raw.bind_auto()?;
            groups.iter().try_for_each(|group| raw.add_membership(*group))?;
            Ok(raw)
        };
        let failed = |error| Error::from_io(format!("subscribe to {subject}"), &error);
        Ok(Self { raw: open().map_err(failed)?, subject, concerns: Box::new(concerns) })
    }

    /// Subscribes to one more group, unless the kernel does not know it.
    pub(crate) fn join(&mut self, group: u32) {
        if let Err(error) = self.raw.add_membership(group) {
            log::debug!("{}: group {group}: {error}", self.subject);
        }
    }

    /// Takes all that has been told; true if any of it matters. More than the socket
    /// could hold is no error: it means as much as an event that matters.
    ///
    /// # Errors
    /// The failing system call.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut told = false;
        self.read(&mut |_| told = true)?;
        Ok(told)
    }

    /// Hands over all that has been told and matters; nothing in the place of what the
    /// socket could not hold.
    ///
    /// # Errors
    /// The failing system call.
    pub(crate) fn read(&mut self, take: &mut dyn FnMut(Option<&Answer<'_>>)) -> Result<(), Error> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            buffer.clear();
            match self.raw.recv(&mut buffer, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => {
                    let matters = Answers(&buffer).filter(|event| (self.concerns)(event));
                    matters.for_each(|event| take(Some(&event)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => take(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::from_io(format!("read {}", self.subject), &error));
                }
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Monitor({}, fd {})", self.subject, self.raw.as_raw_fd())
    }
}
