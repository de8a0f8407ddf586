// SPDX-License-Identifier: Apache-2.0
//! What other plugins print: results, of a delegate and in prevResult, and errors.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::cni::{AddResult, Error, Version, delegate};
use manx_fuzz::within;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    within((64 << 10) + 512 * data.len(), || delegate::fuzzing::printed(data));
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if let Some(error) = Error::decode(&value) {
        assert_eq!(Error::decode(&error.encode(Version::V1_1_0)), Some(error));
    }
    for version in [Version::UNSTATED, Version::V0_3_0, Version::V1_0_0, Version::V1_1_0] {
        let Ok(result) = AddResult::decode(&value, version) else { continue };
        let count = result.interfaces.len();
        assert!(result.ips.iter().all(|ip| ip.interface.is_none_or(|index| index < count)));
        let Ok(written) = result.encode(Version::V1_1_0) else { continue };
        let again = AddResult::decode(&written, version).unwrap();
        // Text of a hardware address is written in small letters.
        let once = again.encode(Version::V1_1_0).unwrap();
        assert_eq!(once, written);
        assert_eq!(
            (&again.ips, &again.routes, &again.dns),
            (&result.ips, &result.routes, &result.dns)
        );
        for older in [Version::V0_3_0, Version::V1_0_0] {
            let Ok(written) = result.encode(older) else { continue };
            let again = AddResult::decode(&written, older).unwrap();
            assert_eq!(again.ips, result.ips);
        }
    }
});
