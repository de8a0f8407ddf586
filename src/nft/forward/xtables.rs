// SPDX-License-Identifier: Apache-2.0
//! Matches and targets of iptables' own, as nf_tables has them.

use super::{
    Test, Verdict,
    state::{native_bytes, state},
};
use crate::{
    netlink::attribute::{find, number, string},
    nft::abi::*,
};

/// Where `struct xt_conntrack_mtinfo3` has match_flags, invert_flags and
/// state_mask, and the bit of the state among the flags
/// (include/uapi/linux/netfilter/xt_conntrack.h).
const XT_CONNTRACK_FLAGS: usize = 146;
const XT_CONNTRACK_STATE: u16 = 1;

/// A match of iptables'; `None` for one that always holds.
pub(super) fn xt_match(data: &[u8]) -> Option<Test> {
    let info = find(data, NFTA_MATCH_INFO).unwrap_or_default();
    let short = |at: usize| {
        let bytes = info.get(at..at + 2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    };
    let revision = find(data, NFTA_MATCH_REV).and_then(number);
    match (find(data, NFTA_MATCH_NAME).map(string).as_deref(), revision) {
        (Some("comment"), _) => None,
        // `struct xt_mark_mtinfo1`: mark, mask, invert.
        (Some("mark"), Some(1)) => {
            Some(match (info.get(..4).and_then(native_bytes), info.get(8)) {
                (Some(mark), Some(invert)) => Test::Mark { holds: (mark == 0) != (*invert != 0) },
                _ => Test::Unknown,
            })
        }
        (Some("conntrack"), Some(3)) => {
            let at = XT_CONNTRACK_FLAGS;
            let fields = (short(at), short(at + 2), short(at + 4));
            let (Some(XT_CONNTRACK_STATE), Some(inverted), Some(states)) = fields else {
                return Some(Test::Unknown);
            };
            let inverted = inverted & XT_CONNTRACK_STATE != 0;
            Some(state(|bit| (u32::from(states) & bit != 0) != inverted))
        }
        _ => Some(Test::Unknown),
    }
}

/// A target of iptables' that is no chain; `None` where somebody else decides.
pub(super) fn xt_target(name: &str) -> Option<Verdict> {
    match name {
        "REJECT" | "DROP" => Some(Verdict::Drop),
        "QUEUE" | "NFQUEUE" => None,
        "MARK" | "CONNMARK" => Some(Verdict::Mark),
        _ => Some(Verdict::Continue),
    }
}
