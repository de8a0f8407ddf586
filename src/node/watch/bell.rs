// SPDX-License-Identifier: Apache-2.0
//! Wakes a watch from another thread of the program.

#[cfg(any(feature = "agent", test))]
use std::io::{self, Write};
use std::{
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

/// What is rung by one thread, and heard by that of the watch.
#[derive(Debug)]
pub(crate) struct Bell {
    #[cfg(any(feature = "agent", test))]
    ringing: UnixStream,
    heard: UnixStream,
}

impl Bell {
    /// # Errors
    /// Where there are too many files.
    #[cfg(any(feature = "agent", test))]
    pub(crate) fn new() -> io::Result<Self> {
        let (ringing, heard) = UnixStream::pair()?;
        for end in [&ringing, &heard] {
            end.set_nonblocking(true)?;
        }
        Ok(Self { ringing, heard })
    }

    /// Rings. However often that is, it is heard once.
    #[cfg(any(feature = "agent", test))]
    pub(crate) fn ring(&self) {
        // Where there is no room, enough is to be heard.
        let _ = (&self.ringing).write(&[0]);
    }

    /// Whether it was rung since it was heard last.
    pub(crate) fn is_rung(&self) -> bool {
        let mut rung = false;
        while (&self.heard).read(&mut [0; 64]).is_ok_and(|read| read > 0) {
            rung = true;
        }
        rung
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_once_however_often_it_was_rung() {
        let bell = Bell::new().unwrap();
        assert!(!bell.is_rung());
        (0..100_000).for_each(|_| bell.ring());
        assert!(bell.is_rung() && !bell.is_rung());
        bell.ring();
        assert!(bell.is_rung());
    }
}
