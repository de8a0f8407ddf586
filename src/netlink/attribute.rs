// SPDX-License-Identifier: Apache-2.0
//! Netlink attributes as a tree: emitted, read back, and compared.
//!
//! The kernel's dump of a rule is not byte for byte what was sent: it drops the
//! nesting flag, adds defaults and may change the order. Comparing trees makes
//! one description serve both for writing and for checking. Nothing here knows
//! what any attribute means. It is the kernel that wrote what is read, and still
//! no length is trusted.

use netlink_packet_core::DecodeError;

use crate::list::Gather;

/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// The bits of a type that are the type (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 4;

/// One attribute: its type and what it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Attribute {
    kind: u16,
    value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Attribute>),
    /// Sent as an empty nest, and whatever the kernel has there agrees.
    Open,
}

/// What a dump may hold besides that which was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Besides {
    /// Anything: handles, counters, sizes.
    Anything,
    /// Only defaults, which are zeros: a flag that is set changes the meaning.
    Zeros,
}

impl Attribute {
    /// Bytes as they are.
    pub(crate) fn bytes(kind: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: Value::Bytes(bytes.into()) }
    }

    /// A number in network byte order, as nf_tables has nearly all of them.
    pub(crate) fn number(kind: u16, number: u32) -> Self {
        Self::bytes(kind, number.to_be_bytes())
    }

    /// A string with the NUL that the kernel wants at its end.
    pub(crate) fn string(kind: u16, text: &str) -> Self {
        let mut bytes = Vec::from(text);
        bytes.push(0);
        Self::bytes(kind, bytes)
    }

    /// Attributes within an attribute.
    pub(crate) fn nest(kind: u16, inner: impl Into<Vec<Attribute>>) -> Self {
        Self { kind, value: Value::Nest(inner.into()) }
    }

    /// A nest whose content is the kernel's: a counter's numbers.
    pub(crate) fn open(kind: u16) -> Self {
        Self { kind, value: Value::Open }
    }

    /// A nest as a dump has it, to be sent once more.
    pub(crate) fn copied(kind: u16, inner: &[u8]) -> Self {
        Self::bytes(kind | NESTED, inner)
    }

    /// Appends the attribute and its padding. Whoever builds a tree keeps every
    /// nest under 64 KiB, the most that the length field can say.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let nested = if matches!(self.value, Value::Bytes(_)) { 0 } else { NESTED };
        // The length is known once the value is there.
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(self.kind | nested).to_ne_bytes());
        match &self.value {
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
            Value::Open => {}
            Value::Nest(inner) => inner.iter().for_each(|attribute| attribute.emit(out)),
        }
        let length = out.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes();
        out.iter_mut().skip(start).zip(length).for_each(|(byte, of_length)| *byte = of_length);
        out.resize(out.len().next_multiple_of(4), 0);
    }

    fn agrees(&self, dump: &[u8], besides: Besides) -> bool {
        match &self.value {
            Value::Bytes(bytes) => bytes == dump,
            Value::Nest(inner) => says(dump, inner, besides),
            Value::Open => true,
        }
    }
}

/// Attributes as they stand in a message.
pub(crate) fn emitted(attributes: &[Attribute]) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.iter().for_each(|attribute| attribute.emit(&mut out));
    out
}

/// Whether `dump` holds every attribute of `sent` with the same value. Several
/// attributes of one type are compared in their order, others in any.
pub(crate) fn says(dump: &[u8], sent: &[Attribute], besides: Besides) -> bool {
    let mut missing: Vec<&Attribute> = sent.iter().gather();
    for (kind, value) in attributes(dump) {
        let holds = match missing.iter().position(|attribute| attribute.kind == kind) {
            Some(place) => missing.remove(place).agrees(value, besides),
            // One more of a type than was sent.
            None if sent.iter().any(|attribute| attribute.kind == kind) => false,
            None => besides == Besides::Anything || value.iter().all(|&byte| byte == 0),
        };
        if !holds {
            return false;
        }
    }
    missing.is_empty()
}

/// The attributes of a message or of a nest, type without flags and value without
/// padding, up to the first one whose length cannot be true: that one is an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let Some((length, attribute)) = first(bytes) else {
            return Some(Err("an attribute is longer than what holds it".into()));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(attribute))
    }
}

/// Length, and type and value.
fn first(bytes: &[u8]) -> Option<(usize, (u16, &[u8]))> {
    let length = usize::from(short(bytes, 0)?);
    Some((length, (short(bytes, 2)? & TYPE_MASK, bytes.get(HEADER_BYTES..length)?)))
}

/// The attributes before the first one that cannot be read.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    Attributes(bytes).map_while(Result::ok)
}

/// The first attribute of a type.
pub(crate) fn find(dump: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(dump).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in network byte order.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A string, with or without a NUL at its end. Whoever may make links may give them
/// names that are not UTF-8, and ours are found beside them all the same.
pub(crate) fn string(value: &[u8]) -> String {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_nests_flagged() {
        let tree = [Attribute::nest(3, [Attribute::string(1, "ab"), Attribute::number(2, 258)])];
        let bytes = emitted(&tree);
        #[cfg(target_endian = "little")]
        assert_eq!(bytes, *b"\x14\0\x03\x80\x07\0\x01\0ab\0\0\x08\0\x02\0\0\0\x01\x02");
        assert!(says(&bytes, &tree, Besides::Zeros));
    }

    #[test]
    fn order_matters_only_within_a_type() {
        let sent = [Attribute::number(1, 7), Attribute::number(1, 8), Attribute::number(2, 9)];
        let moved = [Attribute::number(2, 9), Attribute::number(1, 7), Attribute::number(1, 8)];
        let swapped = [Attribute::number(1, 8), Attribute::number(1, 7), Attribute::number(2, 9)];
        assert!(says(&emitted(&moved), &sent, Besides::Zeros));
        assert!(!says(&emitted(&swapped), &sent, Besides::Zeros));
    }

    #[test]
    fn additions_count_when_they_mean_something() {
        let sent = [Attribute::number(1, 7)];
        let default = emitted(&[Attribute::number(1, 7), Attribute::number(5, 0)]);
        let inverted = emitted(&[Attribute::number(1, 7), Attribute::number(5, 1)]);
        let twice = emitted(&[Attribute::number(1, 7), Attribute::number(1, 7)]);
        assert!(says(&default, &sent, Besides::Zeros));
        assert!(!says(&inverted, &sent, Besides::Zeros));
        assert!(says(&inverted, &sent, Besides::Anything));
        assert!(!says(&twice, &sent, Besides::Anything));
        assert!(!says(&[], &sent, Besides::Anything));
    }

    #[test]
    fn lies_about_length_end_the_reading() {
        for bytes in [&b"\x03\0\x01\0"[..], b"\xff\0\x01\0ab", b"\0\0\0\0", b"\x08", b""] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            let told: Vec<bool> = Attributes(bytes).map(|it| it.is_err()).collect();
            assert_eq!(told, vec![true; usize::from(!bytes.is_empty())], "{bytes:?}");
        }
    }
}
