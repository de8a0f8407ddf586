// SPDX-License-Identifier: Apache-2.0
//! gzip: what is packed is unpacked, what is cut off is refused, and a limit holds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::state::gzip::{compress, decompress};
use manx_fuzz::within;

const LIMIT: usize = 64 << 10;

fuzz_target!(|data: &[u8]| {
    // A vector that grows is held twice.
    let read = within(4 * LIMIT, || decompress(data, LIMIT));
    if let Ok(unpacked) = &read {
        assert!(unpacked.len() <= LIMIT);
        assert!(decompress(&data[..data.len() - 1], LIMIT).is_err(), "what is cut off");
        assert_eq!(decompress(&compress(unpacked), LIMIT).unwrap(), *unpacked);
    }
    let packed = compress(data);
    assert_eq!(decompress(&packed, data.len()).unwrap(), data);
    if !data.is_empty() {
        assert!(decompress(&packed, data.len() - 1).is_err(), "more than the limit");
        let cut = usize::from(data[0]) % packed.len();
        assert!(decompress(&packed[..cut], LIMIT).is_err(), "cut at {cut}");
    }
});
