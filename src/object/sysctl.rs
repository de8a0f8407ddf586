// SPDX-License-Identifier: Apache-2.0
//! Parameters below /proc/sys.

use super::{
    diff::{self, Held, Object, Step},
    managed::{Indexes, Managed, Work},
    told::{Action, Kind, Told},
};
use crate::net::sysctl::Sysctl;

impl Object for Sysctl {
    type Held = Held<Self>;
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        &self.key
    }

    fn key_of(held: &Held<Self>) -> Option<&str> {
        Some(&held.object.key)
    }

    fn is_ours(held: &Held<Self>) -> bool {
        held.ours
    }

    fn is(&self, held: &Held<Self>) -> bool {
        held.object.value == self.value
    }

    fn is_served_by(&self, held: &Held<Self>) -> bool {
        self.is(held)
    }
}

impl Managed for Sysctl {
    const KIND: Kind = Kind::Sysctl;
    const ALONE: bool = true;
    const OF_NODE: bool = true;

    fn name(&self) -> String {
        format!("sysctl {}", self.key)
    }

    fn value(&self) -> String {
        self.value.clone()
    }

    /// Nobody makes a parameter: one that cannot be read is written all the same.
    /// Of something that is always there.
    fn action(_: &Step<Self>) -> Action {
        Action::Replace
    }

    fn told(step: &Step<Self>) -> Told {
        let (wanted, now) = match step {
            Step::Create(wanted) => (wanted, String::new()),
            Step::Replace(wanted, held) | Step::Foreign(wanted, held) => {
                (wanted, held.object.value.clone())
            }
            Step::Delete(held) => (&held.object, held.object.value.clone()),
        };
        let (object, after) = (wanted.name(), Some(wanted.value()));
        Told { kind: Self::KIND, action: Self::action(step), object, before: Some(now), after }
    }

    /// Nobody removes a parameter: what it was before is not known.
    fn diff(wanted: &[&Self], held: &[&Held<Self>]) -> Vec<Step<Self>> {
        let mut steps = diff::diff(wanted.iter().copied(), held.iter().copied());
        steps.retain(|step| step.wanted().is_some());
        steps
    }

    fn work(step: &Step<Self>, _: &Indexes) -> Work {
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => Work::Write(wanted.clone()),
            Step::Foreign(..) | Step::Delete(_) => Work::Nothing,
        }
    }

    fn lack(step: &Step<Self>, _: &str) -> String {
        let wanted = step.wanted().map(ToString::to_string);
        format!("sysctl {} does not hold", wanted.unwrap_or_default())
    }
}
