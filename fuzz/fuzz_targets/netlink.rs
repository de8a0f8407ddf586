// SPDX-License-Identifier: Apache-2.0
//! Messages and attributes of netlink, refusals, and connections of conntrack.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    manx_fuzz::within((16 << 10) + 256 * data.len(), || {
        manx::netlink::fuzzing::datagram(data);
        manx::net::fuzzing::connection(data);
    });
});
