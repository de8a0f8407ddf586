// SPDX-License-Identifier: Apache-2.0
//! The checksum of gzip (RFC 1952, 8).

/// The polynomial, its lowest bit the highest power.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// CRC-32. A table of sixteen is enough for what is read once.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 16] = std::array::from_fn(|index| {
        (0..4).fold(u32::try_from(index).unwrap_or_default(), |rest, _| {
            if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 }
        })
    });
    let step = |sum: u32| sum >> 4 ^ table.get((sum & 15) as usize).copied().unwrap_or_default();
    !bytes.iter().fold(!0, |sum, byte| step(step(sum ^ u32::from(*byte))))
}
