// SPDX-License-Identifier: Apache-2.0
//! Calls on sockets that wait, at most for a time.

use std::io::{self, ErrorKind};

/// What a call says that no signal broke off. A socket with a time limit ends its call with `EINTR` when
/// the process was stopped and goes on, also where nobody handles a signal (signal(7)): as the machine's
/// freezer does it, or somebody at a terminal.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            said => return said,
        }
    }
}
