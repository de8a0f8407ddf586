// SPDX-License-Identifier: Apache-2.0
//! Codes that are the shorter the more often they are used.

use crate::list::{Gather, Ordered};

/// The lengths of codes for symbols that occur so often: 0 for one that does not, `bits_max` at
/// most. Two symbols have codes at least, so that none is left over.
pub(super) fn lengths(frequencies: &[u32], bits_max: u8) -> Vec<u8> {
    let mut leaves: Vec<(u32, usize)> =
        (0..).zip(frequencies).filter(|(_, n)| **n > 0).map(|(symbol, n)| (*n, symbol)).gather();
    for symbol in 0..2 {
        if leaves.len() < 2 && leaves.iter().all(|(_, other)| *other != symbol) {
            leaves.push((1, symbol));
        }
    }
    loop {
        leaves.order();
        let depths = depths(&leaves);
        if depths.iter().all(|depth| *depth <= bits_max) {
            let mut lengths = vec![0; frequencies.len()];
            for ((_, symbol), depth) in leaves.iter().zip(depths) {
                if let Some(length) = lengths.get_mut(*symbol) {
                    *length = depth;
                }
            }
            return lengths;
        }
        // Flatter: in the end all are alike.
        for (frequency, _) in &mut leaves {
            *frequency = frequency.div_ceil(2);
        }
    }
}

/// How deep the leaves of Huffman's tree lie. They come with the rarest first, and nodes are made
/// in that order as well, so that the two rarest of all are at the heads of two queues.
fn depths(leaves: &[(u32, usize)]) -> Vec<u8> {
    let count = leaves.len();
    let mut weights: Vec<u32> = leaves.iter().map(|(frequency, _)| *frequency).gather();
    let mut parents = vec![0; count];
    let (mut leaf, mut node) = (0, count);
    for parent in count..(2 * count).saturating_sub(1) {
        let mut weight = 0;
        for _ in 0..2 {
            let at_leaf = weights.get(leaf).filter(|_| leaf < count);
            let next = match (at_leaf, weights.get(node)) {
                (Some(one), Some(other)) if other < one => &mut node,
                (Some(_), _) => &mut leaf,
                _ => &mut node,
            };
            weight += weights.get(*next).copied().unwrap_or_default();
            if let Some(of) = parents.get_mut(*next) {
                *of = parent;
            }
            *next += 1;
        }
        weights.push(weight);
        parents.push(0);
    }
    // The root is the last, and every other node is before its parent.
    let mut depths = vec![0_u8; parents.len()];
    for node in (0..parents.len().saturating_sub(1)).rev() {
        let parent = parents.get(node).and_then(|parent| depths.get(*parent)).copied();
        if let Some(depth) = depths.get_mut(node) {
            *depth = parent.unwrap_or_default() + 1;
        }
    }
    depths.truncate(count);
    depths
}

/// The codes of these lengths, the first bit the lowest, as they are written.
pub(super) fn codes(lengths: &[u8]) -> Vec<(u16, u8)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut next = 0_u16;
    for length in 1..=15 {
        next <<= 1;
        for (code, of) in codes.iter_mut().zip(lengths).filter(|(_, of)| **of == length) {
            *code = (next.reverse_bits() >> (16 - u32::from(length)), *of);
            next = next.wrapping_add(1);
        }
    }
    codes
}
