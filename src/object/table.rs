// SPDX-License-Identifier: Apache-2.0
//! Tables of nf_tables. A table's name is the mark of its owner: nobody else's has such a
//! one. What a table of the kernel differs in is told in words, which is all that anybody
//! needs of it; how that is found out is not known here.

use serde::{Deserialize, Serialize};

use super::{
    diff::{Object, Step},
    managed::{self, Indexes, Managed, Present, Work},
    told::{Action, Kind, Told},
};
use crate::nft;

/// A table.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What it is there for, in words.
    pub purpose: String,
    /// What it is made of; none where it was read from a file, to be told of.
    #[serde(skip)]
    pub description: Option<Box<nft::Table>>,
}

/// A table of the kernel, or the place of one that is wanted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldTable {
    /// Its name.
    pub name: String,
    /// In what it differs from the table of that name that is wanted.
    pub differences: Vec<String>,
}

impl HeldTable {
    /// One that is there, whatever is in it.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), differences: Vec::new() }
    }
}

impl Object for Table {
    type Held = HeldTable;
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        &self.name
    }

    fn key_of(held: &HeldTable) -> Option<&str> {
        Some(&held.name)
    }

    fn is_ours(_: &HeldTable) -> bool {
        true
    }

    fn is(&self, held: &HeldTable) -> bool {
        held.differences.is_empty()
    }

    fn is_served_by(&self, held: &HeldTable) -> bool {
        self.is(held)
    }
}

impl Present<Table> for HeldTable {
    fn name(&self) -> String {
        named(&self.name)
    }

    fn value(&self) -> String {
        self.differences.join("; ")
    }

    fn of_made(object: &Table, _: &Indexes) -> Option<Self> {
        Some(Self::named(&object.name))
    }
}

impl Managed for Table {
    const KIND: Kind = Kind::Table;
    const ALONE: bool = true;
    const OF_NODE: bool = true;

    fn name(&self) -> String {
        named(&self.name)
    }

    fn value(&self) -> String {
        self.purpose.clone()
    }

    fn told(step: &Step<Self>) -> Told {
        let told = managed::told(step);
        match told.action {
            Action::Delete => Told { before: Some("ours".to_owned()), ..told },
            _ => told,
        }
    }

    fn work(step: &Step<Self>, _: &Indexes) -> Work {
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => match &wanted.description {
                Some(description) => Work::Table(description.clone()),
                None => Work::Impossible,
            },
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(held) => Work::NoTable(held.name.clone()),
        }
    }

    fn lack(step: &Step<Self>, _: &str) -> String {
        match step {
            Step::Replace(_, held) => held.value(),
            Step::Create(_) | Step::Foreign(..) | Step::Delete(_) => Self::told(step).words(),
        }
    }
}

fn named(name: &str) -> String {
    format!("nftables table {name}")
}
