// SPDX-License-Identifier: Apache-2.0
//! What counts as a message, and what as a change.

use std::time::Duration;

use crate::strace::{batch_times, read};

fn counted(types: &str) -> (usize, usize) {
    let messages: Vec<String> = types
        .split(' ')
        .map(|kind| format!("{{nlmsg_len=20, nlmsg_type={kind} /* NLMSG_??? */, nlmsg_seq=1}}"))
        .collect();
    let counts = read(&format!("12  sendto(5, [{}], 40, 0) = 40\n", messages.join(", ")));
    (counts.netlink_messages, counts.netlink_changes)
}

#[test]
fn questions_and_frames_of_a_batch_are_no_changes() {
    for (types, changes) in [
        ("RTM_GETROUTE RTM_NEWROUTE RTM_DELROUTE", 2),
        // Links: new, delete, get, set. A route, a neighbour, a next-hop object.
        ("0x10 0x11 0x12 0x13 0x18 0x1a 0x1c 0x1e 0x68 0x6a", 6),
        // NLMSG_DONE, NLMSG_NOOP.
        ("0x3 0x1", 0),
        // The generation; a table, chain, rule, set, element, object and flow table.
        ("0xa10 0xa01 0xa04 0xa07 0xa0a 0xa0d 0xa13 0xa17", 0),
        // With a reset: an object, a rule, an element.
        ("0xa15 0xa19 0xa21", 0),
        // A batch that deletes and makes an element.
        ("0x10 0xa0e 0xa0c 0x11", 2),
        ("0x10 0xa00 0xa03 0xa06 0xa09 0xa0c 0xa12 0xa16 0x11", 7),
        ("0x10 0xa02 0xa05 0xa08 0xa0b 0xa0e 0xa14 0xa18 0xa1a 0x11", 8),
        ("0x10 NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_DELSETELEM 0x11", 1),
        (
            "NFNL_MSG_BATCH_BEGIN NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_DELSETELEM \
             NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_NEWSETELEM NFNL_MSG_BATCH_END",
            2,
        ),
        ("NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETSETELEM NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETGEN", 0),
        // What iptables-nft asks of an extension; connections: new, get, delete.
        ("0xb00", 0),
        ("0x100 0x101 0x102", 2),
    ] {
        assert_eq!(counted(types), (types.split(' ').count(), changes), "{types}");
    }
}

#[test]
fn only_what_is_sent_counts() {
    let trace = "7 socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 3\n\
                 7 recvfrom(3, [{nlmsg_len=20, nlmsg_type=RTM_NEWLINK}], 40, 0) = 40\n\
                 7 <... sendto resumed>) = 20\n\
                 7 execve(\"/a\", [\"a\"], 0x1) = 0\n";
    let counts = read(trace);
    assert_eq!((counts.netlink_messages, counts.netlink_changes), (0, 0));
    assert_eq!((counts.system_calls, counts.processes), (3, 1));
}

/// What asks is no change, be it in the same call's format; of another namespace's socket a type
/// is a number.
#[test]
fn only_calls_that_send_a_batch_are_timed() {
    let trace = "\
7  sendto(3, [{nlmsg_len=20, nlmsg_type=NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETGEN, nlmsg_seq=0}], 20) = 20 <0.000010>
7  sendmsg(3, {msg_iov=[{iov_base=[[{nlmsg_len=20, nlmsg_type=NFNL_MSG_BATCH_BEGIN, nlmsg_seq=0}]]}]}, 0) = 96 <0.000120>
8  sendto(3, [{nlmsg_len=20, nlmsg_type=0x10 /* NLMSG_??? */, nlmsg_seq=0}], 20) = 20 <0.000300>
8  sendto(3, [{nlmsg_len=20, nlmsg_type=0x1001 /* NLMSG_??? */, nlmsg_seq=0}], 20) = 20 <0.000500>
";
    assert_eq!(batch_times(trace), [120, 300].map(Duration::from_micros));
}
