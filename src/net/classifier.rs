// SPDX-License-Identifier: Apache-2.0
//! Programs of eBPF that decide about the packets of a link: classifiers of tc, by name.

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use super::{Answer, Error, Reading, Request, Socket};
use crate::list::PushAll;
use crate::netlink::attribute::{find, string};

/// Types of messages (include/uapi/linux/rtnetlink.h) and of attributes (pkt_cls.h).
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// `struct tcmsg`.
const HEADER_BYTES: usize = 20;
/// Where they are: what the link receives, and what it sends (`TC_H_MAKE(TC_H_CLSACT, …)`).
const PLACES: [u32; 2] = [0xffff_fff2, 0xffff_fff3];

/// The names of a link's programs; none where the kernel knows no classifiers, or where the
/// link is gone.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn names(socket: &mut Socket, index: u32) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for place in PLACES {
        let mut header = vec![0; HEADER_BYTES];
        header.splice(4..8, index.to_ne_bytes());
        header.splice(12..16, place.to_ne_bytes());
        let request = Request::question(RTM_GETTFILTER, NLM_F_DUMP, header, "list classifiers");
        match socket.dump(&request, read) {
            Ok(found) => names.push_all(found),
            Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// A program that was compiled for the older form of filters has no name.
pub(super) fn read(answer: &Answer<'_>) -> Reading<String> {
    if answer.kind != RTM_NEWTFILTER {
        return Ok(None);
    }
    for attribute in answer.attributes(HEADER_BYTES) {
        let (kind, value) = attribute?;
        if kind == TCA_OPTIONS {
            return Ok(find(value, TCA_BPF_NAME).map(string));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a kernel (6.18) tells it of a program that was attached by its pin: first the chain.
    #[test]
    fn a_program_is_told_by_its_name() {
        let of_chain = b"\0\0\0\0\x03\0\0\0\0\0\0\0\xf2\xff\xff\xff\0\x03\0\xc0\
            \x08\0\x01\0bpf\0\x08\0\x0b\0\0\0\0\0";
        let of_program = b"\0\0\0\0\x03\0\0\0\x01\0\0\0\xf2\xff\xff\xff\0\x03\0\xc0\
            \x08\0\x01\0bpf\0\x08\0\x0b\0\0\0\0\0\x48\0\x02\0\
            \x1e\0\x07\0cali_tc_preamble:[*fsobj]\0\0\0\x08\0\x0b\0\x61\0\0\0\
            \x0c\0\x0a\0\x59\xf4\xa9\x31\x74\x4d\xcd\xc6\x08\0\x08\0\x01\0\0\0\x08\0\x09\0\x08\0\0\0";
        let told = |body| read(&Answer { kind: RTM_NEWTFILTER, flags: 2, sequence: 1, body });
        assert_eq!(told(of_chain).unwrap(), None);
        let name = told(of_program).unwrap();
        assert_eq!(name.as_deref(), Some("cali_tc_preamble:[*fsobj]"));
    }
}
