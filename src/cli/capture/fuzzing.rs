// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{places::Carrier, unpack::unpack};

/// A capture: what is unpacked is one again, and no longer.
pub fn packets(bytes: &[u8]) {
    for carrier in [Carrier::Vxlan { port: 4789 }, Carrier::Ipip] {
        let mut inner = Vec::new();
        let done = unpack(carrier, bytes, &mut inner);
        assert!(inner.len() <= bytes.len());
        if done.is_ok() {
            assert_eq!(inner.get(..4), bytes.get(..4));
            unpack(carrier, inner.as_slice(), &mut Vec::new()).unwrap();
        }
    }
}
