//! One table of nf_tables, beside the one that is wanted.

use crate::object::{Change, HeldObjects, HeldTable, Objects, Step, Table, Told, difference};

/// What makes of the table that is held the one that is wanted.
pub fn change(wanted: &Table, held: &HeldTable) -> Option<Change> {
    let wanted = Objects { tables: vec![wanted.clone()], ..Objects::default() };
    let held = HeldObjects { tables: vec![held.clone()], ..HeldObjects::default() };
    difference(&wanted, &held).pop()
}

/// The removal of a table of ours.
pub fn removed(name: &str) -> Told {
    Change::Table(Step::Delete(HeldTable::named(name))).told()
}
