// SPDX-License-Identifier: Apache-2.0
//! A packet on its way through the steps.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::place::Place;
use crate::node::Snapshot;

/// A packet, by its ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Question {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it is to go.
    pub destination: IpAddr,
    /// The protocol of the port, by its number within IP.
    pub protocol: u8,
    /// The port that it is to go to.
    pub port: Option<u16>,
}

/// One thing that is decided of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What.
    pub what: &'static str,
    /// How.
    pub text: String,
    /// The object that decides: a route, a rule, a table, a file.
    pub by: String,
}

impl Step {
    fn new(what: &'static str, text: impl Into<String>, by: impl Into<String>) -> Self {
        Self { what, text: text.into(), by: by.into() }
    }

    /// For programs.
    pub fn encode(&self) -> Value {
        json!({"step": self.what, "text": self.text, "by": self.by})
    }
}

/// Why a packet is dropped, and the check of doctor that concerns it.
pub(super) type Drop = (String, Option<&'static str>);

/// Follows a packet.
pub(super) struct Walk<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) question: Question,
    pub(super) source: Place<'a>,
    pub(super) destination: Place<'a>,
    pub(super) steps: Vec<Step>,
    /// The first that drops it.
    pub(super) dropped: Option<Drop>,
}

impl Walk<'_> {
    pub(super) fn note(
        &mut self,
        what: &'static str,
        text: impl Into<String>,
        by: impl Into<String>,
    ) {
        self.steps.push(Step::new(what, text, by));
    }

    /// What is met first drops the packet.
    pub(super) fn drop(&mut self, why: impl Into<String>, check: Option<&'static str>) {
        self.dropped.get_or_insert((why.into(), check));
    }
}
