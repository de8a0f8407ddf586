// SPDX-License-Identifier: Apache-2.0
//! Policy rules: which routing table answers for packets of a source address.

use super::{
    diff::{Entry, Step},
    managed::{Indexes, Managed, Work},
    told::Kind,
};
use crate::net::rule::Rule;

/// The kernel has any number for one source, told apart by all that they say.
impl Entry for Rule {
    type Key<'a> = Self;

    fn entry_key(&self) -> Self {
        *self
    }
}

impl Managed for Rule {
    const KIND: Kind = Kind::Rule;

    fn name(&self) -> String {
        format!("rule {self}")
    }

    fn value(&self) -> String {
        format!("table {}", self.table)
    }

    fn work(step: &Step<Self>, _: &Indexes) -> Work {
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => Work::Message(wanted.create()),
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(held) => Work::Message(held.object.delete()),
        }
    }
}
