//! Tells that something about a table has changed. What it was is not decoded:
//! whoever wants to know looks. Changes to the tables of others, which some
//! firewalls make all the time, tell nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::abi::{NFNLGRP_NFTABLES, NFTA_TABLE_NAME};
use super::attribute;
use super::error::Error;
use super::message::{Body, answers};
use super::socket::{DATAGRAM_BYTES_MAX, kernel_error};

/// A subscription to the changes of a table, in the network namespace in which
/// it was opened.
pub struct Monitor {
    socket: netlink_sys::Socket,
    tables: Vec<String>,
}

impl Monitor {
    /// Subscribes to the changes of the tables of these names, of any family.
    pub fn open(tables: Vec<String>) -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.add_membership(NFNLGRP_NFTABLES)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket =
            open().map_err(|error| kernel_error("subscribe to", "changes of nf_tables", &error))?;
        Ok(Self { socket, tables })
    }

    /// Takes all that has been told; true if any of it is about the table. More
    /// than the socket could hold counts as that.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            datagram.clear();
            match self.socket.recv(&mut datagram, 0) {
                Ok(_) => changed |= concerns(&datagram, &self.tables),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(kernel_error("read", "changes of nf_tables", &error)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether any of the events is about a table of these names. Tables, and all that
/// is in one, have its name under the same number (`NFTA_TABLE_NAME`,
/// `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE` and so on). Only the event that ends a
/// transaction has something else there, a number of four bytes.
fn concerns(datagram: &[u8], tables: &[String]) -> bool {
    answers(datagram).any(|event| {
        let Body::Object { attributes, .. } = event.body else { return false };
        attribute::find(attributes, NFTA_TABLE_NAME)
            .is_some_and(|name| tables.contains(&attribute::string(name)))
    })
}
