// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{list, read, text::Text};
use crate::list::Gather as _;
use crate::list::PushAll as _;

/// Where two lists differ in a few nodes, the later one is the former with these in the place
/// of those.
pub fn splice(before: &[u8], after: &[u8]) {
    let Ok(old) = list::decode(before) else { return };
    if old.unread.is_some() {
        return;
    }
    let Some(text) = Text::of(before.to_vec(), old.nodes.len()) else { return };
    let Some(splice) = text.splice(after) else { return };
    let new = list::decode(after).expect("what is spliced is a list");
    assert_eq!((&new.me, &new.fabric, &new.unread), (&old.me, &old.fabric, &old.unread));
    let mut expected: Vec<String> = old.nodes.into_iter().map(|node| node.name).gather();
    for (node, _) in &splice.before {
        let place = expected.iter().position(|name| *name == node.name);
        expected.remove(place.expect("what is replaced was there"));
    }
    expected.push_all(splice.after.into_iter().map(|(node, _)| node.name));
    let mut found: Vec<String> = new.nodes.into_iter().map(|node| node.name).gather();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

/// A row of nodes.
pub fn row(bytes: &[u8]) {
    let _ = read::entries(bytes);
}
