// SPDX-License-Identifier: Apache-2.0
//! gzip (RFC 1952): what a bundle is packed in. Written here, for the crates that do it make the
//! plugin larger by more than the whole of this.
//!
//! Packed text may be anybody's: what unpacks it holds to a limit, and refuses what is cut off,
//! damaged or followed by something else.

mod checksum;
mod deflate;
mod huffman;
mod inflate;
mod symbols;

use std::io::{self, ErrorKind};

use crate::list::PushAll;
use checksum::crc32;
use deflate::deflate;
use inflate::{Bits, inflate};

/// What a file of gzip begins with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The one method that there is.
const DEFLATE: u8 = 8;
/// Flags of a header: a checksum of it, a field of others, a name and a comment.
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
/// Flags that mean nothing yet.
const RESERVED: u8 = 0b1110_0000;
/// The operating system is Unix.
const UNIX: u8 = 3;

/// Whether this is gzip.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Packs it, without a name or a time.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![MAGIC[0], MAGIC[1], DEFLATE, 0, 0, 0, 0, 0, 0, UNIX];
    deflate(bytes, &mut packed);
    packed.push_all(crc32(bytes).to_le_bytes());
    packed.push_all(size(bytes).to_le_bytes());
    packed
}

/// Unpacks it; several files one behind the other are one, as gzip(1) has it.
///
/// # Errors
/// `FileTooLarge` where it comes to more than `bytes_max`, and then no more than that was held;
/// `InvalidData` for all that is no gzip or damaged.
pub fn decompress(bytes: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let mut bits = Bits::new(bytes);
    loop {
        let start = unpacked.len();
        let complete = member(&mut bits, &mut unpacked, bytes_max);
        complete.map_err(|fault| match fault {
            inflate::Fault::TooLarge => io::Error::new(
                ErrorKind::FileTooLarge,
                format!("unpacked it has more than {bytes_max} bytes, and may have that many"),
            ),
            inflate::Fault::Bad(why) => damaged(why),
        })?;
        let of_member = unpacked.get(start..).unwrap_or_default();
        let (Some(sum), Some(length)) = (bits.word(), bits.word()) else {
            return Err(damaged("it ends too early"));
        };
        if (sum, length) != (crc32(of_member), size(of_member)) {
            return Err(damaged("its checksum is another"));
        }
        if bits.is_empty() {
            return Ok(unpacked);
        }
    }
}

/// A header and what is behind it.
fn member(
    bits: &mut Bits<'_>,
    unpacked: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), inflate::Fault> {
    header(bits).ok_or(inflate::Fault::Bad("it has no header of gzip where one should be"))?;
    inflate(bits, unpacked, bytes_max)
}

fn header(bits: &mut Bits<'_>) -> Option<()> {
    let mut fixed = [0; 10];
    for byte in &mut fixed {
        *byte = bits.byte()?;
    }
    let [first, second, method, flags, ..] = fixed;
    if [first, second] != MAGIC || method != DEFLATE || flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes([bits.byte()?, bits.byte()?]);
        for _ in 0..length {
            bits.byte()?;
        }
    }
    for text in [NAME, COMMENT] {
        while flags & text != 0 && bits.byte()? != 0 {}
    }
    if flags & HEADER_CHECKSUM != 0 {
        bits.byte()?;
        bits.byte()?;
    }
    Some(())
}

/// How long it is, as a trailer has it: modulo 2^32.
#[allow(clippy::cast_possible_truncation, reason = "RFC 1952, 2.3.1")]
fn size(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it is gzip, and cannot be unpacked: {why}"))
}

#[cfg(test)]
mod tests;
