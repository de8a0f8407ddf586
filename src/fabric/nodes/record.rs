// SPDX-License-Identifier: Apache-2.0
//! A node of the cluster, as far as anything here depends on it.

use std::net::IpAddr;

/// What is kept of a Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: Box<str>,
    /// What it is known by for its whole life.
    pub uid: Box<str>,
    /// RFC 3339 in UTC and whole seconds, as the API server writes it: earlier texts are
    /// earlier times.
    pub created: Box<str>,
    /// Those of type InternalIP.
    pub addresses: Vec<Box<str>>,
    /// Where its pods are.
    pub pod_cidrs: Vec<Box<str>>,
    /// Where it is not the usual one.
    pub tunnel: Option<Box<Tunnel>>,
}

/// A node's end of tunnels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tunnel {
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// If it does not follow from the node's name.
    pub mac: Option<Box<str>>,
}

impl Record {
    /// Older Nodes come first, and each has its place however the list came.
    pub fn age(&self) -> (bool, &str, &str, &str) {
        (self.created.is_empty(), &self.created, &self.uid, &self.name)
    }
}
