// SPDX-License-Identifier: Apache-2.0
use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::*;

/// More than any test unpacks.
const MANY: usize = 1 << 24;

/// What the system's gzip makes of it.
fn gzip(option: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    command.args([option, "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "gzip {option}: {}", output.status);
    output.stdout
}

/// Numbers without an order, always the same.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// Text as bundles have it.
fn routes(count: usize) -> Vec<u8> {
    let route = |n: usize| {
        let (high, low) = (n / 256, n % 256);
        format!(r#"{{"route":{{"destination":"10.{high}.{low}.0/24","metric":{n}}}}},"#)
    };
    (0..count).map(route).collect::<String>().into_bytes()
}

fn samples() -> Vec<Vec<u8>> {
    // Frequencies that grow as Fibonacci's numbers make the deepest tree.
    let (mut one, mut other) = (1, 1);
    let mut deep = Vec::new();
    for byte in 0..24 {
        deep.extend(vec![byte; one]);
        (one, other) = (other, one + other);
    }
    let far = [noise(100), vec![b'x'; symbols::WINDOW - 100], noise(100), noise(40_000)].concat();
    vec![
        Vec::new(),
        b"a".to_vec(),
        b"abc".to_vec(),
        vec![b'a'; 258],
        vec![0; 1 << 20],
        (0..=255).collect(),
        noise(100_000),
        routes(20_000),
        deep,
        far,
    ]
}

#[test]
fn what_is_packed_is_unpacked_here_and_by_the_systems_gzip() {
    for sample in samples() {
        let packed = compress(&sample);
        assert!(is_gzip(&packed));
        assert!(decompress(&packed, sample.len()).unwrap() == sample, "{} bytes", sample.len());
        assert!(gzip("-d", &packed) == sample, "{} bytes", sample.len());
        // Not far from what others make of it.
        let other = gzip("-6", &sample).len();
        assert!(packed.len() <= other * 11 / 10 + 64, "{} and {other}", packed.len());
    }
}

#[test]
fn what_the_systems_gzip_packs_is_unpacked() {
    for sample in samples() {
        for level in ["-1", "-6", "-9"] {
            assert!(decompress(&gzip(level, &sample), MANY).unwrap() == sample, "{level}");
        }
    }
    // All that a header may have, with a stored and a fixed block.
    let fixed = [0x4b, 0x04, 0x00];
    let stored = [0x00, 0x01, 0x00, 0xfe, 0xff, b'a'];
    for block in [[&stored[..], &fixed].concat(), [&[0x00, 0, 0, 0xff, 0xff][..], &fixed].concat()]
    {
        let text: &[u8] = if block.len() == 9 { b"aa" } else { b"a" };
        let header = [0x1f, 0x8b, 8, 0b11110, 1, 2, 3, 4, 0, 255, 2, 0, b'x', 0];
        let fields = [b'n', 0, b'c', b'o', 0, 7, 7];
        let trailer = [crc32(text).to_le_bytes(), size(text).to_le_bytes()].concat();
        let packed = [&header[..], &fields, &block, &trailer].concat();
        assert_eq!(decompress(&packed, MANY).unwrap(), text);
    }
}

#[test]
fn several_files_are_one() {
    let packed = [compress(b"one, "), gzip("-6", b"two")].concat();
    assert_eq!(decompress(&packed, 8).unwrap(), b"one, two");
    let error = decompress(&packed, 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
}

#[test]
fn what_becomes_too_large_is_refused_at_the_limit() {
    let bomb = compress(&vec![0; 32 << 20]);
    assert!(bomb.len() < 40_000, "{}", bomb.len());
    let error = decompress(&bomb, 1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert_eq!(error.to_string(), "unpacked it has more than 1000 bytes, and may have that many");
}

#[test]
fn what_is_cut_off_damaged_or_longer_is_refused() {
    let text = routes(60);
    for packed in [compress(&text), gzip("-1", &text)] {
        for end in 0..packed.len() {
            assert!(decompress(&packed[..end], MANY).is_err(), "{end} of {}", packed.len());
        }
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut damaged = packed.clone();
                damaged[at] ^= 1 << bit;
                // A time, a system and a speed may be any, and so may what fills the last byte.
                let says_nothing = (at, bit) == (3, 0) || (4..10).contains(&at);
                let fills = at == packed.len() - 9;
                match decompress(&damaged, MANY) {
                    Ok(read) => assert!(read == text && (says_nothing || fills), "{at}, {bit}"),
                    Err(error) => assert!(!says_nothing, "{at}, {bit}: {error}"),
                }
            }
        }
        for rest in [&b"\0"[..], b"garbage", &[0x1f, 0x8b], &packed[..packed.len() - 1]] {
            assert!(decompress(&[&packed[..], rest].concat(), MANY).is_err(), "{rest:?}");
        }
    }
}

#[test]
fn codes_that_cannot_be_are_refused() {
    for (block, words) in [
        (&[0x06, 0, 0][..], "no known kind"),
        // Stored, and its length is not what it says twice.
        (&[0x01, 1, 0, 0, 0, b'a'], "no certain length"),
        // Dynamic: 31 and 32 more symbols than there are.
        (&[0xfd, 0xff, 0xff, 0xff, 0xff], "contradict"),
        // Dynamic: all codes for lengths are one bit long.
        (&[0x05, 0xe0, 0x93, 0x24, 0x49, 0x92, 0x24, 0x49, 0x92, 0x24], "contradict"),
        // Fixed: a copy before anything is there.
        (&[0x03, 0x02, 0x00], "before its beginning"),
        // Fixed: the distance of 30 means nothing.
        (&[0x4b, 0x04, 0x3e, 0x00], "means nothing"),
        (&[], "ends too early"),
    ] {
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let error = decompress(&[&header[..], block].concat(), MANY).unwrap_err().to_string();
        assert!(error.contains(words), "{block:x?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_packed_is_unpacked(
        words in vec((vec(any::<u8>(), 0..12), 0..40_usize), 0..60)
    ) {
        let bytes: Vec<u8> = words.iter().flat_map(|(word, times)| word.repeat(*times)).collect();
        let packed = compress(&bytes);
        prop_assert_eq!(decompress(&packed, bytes.len()).unwrap(), bytes.clone());
        if let Some(fewer) = bytes.len().checked_sub(1) {
            prop_assert!(decompress(&packed, fewer).is_err());
        }
    }

    #[test]
    fn nothing_that_is_damaged_passes_for_something_else(
        bytes in vec(0..4_u8, 0..600),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut packed = compress(&bytes);
        for (at, byte) in damage {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        if let Ok(read) = decompress(&packed, MANY) {
            prop_assert_eq!(read, bytes);
        }
    }

    #[test]
    fn whatever_comes_has_an_end(bytes in vec(any::<u8>(), 0..300), limit in 0..5000_usize) {
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        for packed in [bytes.clone(), [&header[..], &bytes].concat()] {
            if let Ok(read) = decompress(&packed, limit) {
                prop_assert!(read.len() <= limit);
            }
        }
    }
}
