//! What Calico's objects want of the configuration of the container runtime, for who puts
//! that in place in another thread.

use std::sync::{Mutex, PoisonError};

use super::super::common::{Common, word};
use crate::family::Family;

/// What is wanted, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Wish(Mutex<Latest>);

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
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = Some(wanted);
        latest.changes += u64::from(latest.wanted != wanted);
        latest.wanted = wanted;
    }

    pub(crate) fn get(&self) -> Option<Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wanted.clone()
    }

    /// How often something else was wanted than before.
    pub(crate) fn changes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changes
    }
}
