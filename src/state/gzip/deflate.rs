// SPDX-License-Identifier: Apache-2.0
//! From bytes to packed ones (RFC 1951): what was there before is referred to, and the rest has
//! short codes where it comes often.

use super::{
    huffman::{codes, lengths},
    symbols::{
        self, CODE_BITS_MAX, DISTANCES, END, LENGTH_MAX, LENGTH_MIN, LITERALS, Meaning, ORDER,
        WINDOW, symbol_of_distance, symbol_of_length,
    },
};

/// So many parts make a block, which has codes of its own.
const BLOCK_PARTS: usize = 1 << 15;
/// So many places are compared with what comes at most.
const PLACES_MAX: u32 = 64;
/// A copy of this length is taken without a look whether the next byte begins a longer one.
const LONG: usize = 32;
/// How many beginnings are told apart.
const BEGINNINGS: usize = 1 << 15;

/// What a block has in its order.
#[derive(Clone, Copy)]
enum Part {
    Literal(u8),
    Copy { length: u16, distance: u16 },
}

/// Packs all of it.
pub(super) fn deflate(bytes: &[u8], packed: &mut Vec<u8>) {
    let mut writer = Writer { packed, held: 0, count: 0 };
    let mut places = Places::new(bytes);
    let mut parts = Vec::with_capacity(BLOCK_PARTS);
    let (mut at, mut ahead) = (0, None);
    while let Some(byte) = bytes.get(at) {
        let found = ahead.take().unwrap_or_else(|| places.longest(at));
        places.add(at);
        at += 1;
        if found.length < LENGTH_MIN {
            parts.push(Part::Literal(*byte));
        } else {
            if found.length < LONG {
                let next = places.longest(at);
                let is_longer = next.length > found.length;
                ahead = is_longer.then_some(next);
            }
            if ahead.is_some() {
                parts.push(Part::Literal(*byte));
            } else {
                parts.push(found.part());
                (at..at + found.length - 1).for_each(|place| places.add(place));
                at += found.length - 1;
            }
        }
        if parts.len() == BLOCK_PARTS {
            writer.block(&parts, at == bytes.len());
            parts.clear();
        }
    }
    if !parts.is_empty() || bytes.is_empty() {
        writer.block(&parts, true);
    }
    writer.finish();
}

/// What was there before.
#[derive(Clone, Copy)]
struct Match {
    length: usize,
    distance: usize,
}

impl Match {
    fn part(self) -> Part {
        let [length, distance] =
            [self.length, self.distance].map(|number| u16::try_from(number).unwrap_or_default());
        Part::Copy { length, distance }
    }
}

/// Where each three bytes were before.
struct Places<'a> {
    bytes: &'a [u8],
    /// One more than the last place of each beginning; 0 for none.
    last: Vec<u32>,
    /// The one before each place of the window.
    before: Vec<u32>,
}

impl<'a> Places<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, last: vec![0; BEGINNINGS], before: vec![0; WINDOW] }
    }

    /// The number of what begins there.
    fn beginning(&self, at: usize) -> Option<usize> {
        let [a, b, c] = *self.bytes.get(at..)?.first_chunk()?;
        let word = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9e37_79b1);
        Some((word >> 17) as usize)
    }

    fn add(&mut self, at: usize) {
        let Some(beginning) = self.beginning(at) else { return };
        let place = u32::try_from(at + 1).unwrap_or_default();
        if let (Some(last), Some(before)) =
            (self.last.get_mut(beginning), self.before.get_mut(at % WINDOW))
        {
            *before = std::mem::replace(last, place);
        }
    }

    /// The longest of what was there before and comes there.
    fn longest(&self, at: usize) -> Match {
        let mut longest = Match { length: LENGTH_MIN - 1, distance: 0 };
        let Some(mut place) = self.beginning(at).and_then(|one| self.last.get(one)).copied() else {
            return longest;
        };
        let here = self.bytes.get(at..).unwrap_or_default();
        let here = here.get(..LENGTH_MAX).unwrap_or(here);
        let mut above = at;
        for _ in 0..PLACES_MAX {
            let Some(start) = (place as usize).checked_sub(1) else { break };
            // What is not before the last one is of a later turn of the window.
            if start >= above || at - start > WINDOW {
                break;
            }
            let there = self.bytes.get(start..).unwrap_or_default();
            if there.get(longest.length) == here.get(longest.length) {
                let length = here.iter().zip(there).take_while(|(a, b)| a == b).count();
                if length > longest.length {
                    longest = Match { length, distance: at - start };
                }
                if length == here.len() {
                    break;
                }
            }
            above = start;
            place = self.before.get(start % WINDOW).copied().unwrap_or_default();
        }
        longest
    }
}

/// Bits on their way into bytes, the lowest first.
struct Writer<'a> {
    packed: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl Writer<'_> {
    /// Up to 16 bits.
    fn bits(&mut self, bits: u16, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            let [lowest, ..] = self.held.to_le_bytes();
            self.packed.push(lowest);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    fn code(&mut self, codes: &[(u16, u8)], symbol: usize) {
        if let Some((code, length)) = codes.get(symbol) {
            self.bits(*code, (*length).into());
        }
    }

    fn number(&mut self, number: usize, count: u32) {
        self.bits(u16::try_from(number).unwrap_or_default(), count);
    }

    fn finish(&mut self) {
        let rest = self.count.next_multiple_of(8) - self.count;
        self.bits(0, rest);
    }

    fn value(&mut self, value: u16, meaning: Option<Meaning>) {
        if let Some(Meaning { base, extra }) = meaning {
            self.bits(value - base, extra);
        }
    }

    /// A block with codes that it tells itself.
    fn block(&mut self, parts: &[Part], is_last: bool) {
        let (literals, distances) = of_parts(parts);
        self.number(is_last.into(), 1);
        self.number(2, 2);
        self.codes(&literals, &distances);
        let (literals, distances) = (codes(&literals), codes(&distances));
        for part in parts {
            match *part {
                Part::Literal(byte) => self.code(&literals, byte.into()),
                Part::Copy { length, distance } => {
                    let symbol = symbol_of_length(length);
                    self.code(&literals, END + 1 + symbol);
                    self.value(length, symbols::length(symbol));
                    let symbol = symbol_of_distance(distance);
                    self.code(&distances, symbol);
                    self.value(distance, symbols::distance(symbol));
                }
            }
        }
        self.code(&literals, END);
    }

    /// Tells the lengths of codes, themselves in codes.
    fn codes(&mut self, literals: &[u8], distances: &[u8]) {
        let [literals, distances] = [(literals, END + 1), (distances, 1)].map(|(all, least)| {
            let used = all.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
            all.get(..used.max(least)).unwrap_or(all)
        });
        let told = runs(&[literals, distances].concat());
        let mut frequencies = [0; ORDER.len()];
        for (symbol, ..) in &told {
            if let Some(frequency) = frequencies.get_mut(*symbol) {
                *frequency += 1;
            }
        }
        let of_lengths = lengths(&frequencies, 7);
        let in_order = ORDER.map(|symbol| of_lengths.get(symbol).copied().unwrap_or_default());
        let used = in_order.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        let used = used.max(4);
        self.number(literals.len() - (END + 1), 5);
        self.number(distances.len() - 1, 5);
        self.number(used - 4, 4);
        for length in in_order.into_iter().take(used) {
            self.bits(length.into(), 3);
        }
        let of_lengths = codes(&of_lengths);
        for (symbol, extra, bits) in told {
            self.code(&of_lengths, symbol);
            self.number(extra, bits);
        }
    }
}

/// The lengths of codes for what a block has.
fn of_parts(parts: &[Part]) -> (Vec<u8>, Vec<u8>) {
    let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
    let mut count = |literal: usize, distance: Option<usize>| {
        let literal = literals.get_mut(literal);
        let distance = distance.and_then(|distance| distances.get_mut(distance));
        literal.into_iter().chain(distance).for_each(|frequency| *frequency += 1);
    };
    for part in parts {
        match *part {
            Part::Literal(byte) => count(byte.into(), None),
            Part::Copy { length, distance } => {
                count(END + 1 + symbol_of_length(length), Some(symbol_of_distance(distance)));
            }
        }
    }
    count(END, None);
    let bits = u8::try_from(CODE_BITS_MAX).unwrap_or_default();
    (lengths(&literals, bits), lengths(&distances, bits))
}

/// Lengths of codes as symbols, each with a number behind it and how many bits that has: runs of
/// zeros are told at once, and so are repetitions of what is before.
fn runs(lengths: &[u8]) -> Vec<(usize, usize, u32)> {
    let mut told = Vec::new();
    for run in lengths.chunk_by(|one, other| one == other) {
        let length = usize::from(run.first().copied().unwrap_or_default());
        let mut rest = run.len();
        if length > 0 {
            told.push((length, 0, 0));
            rest -= 1;
        }
        while rest > 0 {
            let (symbol, least, most, bits) = match rest {
                0..3 => (length, 1, 1, 0),
                _ if length > 0 => (16, 3, 6, 2),
                3..11 => (17, 3, 10, 3),
                _ => (18, 11, 138, 7),
            };
            let count = rest.min(most);
            told.push((symbol, count - least, bits));
            rest -= count;
        }
    }
    told
}
