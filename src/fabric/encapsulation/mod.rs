// SPDX-License-Identifier: Apache-2.0
//! The encapsulations that there are, each with a file of its own. Pure.
//!
//! A further one is an implementation of [`Encapsulation`], its line here, and the word
//! for it in `conf/`. Nobody else asks which one it is.

mod contract;
mod ipip;
#[cfg(test)]
mod tests;
mod vxlan;

pub use contract::{Encapsulation, Here, Needs, Peer};

use crate::{conf::Mode, list::Gather, object::link::Form};

/// All of them.
pub const ALL: [&dyn Encapsulation; 2] = [&ipip::Ipip, &vxlan::Vxlan];

/// That of a mode; `None` where packets travel as they are.
pub fn of(mode: Mode) -> Option<&'static dyn Encapsulation> {
    match mode {
        Mode::Direct => None,
        Mode::Ipip => Some(&ipip::Ipip),
        Mode::Vxlan => Some(&vxlan::Vxlan),
    }
}

/// That of a device; `None` for one that no encapsulation of ours has.
pub fn of_device(form: &Form) -> Option<&'static dyn Encapsulation> {
    ALL.into_iter().find(|one| one.name() == form.kind)
}

/// The modes that have one of these, as words.
pub fn modes(which: fn(&'static dyn Encapsulation) -> bool) -> Vec<&'static str> {
    ALL.into_iter().filter(|one| which(*one)).map(Encapsulation::name).gather()
}
