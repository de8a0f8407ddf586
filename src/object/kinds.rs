// SPDX-License-Identifier: Apache-2.0
//! All kinds of objects and their order, and the difference of two sets of objects as
//! data.

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    diff::{Object, Step},
    forwarding::Forwarding,
    link::Tunnel,
    lookup::Lookup,
    managed::{Devices, Indexes, Managed, Present, Work},
    neighbour::Neighbour,
    route::Route,
    setting::Setting,
    table::Table,
    told::{Action, Told},
};
use crate::list::{Gather, PushAll};
use crate::net::{Request, rule::Rule, sysctl::Sysctl};

/// What is compared of one kind depends on what becomes of devices.
impl Devices {
    /// Compares one kind, without what would be on a device that cannot serve, and
    /// without what the kernel drops together with its device.
    fn compare<O: Managed>(&mut self, wanted: &[O], held: &[O::Held]) -> Vec<Step<O>> {
        let can_be = |object: &&O| {
            let Some(device) = object.device() else { return true };
            let comes = object.comes_with_device() && self.made.contains(device);
            !comes && !self.foreign.contains(device)
        };
        let stays = |held: &&O::Held| held.device().is_none_or(|on| !self.lost.contains(on));
        let wanted: Vec<&O> = wanted.iter().filter(can_be).gather();
        let held: Vec<&O::Held> = held.iter().filter(stays).gather();
        let steps = O::diff(&wanted, &held);
        O::note(&steps, self);
        steps
    }
}

/// One of the kinds, as a [`Change`] has it.
pub trait Part: Managed {
    /// The step, if the change is one of this kind.
    fn of(change: &Change) -> Option<&Step<Self>>;
}

/// Makes the collections of all kinds, and the change that is of any of them.
macro_rules! kinds {
    ($($(#[$doc:meta])* $field:ident: $Kind:ident,)+) => {
        /// The objects that there should be.
        #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Objects {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Vec::is_empty")]
                pub $field: Vec<$Kind>,
            )+
        }

        /// The objects that there are.
        #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct HeldObjects {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Vec::is_empty")]
                pub $field: Vec<<$Kind as Object>::Held>,
            )+
        }

        /// One step to what should be there.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub enum Change {
            $(#[allow(missing_docs)] $Kind(Step<$Kind>),)+
        }

        impl Objects {
            /// By what each of them is known again on a device of somebody else.
            pub fn additions(&self) -> impl Iterator<Item = String> {
                std::iter::empty()$(.chain(self.$field.iter().filter_map(Managed::addition)))+
            }
        }

        impl Objects {
            /// As the kernel has them once we have made them.
            pub fn as_held(&self, indexes: &Indexes) -> HeldObjects {
                let of = |objects: &Self| HeldObjects {
                    $($field: {
                        let held = objects.$field.iter();
                        held.filter_map(|object| object.as_held(indexes)).gather()
                    },)+
                };
                of(self)
            }
        }

        /// What makes of the objects that are held those that are wanted, in the order
        /// in which it is to be done: nothing that stays is without what it needs in
        /// between.
        pub fn difference(wanted: &Objects, held: &HeldObjects) -> Vec<Change> {
            let mut devices = Devices::default();
            let (mut made, mut removed) = (Vec::new(), Vec::new());
            // An attachment has three of the kinds: the code for the others stays untouched.
            $(if !(wanted.$field.is_empty() && held.$field.is_empty()) {
                let steps = devices.compare::<$Kind>(&wanted.$field, &held.$field);
                let steps = steps.into_iter().map(Change::$Kind);
                let (removals, others): (Vec<_>, Vec<_>) = steps.partition(Change::removes);
                made.push_all(others);
                removed.push(removals);
            })+
            made.push_all(removed.into_iter().rev().flatten());
            made
        }

        impl Change {
            /// As it is told.
            pub fn told(&self) -> Told {
                match self { $(Self::$Kind(step) => $Kind::told(step),)+ }
            }

            /// What kind of change it is.
            pub fn action(&self) -> Action {
                match self { $(Self::$Kind(step) => $Kind::action(step),)+ }
            }

            /// As a difference: what one side of an attachment lacks.
            pub fn lack(&self, whose: &str) -> String {
                match self { $(Self::$Kind(step) => $Kind::lack(step, whose),)+ }
            }

            /// What makes it.
            pub fn work(&self, indexes: &Indexes) -> Work {
                match self { $(Self::$Kind(step) => $Kind::work(step, indexes),)+ }
            }

            /// Another way to it, where the kernel refused the first.
            pub fn detour(
                &self,
                refused: (&Request, Errno),
                indexes: &Indexes,
            ) -> Vec<Request> {
                match self { $(Self::$Kind(step) => $Kind::detour(step, refused, indexes),)+ }
            }

            /// Whether an object goes by it.
            pub fn removes(&self) -> bool {
                match self { $(Self::$Kind(step) => matches!(step, Step::Delete(_)),)+ }
            }

            /// Whether it is made by itself.
            pub fn is_made_alone(&self) -> bool {
                match self { $(Self::$Kind(_) => $Kind::ALONE,)+ }
            }

            /// Whether all peers and pods need it.
            pub fn is_of_node(&self) -> bool {
                match self { $(Self::$Kind(_) => $Kind::OF_NODE,)+ }
            }

            /// Whether all go without where somebody else is in its way.
            pub fn concerns_all(&self) -> bool {
                match self {
                    $(Self::$Kind(step) => step.wanted().is_some_and(Managed::concerns_all),)+
                }
            }

            /// Where packets go that need it.
            pub fn destination(&self) -> Option<IpNetwork> {
                match self { $(Self::$Kind(step) => step.wanted()?.leads_to(),)+ }
            }

            /// What it leaves on a device: the device, and by what it is known again.
            pub fn addition(&self) -> Option<(&str, String)> {
                match self {
                    $(Self::$Kind(Step::Create(wanted) | Step::Replace(wanted, _)) => {
                        Some((wanted.device()?, wanted.addition()?))
                    })+
                    _ => None,
                }
            }
        }

        $(impl Part for $Kind {
            fn of(change: &Change) -> Option<&Step<Self>> {
                match change {
                    Change::$Kind(step) => Some(step),
                    _ => None,
                }
            }
        })+
    };
}

// All kinds, in the order in which they are made; they are removed in reverse.
kinds! {
    /// Parameters below /proc/sys: a router that begins to forward forgets what it was
    /// advertised, unless it was told before.
    sysctls: Sysctl,
    /// Tables of nf_tables: what a tunnel brings is judged from the first packet on.
    tables: Table,
    /// Tunnel devices.
    tunnels: Tunnel,
    /// What is set of devices.
    settings: Setting,
    /// Addresses of devices.
    addresses: Address,
    /// Forwarding entries of VXLAN devices.
    forwarding: Forwarding,
    /// Neighbours on devices.
    neighbours: Neighbour,
    /// Routes: what they need is there by now.
    routes: Route,
    /// Policy rules: until they are there packets go as they did.
    rules: Rule,
    /// Where packets go in spite of the routes.
    lookups: Lookup,
}

impl Change {
    /// The object of this kind that there should be.
    pub fn wanted<O: Part>(&self) -> Option<&O> {
        O::of(self)?.wanted()
    }

    /// The object of this kind that goes.
    pub fn removed<O: Part>(&self) -> Option<&O::Held> {
        match O::of(self)? {
            Step::Delete(held) => Some(held),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
