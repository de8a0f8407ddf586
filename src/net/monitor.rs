//! Tells that something about links, addresses, routes, neighbours or
//! forwarding has changed. What it was is not decoded: whoever wants to know looks.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::Error;

/// RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
/// RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF,
/// RTNLGRP_IPV6_NETCONF (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 8] = [1, 3, 5, 7, 9, 11, 24, 25];

/// A subscription to the changes of the namespace in which it was opened.
pub struct Monitor(Socket);

impl Monitor {
    /// Subscribes.
    ///
    /// # Errors
    /// The failing system call.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        open().map(Self).map_err(|error| Error::from_io("subscribe to changes", &error))
    }

    /// Takes all that has been told; true if that is anything. More than the socket could hold is no
    /// error: it means as much as one event.
    ///
    /// # Errors
    /// The failing system call.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut told = false;
        let mut buffer = Vec::with_capacity(32 * 1024);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => told = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(told),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => told = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io("read changes", &error)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
