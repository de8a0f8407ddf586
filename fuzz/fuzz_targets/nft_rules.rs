// SPDX-License-Identifier: Apache-2.0
//! Rules, chains and sets of others as nf_tables tells them, and rules in the place of ours.

#![no_main]

use manx::nft;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Objects by their lengths, of two bytes each.
    let (mut objects, mut rest) = (Vec::new(), data);
    while let [low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        objects.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    if objects.len() <= 16 {
        nft::forward::fuzzing::objects(&objects);
    }
    nft::fuzzing::objects(data);
});
