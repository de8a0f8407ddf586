// SPDX-License-Identifier: Apache-2.0
//! Packets: captures that are unpacked, and answers of ICMP.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    manx::cli::fuzzing::packets(data);
    manx::net::fuzzing::icmp(data);
});
