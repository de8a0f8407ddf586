// SPDX-License-Identifier: Apache-2.0
//! Packets out of what carries them: a capture (pcap) of outer packets becomes one of inner ones,
//! with the times at which they were seen.

use std::io::{self, ErrorKind, Read, Write};

use super::places::Carrier;

/// Microseconds, or nanoseconds, in this machine's order of bytes.
const MAGICS: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
/// What a record may have, in bytes: tcpdump's own limit.
const RECORD_BYTES_MAX: u32 = 1 << 18;

/// Kinds of links (tcpdump.org/linktypes.html).
const ETHERNET: u32 = 1;
const RAW: [u32; 2] = [12, 101];

const VLAN_TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const UDP: u8 = 17;
const IPIP: u8 = 4;

/// Reads a capture to its end, and writes what is inside.
///
/// # Errors
/// Of reading and writing; `InvalidData` for what is no capture, or one of a link of another kind.
pub(super) fn unpack(
    carrier: Carrier,
    mut outer: impl Read,
    mut inner: impl Write,
) -> io::Result<()> {
    let mut header = [0; FILE_HEADER_BYTES];
    outer.read_exact(&mut header)?;
    let bad = |why| io::Error::new(ErrorKind::InvalidData, why);
    let word = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    let kind = word(&header, 20).unwrap_or_default() & 0xffff;
    if !word(&header, 0).is_some_and(|magic| MAGICS.contains(&magic)) {
        return Err(bad("it is no capture"));
    }
    let has_ethernet = kind == ETHERNET;
    if !has_ethernet && !RAW.contains(&kind) {
        return Err(bad("packets of this kind of device cannot be unpacked"));
    }
    let [.., last] = match carrier {
        Carrier::Vxlan { .. } => [ETHERNET],
        Carrier::Ipip => [101],
    };
    inner.write_all(header.get(..20).unwrap_or_default())?;
    inner.write_all(&last.to_ne_bytes())?;
    inner.flush()?;
    let mut record = [0; RECORD_HEADER_BYTES];
    let mut frame = Vec::new();
    loop {
        match outer.read_exact(&mut record) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let [taken, whole] = [8, 12].map(|at| word(&record, at).unwrap_or_default());
        if taken > RECORD_BYTES_MAX {
            return Err(bad("it is no capture"));
        }
        frame.clear();
        outer.by_ref().take(taken.into()).read_to_end(&mut frame)?;
        let Some(skipped) = inside(carrier, &frame, has_ethernet) else { continue };
        let rest = frame.get(skipped..).unwrap_or_default();
        let skipped = u32::try_from(skipped).unwrap_or_default();
        inner.write_all(record.get(..8).unwrap_or_default())?;
        for length in [taken, whole] {
            inner.write_all(&length.saturating_sub(skipped).to_ne_bytes())?;
        }
        inner.write_all(rest)?;
        inner.flush()?;
    }
}

/// Where the packet begins that is inside.
fn inside(carrier: Carrier, frame: &[u8], has_ethernet: bool) -> Option<usize> {
    let mut at = 0;
    if has_ethernet {
        at = 12;
        while VLAN_TAGS.iter().any(|tag| frame.get(at..at + 2) == Some(tag)) {
            at += 4;
        }
        at += 2;
    }
    let first = *frame.get(at)?;
    let (protocol, length) = match first >> 4 {
        4 => (*frame.get(at + 9)?, usize::from(first & 15) * 4),
        6 => (*frame.get(at + 6)?, 40),
        _ => return None,
    };
    let behind = at + length;
    match carrier {
        // The headers of UDP and VXLAN.
        Carrier::Vxlan { .. } if protocol == UDP => Some(behind + 16),
        Carrier::Ipip if protocol == IPIP => Some(behind),
        _ => None,
    }
    .filter(|at| *at < frame.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(kind: u32, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut all = Vec::new();
        for word in [MAGICS[0], 0x0004_0002, 0, 0, 1 << 18, kind] {
            all.extend(word.to_ne_bytes());
        }
        for (at, frame) in (1..).zip(frames) {
            let length = u32::try_from(frame.len()).unwrap();
            for word in [at, 500, length, length + 10] {
                all.extend(word.to_ne_bytes());
            }
            all.extend(frame);
        }
        all
    }

    fn unpacked(carrier: Carrier, kind: u32, frames: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        let mut inner = Vec::new();
        unpack(carrier, capture(kind, frames).as_slice(), &mut inner).map(|()| inner)
    }

    const VXLAN: Carrier = Carrier::Vxlan { port: 4789 };

    fn ipv4(protocol: u8, options: usize, inner: &[u8]) -> Vec<u8> {
        let first = 0x45 + u8::try_from(options / 4).unwrap();
        let mut packet = vec![first, 0, 0, 0, 0, 0, 0, 0, 64, protocol];
        packet.resize(20 + options, 0);
        [&packet, inner].concat()
    }

    fn ethernet(tags: usize, packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &[0x81, 0, 0, 7].repeat(tags), &[8, 0], packet].concat()
    }

    #[test]
    fn what_is_inside_comes_out_at_its_time() {
        let inner = b"inner packet".as_slice();
        let in_vxlan = [&[0; 16][..], inner].concat();
        let ipv6 = [&[0x60, 0, 0, 0, 0, 0, UDP][..], &[0; 33], &in_vxlan].concat();
        for (carrier, kind, frame, of_inner) in [
            (VXLAN, ETHERNET, ethernet(0, &ipv4(UDP, 0, &in_vxlan)), ETHERNET),
            (VXLAN, ETHERNET, ethernet(2, &ipv4(UDP, 8, &in_vxlan)), ETHERNET),
            (VXLAN, ETHERNET, ethernet(0, &ipv6), ETHERNET),
            (VXLAN, 101, ipv6, ETHERNET),
            (Carrier::Ipip, ETHERNET, ethernet(0, &ipv4(IPIP, 0, inner)), 101),
            (Carrier::Ipip, 12, ipv4(IPIP, 4, inner), 101),
        ] {
            // What is something else, or cut off, is left out.
            let others =
                [ethernet(0, &ipv4(6, 0, inner)), vec![0; 3], frame[..frame.len() - 12].to_vec()];
            let frames = [vec![frame.clone()], others.to_vec(), vec![frame]].concat();
            let mut expected = capture(of_inner, &[inner.to_vec(), inner.to_vec()]);
            let second = expected.len() - RECORD_HEADER_BYTES - inner.len();
            expected[second..second + 4].copy_from_slice(&5_u32.to_ne_bytes());
            assert_eq!(unpacked(carrier, kind, &frames).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(unpacked(VXLAN, 113, &[]).unwrap_err().to_string().contains("kind of device"));
        for bytes in [vec![0; 24], vec![1; 5], Vec::new()] {
            assert!(unpack(VXLAN, bytes.as_slice(), Vec::new()).is_err());
        }
        let mut large = capture(ETHERNET, &[vec![0; 4]]);
        large[32..36].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(unpack(VXLAN, large.as_slice(), Vec::new()).is_err());
    }
}
