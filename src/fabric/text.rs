// SPDX-License-Identifier: Apache-2.0
//! The text of a list of peers, against which a later one is compared: where the two
//! differ in a few nodes, only these are read.
//!
//! A list is a JSON array. What stands in the place of some of its elements, and is by
//! itself a row of elements, makes an array of the whole again; so the rest of both texts
//! need not be read to know that it says the same.

use std::ops::Range;

use super::{faults::Entry, read};

/// Of more nodes than these a reader of the whole list is no slower.
const NODES_MAX: usize = 64;
/// So many bytes are compared at once.
const CHUNK: usize = 64;

/// The text of a list that was read, and where its nodes are.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: Vec<u8>,
    nodes: Vec<Range<usize>>,
}

/// What another text has in the place of some nodes.
#[derive(Debug)]
pub struct Splice {
    /// The nodes that were there, one at least.
    pub(super) before: Vec<Entry>,
    /// Those that are there now, one at least.
    pub(super) after: Vec<Entry>,
}

impl Text {
    /// A text that was read as a list of `count` nodes, without keys that are not known.
    pub fn of(bytes: Vec<u8>, count: usize) -> Option<Self> {
        let nodes = nodes(&bytes);
        (nodes.len() == count).then_some(Self { bytes, nodes })
    }

    /// In which nodes another text differs; `None` where it does not, where it differs
    /// elsewhere as well, and where that is not obvious.
    pub fn splice(&self, other: &[u8]) -> Option<Splice> {
        let old = &self.bytes;
        let prefix = common(old.chunks_exact(CHUNK), other.chunks_exact(CHUNK)) * CHUNK;
        let prefix = prefix + common(old.get(prefix..)?.iter(), other.get(prefix..)?.iter());
        let (old_rest, other_rest) = (old.get(prefix..)?, other.get(prefix..)?);
        if old_rest.is_empty() && other_rest.is_empty() {
            return None;
        }
        let suffix = common(old_rest.rchunks_exact(CHUNK), other_rest.rchunks_exact(CHUNK)) * CHUNK;
        let left = |rest: &[u8]| rest.len() - suffix;
        let (old_left, other_left) = (left(old_rest), left(other_rest));
        let behind = common(
            old_rest.get(..old_left)?.iter().rev(),
            other_rest.get(..other_left)?.iter().rev(),
        );
        let suffix = suffix + behind;
        let places = self.around(prefix..old.len() - suffix)?;
        let removed = self.nodes.get(places.start)?.start..self.nodes.get(places.end - 1)?.end;
        let added = removed.start..other.len().checked_sub(old.len() - removed.end)?;
        let before = read::entries(old.get(removed)?)?;
        let after = read::entries(other.get(added)?)?;
        let few = |nodes: &[Entry]| (1..=NODES_MAX).contains(&nodes.len());
        (few(&before) && few(&after)).then_some(Splice { before, after })
    }

    /// The fewest nodes, one at least, that have all of a piece of the text in or between
    /// them.
    fn around(&self, piece: Range<usize>) -> Option<Range<usize>> {
        let last = self.nodes.len().checked_sub(1)?;
        let mut first = self.nodes.partition_point(|node| node.end <= piece.start).min(last);
        let mut end = self.nodes.partition_point(|node| node.start < piece.end).max(first + 1);
        if self.nodes.get(first)?.start > piece.start {
            first = first.checked_sub(1)?;
        }
        if self.nodes.get(end - 1)?.end < piece.end {
            end += 1;
        }
        (self.nodes.get(end - 1)?.end >= piece.end).then_some(first..end)
    }
}

/// How many begin alike.
fn common<T: PartialEq>(one: impl Iterator<Item = T>, other: impl Iterator<Item = T>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).count()
}

/// Where the objects are of the one list that a list of peers has.
fn nodes(text: &[u8]) -> Vec<Range<usize>> {
    let mut nodes = Vec::new();
    let (mut depth, mut start, mut in_list) = (0_usize, 0, false);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                match depth {
                    1 => in_list = *byte == b'[',
                    2 if in_list => start = at,
                    _ => {}
                }
                depth += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 2 && in_list {
                    nodes.push(start..at + 1);
                }
            }
            _ => {}
        }
    }
    nodes
}

#[cfg(test)]
mod tests;
