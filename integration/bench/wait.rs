// SPDX-License-Identifier: Apache-2.0
//! Waiting for a process and what it took: `wait4`, which neither the standard
//! library nor nix has.

#![allow(dead_code, unreachable_pub, reason = "two programs include this and use parts of it")]
#![allow(unsafe_code, reason = "one call with an address that it fills")]

use std::io;
use std::mem::MaybeUninit;
use std::process::Child;
use std::time::Duration;

use nix::libc;

/// What the kernel tells of a process that ended, and of those that it waited
/// for itself.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Exit status; 128 + n for a death by signal n.
    pub status: i32,
    /// Processor time in user space.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Resident memory of the largest process, in KiB. See `meter` for when
    /// it is to be believed.
    pub peak_kib: u64,
}

/// Waits for a child that nobody has waited for.
///
/// # Errors
/// Those of wait4(2).
pub fn wait(child: &Child) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let pid = child.id().cast_signed();
    loop {
        // SAFETY: both addresses are of live variables of the types that the
        // call fills, and zeroes are a valid rusage.
        let (waited, usage) = unsafe {
            let waited = libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr());
            (waited, usage.assume_init())
        };
        if waited == pid {
            let time = |t: libc::timeval| {
                Duration::from_secs(t.tv_sec.cast_unsigned())
                    + Duration::from_micros(t.tv_usec.cast_unsigned())
            };
            let signal = libc::WTERMSIG(status);
            return Ok(Ended {
                status: if signal == 0 { libc::WEXITSTATUS(status) } else { 128 + signal },
                user: time(usage.ru_utime),
                system: time(usage.ru_stime),
                peak_kib: usage.ru_maxrss.cast_unsigned(),
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
