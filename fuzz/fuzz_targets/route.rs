// SPDX-License-Identifier: Apache-2.0
//! Replies of netlink route: links, addresses, routes, rules, neighbours and their like.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    manx_fuzz::within((16 << 10) + 256 * data.len(), || manx::net::fuzzing::answers(data));
});
