// SPDX-License-Identifier: Apache-2.0
//! What a comparison asks the kernel by, and what is known without asking.

use super::answers::Answers;
use crate::net::{Socket, Tables};

/// A socket, and what is known already.
#[derive(Debug)]
pub struct Inquiry<'a> {
    /// For what is not.
    pub socket: &'a mut Socket,
    /// What the node has.
    pub tables: &'a Tables,
    /// The ways to peers.
    pub answers: &'a mut Answers,
}

impl Inquiry<'_> {
    /// The same for another comparison.
    pub fn again(&mut self) -> Inquiry<'_> {
        Inquiry { socket: self.socket, tables: self.tables, answers: self.answers }
    }
}
