// SPDX-License-Identifier: Apache-2.0
//! What strace notes of a program's netlink messages.

/// Which of the messages that were sent, counted from 1, begin a transaction of nf_tables
/// (`NFNL_MSG_BATCH_BEGIN`, which strace does not always know for what it is).
pub fn transactions(noted: &str) -> Vec<usize> {
    let is_one = |line: &str| line.contains("BATCH_BEGIN") || line.contains("nlmsg_type=0x10 ");
    let messages = (1..).zip(noted.lines().filter(|line| line.contains("sendto(")));
    messages.filter(|(_, line)| is_one(line)).map(|(count, _)| count).collect()
}
