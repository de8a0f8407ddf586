// SPDX-License-Identifier: Apache-2.0
//! What deflate's symbols mean (RFC 1951, 3.2.5 to 3.2.7).

/// The end of a block.
pub(super) const END: usize = 256;
/// Symbols of literals, the end and lengths.
pub(super) const LITERALS: usize = 286;
/// Symbols of distances.
pub(super) const DISTANCES: usize = 30;
/// Bits that a code of either has at most.
pub(super) const CODE_BITS_MAX: usize = 15;

/// The shortest copy.
pub(super) const LENGTH_MIN: usize = 3;
/// The longest.
pub(super) const LENGTH_MAX: usize = 258;
/// How far back a copy may be from.
pub(super) const WINDOW: usize = 1 << 15;

/// In which order the lengths of the codes for lengths of codes are told.
pub(super) const ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The least length of each symbol of one, from 257.
const LENGTH_BASES: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];

/// The least distance of each symbol.
const DISTANCE_BASES: [u16; DISTANCES] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];

/// What a symbol stands for together with the bits behind it.
pub(super) struct Meaning {
    pub(super) base: u16,
    /// How many bits follow.
    pub(super) extra: u32,
}

/// A length by its symbol, which is counted from 257.
pub(super) fn length(symbol: usize) -> Option<Meaning> {
    let base = *LENGTH_BASES.get(symbol)?;
    let extra = if base == 258 { 0 } else { extra(symbol, 4) };
    Some(Meaning { base, extra })
}

/// A distance by its symbol.
pub(super) fn distance(symbol: usize) -> Option<Meaning> {
    Some(Meaning { base: *DISTANCE_BASES.get(symbol)?, extra: extra(symbol, 2) })
}

/// From the second group on, symbols of a group have one bit more than those before.
fn extra(symbol: usize, group: usize) -> u32 {
    u32::try_from((symbol / group).saturating_sub(1)).unwrap_or_default()
}

/// The symbol of a length, counted from 257.
pub(super) fn symbol_of_length(length: u16) -> usize {
    LENGTH_BASES.partition_point(|base| *base <= length).saturating_sub(1)
}

/// The symbol of a distance.
pub(super) fn symbol_of_distance(distance: u16) -> usize {
    DISTANCE_BASES.partition_point(|base| *base <= distance).saturating_sub(1)
}
