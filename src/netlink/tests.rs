// SPDX-License-Identifier: Apache-2.0
//! Sockets of all protocols, beside this kernel.

use std::{collections::BTreeMap, thread};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLMSG_ERROR, NLMSG_NOOP};
use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::{
    errno::Errno,
    libc::{IFLA_IFNAME, RTM_GETLINK, RTM_NEWLINK},
    sched::{CloneFlags, unshare},
};

use super::{
    attribute::{Attribute, find, string},
    *,
};

/// The family that knows the others (include/uapi/linux/genetlink.h): its number, its
/// question, and the attributes of a family.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`.
const GENERIC_HEADER: [u8; 4] = [CTRL_CMD_GETFAMILY, 1, 0, 0];
/// `struct ifinfomsg`.
const LINK_HEADER: [u8; 16] = [0; 16];

fn family(name: &str) -> Request {
    let mut body = Vec::from(GENERIC_HEADER);
    Attribute::string(CTRL_ATTR_FAMILY_NAME, name).emit(&mut body);
    Request::question(CONTROLLER, 0, body, format!("look up family {name}"))
}

fn families() -> Request {
    Request::question(CONTROLLER, NLM_F_DUMP, GENERIC_HEADER.into(), "list families")
}

fn name_and_number(answer: &Answer<'_>) -> Reading<(String, u16)> {
    let attributes = answer.attributes(GENERIC_HEADER.len()).0;
    let number = find(attributes, CTRL_ATTR_FAMILY_ID).and_then(|it| it.try_into().ok());
    let name = find(attributes, CTRL_ATTR_FAMILY_NAME).map(string);
    Ok(name.zip(number.map(u16::from_ne_bytes)))
}

/// In a namespace of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    };
    thread::spawn(run).join().unwrap();
}

#[test]
fn families_of_generic_netlink_are_listed_and_looked_up() {
    alone(|| {
        let mut socket = Socket::<Generic>::open().unwrap();
        let listed: BTreeMap<String, u16> =
            socket.dump(&families(), name_and_number).unwrap().into_iter().collect();
        assert_eq!(listed.get("nlctrl"), Some(&CONTROLLER), "{listed:?}");
        let names: Vec<&String> = listed.keys().collect();
        let questions: Vec<Request> = names.iter().map(|name| family(name)).collect();
        let found = socket.exchange(&questions, name_and_number).unwrap();
        assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), listed);
        let unknown = [family("nlctrl"), family("nobody"), family("nlctrl")];
        let error = socket.exchange(&unknown, name_and_number).unwrap_err();
        assert_eq!(error, Error::new("look up family nobody", Errno::ENOENT));
        let tolerated = unknown.map(|question| question.tolerate(Errno::ENOENT));
        let mut places = Vec::new();
        let whole = socket.ask(&tolerated, &mut |place, _| {
            places.push(place);
            Ok(())
        });
        assert_eq!((whole, places), (Ok(true), vec![0, 2]));
    });
}

#[test]
fn the_head_of_a_dump_is_not_all_of_it() {
    alone(|| {
        let count = |enough| {
            let mut objects = 0;
            let outcome = Socket::<Generic>::head(&families(), enough, &mut |_, _| {
                objects += 1;
                Ok(())
            });
            outcome.map(|()| objects)
        };
        let all = count(usize::MAX).unwrap();
        assert!((1..=all).contains(&count(1).unwrap()));
        assert_eq!(count(all + 1), Ok(all));
    });
}

/// At once, and the next answer is that to the next question.
#[test]
fn a_question_without_an_answer_is_an_error() {
    alone(|| {
        let mut socket = Socket::<Route>::open().unwrap();
        let unanswered = Request::question(NLMSG_NOOP, 0, Vec::new(), "do nothing");
        let links = Request::question(RTM_GETLINK, NLM_F_DUMP, LINK_HEADER.into(), "list links");
        let read = |answer: &Answer<'_>| Ok(Some(answer.kind));
        for questions in [vec![unanswered.clone()], vec![unanswered, links.clone()]] {
            let error = socket.exchange(&questions, read).unwrap_err();
            let what = questions.last().unwrap().what();
            let text = format!("{what}: No data available: the kernel gave no answer");
            assert_eq!(error.to_string(), text);
            assert_eq!(socket.dump(&links, read), Ok(vec![RTM_NEWLINK]));
        }
    });
}

/// One that repeats all of what it refuses would not fit into the buffer from which that
/// was sent.
#[test]
fn a_refusal_of_much_has_its_words() {
    alone(|| {
        let mut body = Vec::from(LINK_HEADER);
        Attribute::bytes(IFLA_IFNAME, vec![b'n'; 65_484]).emit(&mut body);
        let create = Request::change(RTM_NEWLINK, NLM_F_CREATE, body, "create a link");
        let error = Socket::<Route>::open().unwrap().apply(&[create]).unwrap_err();
        assert_eq!(error.errno, Errno::ERANGE, "{error}");
        assert!(error.words.is_some(), "{error:?}");
    });
}

/// A pod may have CAP_NET_ADMIN in its namespace, and with it send to any socket there.
#[test]
fn messages_of_other_processes_are_ignored() {
    alone(|| {
        let mut socket = Socket::<Generic>::open().unwrap();
        let ask =
            |socket: &mut Socket<Generic>| socket.exchange(&[family("nlctrl")], name_and_number);
        let found = ask(&mut socket).unwrap();
        let mut address = SocketAddr::new(0, 0);
        socket.channel.raw.get_address(&mut address).unwrap();
        let stranger = RawSocket::new(NETLINK_GENERIC).unwrap();
        for sequence in 0..4 {
            let refusal = (-(Errno::EPERM as i32)).to_ne_bytes();
            let mut forged = Vec::new();
            let body = [&refusal[..], &[0; 16]].concat();
            Request::change(NLMSG_ERROR, 0, body, "forge").emit(sequence, 0, &mut forged);
            stranger.send_to(&forged, &address, 0).unwrap();
        }
        assert_eq!(ask(&mut socket), Ok(found));
    });
}
