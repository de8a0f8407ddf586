// SPDX-License-Identifier: Apache-2.0
//! What Calico's objects want of the configuration of the container runtime, for who puts
//! that in place in another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::common::{Common, word};
use crate::{family::Family, node::watch::Bell};

/// What is wanted, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    latest: Mutex<Latest>,
    /// Wakes who puts it in place.
    bell: Option<Arc<Bell>>,
}

#[derive(Debug, Default)]
struct Latest {
    wanted: Option<Wanted>,
    /// How often that became another.
    changes: u64,
}

/// What is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) masquerade: bool,
    /// The families that pods have addresses of.
    pub(crate) families: Vec<Family>,
    /// Why pods may not come yet.
    pub(crate) trouble: Option<String>,
}

impl Wish {
    pub(crate) fn new(bell: Option<Arc<Bell>>) -> Self {
        Self { bell, ..Self::default() }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, common: &Common) {
        let trouble = common.trouble.as_ref();
        let trouble = trouble.map(|one| format!("{}: {}", one.object, one.sentence()));
        // Calico's plugin answers with no address, which is no configuration for pods.
        let closed = || {
            common.families.is_empty().then(|| {
                let mode = word(common.mode);
                format!(
                    "no IPPool of mode {mode}, which the pods have that are there, gives out \
                     addresses; fix: set disabled: false in one, or remove the pods that have \
                     addresses of such pools (kubectl get ippools -o yaml)"
                )
            })
        };
        let (masquerade, families) = (common.masquerade, common.families.clone());
        self.put(Wanted { masquerade, families, trouble: trouble.or_else(closed) });
    }

    pub(super) fn put(&self, wanted: Wanted) {
        let (mut latest, wanted) = (self.latest(), Some(wanted));
        if latest.wanted == wanted {
            return;
        }
        latest.changes += 1;
        latest.wanted = wanted;
        drop(latest);
        self.bell.iter().for_each(|bell| bell.ring());
    }

    pub(crate) fn get(&self) -> Option<Wanted> {
        self.latest().wanted.clone()
    }

    /// How often something else was wanted than before.
    pub(crate) fn changes(&self) -> u64 {
        self.latest().changes
    }
}
