// SPDX-License-Identifier: Apache-2.0
//! Elements of our own sets as nf_tables tells them. The first byte chooses the set.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((set, object)) = manx_fuzz::chosen(data) {
        manx::nft::policy::fuzzing::elements(set, object);
    }
});
