// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{
    super::{
        abi::NFTA_SET_ELEM_LIST_ELEMENTS,
        set::{Elements, Ranges},
    },
    Policies,
};
use crate::list::Gather as _;
use crate::netlink::attribute::{Attribute, emitted};

/// The elements of one of the table's sets, chosen by number: what is read is the same when
/// it is sent and read again, and so is the table that comes of it as a document.
pub fn elements(number: u8, object: &[u8]) {
    let table = "manx.policy";
    let none = Policies { table: table.to_owned(), ..Policies::default() };
    let described = none.describe().unwrap();
    let set = &described.sets[usize::from(number) % described.sets.len()];
    let held = set.held(&described, &[object.to_vec()]);
    let sent = |held: &Elements| {
        let parts: Vec<Attribute> =
            held.iter().flat_map(|(key, value)| set.element(key, value.as_ref())).gather();
        parts
    };
    // A range in a set of single keys is nothing that the kernel has.
    let possible = set.ranges != Ranges::None || held.keys().all(|key| key.last.is_none());
    let parts = sent(&held);
    if possible && emitted(&parts).len() < usize::from(u16::MAX) - 4 {
        let again = emitted(&[Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, parts)]);
        assert_eq!(set.held(&described, &[again]), held);
    }
    let read = none.read(&[(set.name, held)]);
    document(&read);
}

/// A table of policies is the same as a document.
pub fn document(policies: &Policies) {
    let text = policies.encode();
    let sets = serde_json::from_str(&text).unwrap();
    assert_eq!(Policies::decode(&policies.table, &sets).as_ref(), Some(policies), "{text}");
}
