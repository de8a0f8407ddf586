// SPDX-License-Identifier: Apache-2.0
//! What iptables-save and nft print.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    manx::nft::forward::fuzzing::saved(&text);
    manx::cli::fuzzing::left(&text);
});
