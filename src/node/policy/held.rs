// SPDX-License-Identifier: Apache-2.0
//! The table of network policies beside the ones of networks: what it lacks of the pods on
//! which policies are enforced, told by a plan and by doctor, and put right by a pass.

use super::{
    super::{Error, configured::Networks, table},
    pods::{all_differences, restore},
};
use crate::{
    object::{self, Change, HeldTable},
    policy::TABLE,
    state::Root,
};

/// The table, where a network's policies are enforced.
#[derive(Clone, Debug)]
pub(crate) struct PolicyTable {
    root: Root,
    wanted: object::Table,
    held: HeldTable,
    note: Option<String>,
}

impl PolicyTable {
    /// What the kernel has of it; `None` where no network asks for it.
    pub(crate) fn of(networks: &Networks) -> Option<Self> {
        if !networks.all.iter().any(|network| network.config.enforces_policy) {
            return None;
        }
        let (root, name) = (networks.root.clone(), TABLE.to_owned());
        let (differences, note) = match all_differences(&root) {
            Ok(differences) => (differences, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let held = HeldTable { name: name.clone(), differences };
        let purpose = "what pods may do by their network policies".to_owned();
        Some(Self { root, wanted: object::Table { name, purpose, description: None }, held, note })
    }

    /// What is to be changed.
    pub(crate) fn change(&self) -> Option<Change> {
        table::change(&self.wanted, &self.held)
    }

    /// What is wanted, and what is held.
    pub(crate) fn compared(&self) -> (&object::Table, &HeldTable) {
        (&self.wanted, &self.held)
    }

    /// Why it was not compared, if so.
    pub(crate) fn note(&self) -> Option<&String> {
        self.note.as_ref()
    }

    /// Makes it so.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused; `File` for what cannot be read; `Busy` while
    /// policies are applied.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        restore(&self.root)
    }
}
