// SPDX-License-Identifier: Apache-2.0
//! From packed bytes to what they were (RFC 1951).

use super::symbols::{self, CODE_BITS_MAX, DISTANCES, END, LITERALS, Meaning, ORDER};

/// Why nothing comes of it.
pub(super) enum Fault {
    /// It would be more than was allowed.
    TooLarge,
    /// It is damaged, in words.
    Bad(&'static str),
}

const CUT_OFF: Fault = Fault::Bad("it ends too early");
const BAD_CODES: Fault = Fault::Bad("its codes contradict each other");
const BAD_SYMBOL: Fault = Fault::Bad("it has a code that means nothing");

/// Bytes that are read bit by bit, the lowest of each first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The byte that was begun, without what was read of it.
    held: u8,
    /// How many bits are left of it.
    left: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, held: 0, left: 0 }
    }

    /// Whether no whole byte is left.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole byte; what is left of the one before is skipped.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.left = 0;
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// Four bytes as a number.
    pub(super) fn word(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    fn bit(&mut self) -> Result<u16, Fault> {
        if self.left == 0 {
            self.held = self.byte().ok_or(CUT_OFF)?;
            self.left = 8;
        }
        let bit = self.held & 1;
        self.held >>= 1;
        self.left -= 1;
        Ok(bit.into())
    }

    /// A number of up to 15 bits.
    fn number(&mut self, bits: u32) -> Result<u16, Fault> {
        let mut number = 0;
        for place in 0..bits {
            number |= self.bit()? << place;
        }
        Ok(number)
    }

    fn with(&mut self, meaning: Option<Meaning>) -> Result<usize, Fault> {
        let Meaning { base, extra } = meaning.ok_or(BAD_SYMBOL)?;
        Ok(usize::from(base) + usize::from(self.number(extra)?))
    }
}

/// Canonical codes: how many there are of each length, and their symbols in order.
struct Codes {
    counts: [u16; CODE_BITS_MAX + 1],
    symbols: Vec<u16>,
}

impl Codes {
    /// Those of symbols whose codes have these lengths, 0 for none.
    fn of(lengths: &[u8]) -> Result<Self, Fault> {
        let mut counts = [0; CODE_BITS_MAX + 1];
        let used = || (0_u16..).zip(lengths).filter(|(_, length)| **length > 0);
        for (_, length) in used() {
            *counts.get_mut(usize::from(*length)).ok_or(BAD_CODES)? += 1;
        }
        // Where the symbols of each length begin.
        let mut places = [0; CODE_BITS_MAX + 1];
        let mut place = 0_u16;
        for (of_length, count) in places.iter_mut().zip(counts) {
            *of_length = place;
            place += count;
        }
        let mut symbols = vec![0; place.into()];
        for (symbol, length) in used() {
            let Some(place) = places.get_mut(usize::from(*length)) else { continue };
            if let Some(there) = symbols.get_mut(usize::from(*place)) {
                *there = symbol;
            }
            *place += 1;
        }
        // How many codes of the longest kind are free.
        let mut free = 1_i32;
        for count in counts.iter().skip(1) {
            free = free * 2 - i32::from(*count);
            if free < 0 {
                return Err(BAD_CODES);
            }
        }
        // One code alone, or none, is fine: it takes a bit all the same.
        let is_lone = symbols.len() <= 1 && counts.iter().skip(2).all(|count| *count == 0);
        if free > 0 && !is_lone { Err(BAD_CODES) } else { Ok(Self { counts, symbols }) }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize, Fault> {
        // The next code, and of those of its length the first code and its symbol's place.
        let (mut code, mut first, mut place) = (0_u16, 0_u16, 0_u16);
        for count in self.counts.iter().skip(1) {
            code |= bits.bit()?;
            if code < first + count {
                let symbol = self.symbols.get(usize::from(place + (code - first)));
                return symbol.map(|symbol| usize::from(*symbol)).ok_or(BAD_SYMBOL);
            }
            place += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(BAD_SYMBOL)
    }
}

/// Unpacks all blocks of a file behind what `unpacked` has, to `bytes_max` at most.
pub(super) fn inflate(
    bits: &mut Bits<'_>,
    unpacked: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Fault> {
    let mut output = Output { start: unpacked.len(), bytes: unpacked, bytes_max };
    let fixed = fixed()?;
    loop {
        let is_last = bits.bit()? == 1;
        match bits.number(2)? {
            0 => stored(bits, &mut output)?,
            1 => block(bits, &mut output, &fixed)?,
            2 => {
                let codes = dynamic(bits)?;
                block(bits, &mut output, &codes)?;
            }
            _ => return Err(Fault::Bad("it has a block of no known kind")),
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Where it goes.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    /// Where this file begins.
    start: usize,
    bytes_max: usize,
}

impl Output<'_> {
    /// Makes sure of room for so many.
    fn require(&self, count: usize) -> Result<(), Fault> {
        let is_room = self.bytes.len() + count <= self.bytes_max;
        if is_room { Ok(()) } else { Err(Fault::TooLarge) }
    }

    fn push(&mut self, byte: u8) -> Result<(), Fault> {
        self.require(1)?;
        self.bytes.push(byte);
        Ok(())
    }

    /// Repeats what came `distance` before; of that itself, where it is longer.
    fn copy(&mut self, length: usize, distance: usize) -> Result<(), Fault> {
        self.require(length)?;
        if distance > self.bytes.len() - self.start {
            return Err(Fault::Bad("it refers to what is before its beginning"));
        }
        let mut rest = length;
        while rest > 0 {
            let count = rest.min(distance);
            let from = self.bytes.len() - distance;
            self.bytes.extend_from_within(from..from + count);
            rest -= count;
        }
        Ok(())
    }
}

/// A block as it is.
fn stored(bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<(), Fault> {
    let word = bits.word().ok_or(CUT_OFF)?;
    let (length, complement) = (word & 0xffff, word >> 16);
    if length ^ complement != 0xffff {
        return Err(Fault::Bad("it has a block of no certain length"));
    }
    for _ in 0..length {
        output.push(bits.byte().ok_or(CUT_OFF)?)?;
    }
    Ok(())
}

/// Codes for literals and lengths, and for distances.
type Pair = (Codes, Codes);

/// Those that no block has to tell.
fn fixed() -> Result<Pair, Fault> {
    let mut lengths = [8; 288];
    for (symbol, length) in lengths.iter_mut().enumerate() {
        match symbol {
            144..256 => *length = 9,
            256..280 => *length = 7,
            _ => {}
        }
    }
    // Two more than there are distances, so that no code is free.
    Ok((Codes::of(&lengths)?, Codes::of(&[5; 32])?))
}

/// Those that a block tells.
fn dynamic(bits: &mut Bits<'_>) -> Result<Pair, Fault> {
    let literals = usize::from(bits.number(5)?) + 257;
    let distances = usize::from(bits.number(5)?) + 1;
    let told = usize::from(bits.number(4)?) + 4;
    if literals > LITERALS || distances > DISTANCES {
        return Err(BAD_CODES);
    }
    let mut of_lengths = [0; 19];
    for symbol in ORDER.into_iter().take(told) {
        if let Some(length) = of_lengths.get_mut(symbol) {
            *length = bits.number(3)?.try_into().unwrap_or_default();
        }
    }
    let of_lengths = Codes::of(&of_lengths)?;
    let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let symbol = of_lengths.read(bits)?;
        let (length, count) = match symbol {
            16 => (*lengths.last().ok_or(BAD_CODES)?, bits.number(2)? + 3),
            17 => (0, bits.number(3)? + 3),
            18 => (0, bits.number(7)? + 11),
            _ => (u8::try_from(symbol).unwrap_or_default(), 1),
        };
        lengths.resize(lengths.len() + usize::from(count), length);
    }
    if lengths.len() != literals + distances || lengths.get(END) == Some(&0) {
        return Err(BAD_CODES);
    }
    let (literals, distances) = lengths.split_at_checked(literals).ok_or(BAD_CODES)?;
    Ok((Codes::of(literals)?, Codes::of(distances)?))
}

/// A block in codes.
fn block(bits: &mut Bits<'_>, output: &mut Output<'_>, codes: &Pair) -> Result<(), Fault> {
    let (literals, distances) = codes;
    loop {
        let symbol = literals.read(bits)?;
        match u8::try_from(symbol) {
            Ok(byte) => output.push(byte)?,
            Err(_) if symbol == END => return Ok(()),
            Err(_) => {
                let length = bits.with(symbols::length(symbol - END - 1))?;
                let symbol = distances.read(bits)?;
                let distance = bits.with(symbols::distance(symbol))?;
                output.copy(length, distance)?;
            }
        }
    }
}
