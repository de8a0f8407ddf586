// SPDX-License-Identifier: Apache-2.0
//! Batches of which much is refused.

use nix::errno::Errno;

use crate::net::{Request, Socket, link, route::Route};

/// Several times as many as the receive buffer holds refusals of.
const MANY: u32 = 2000;

/// Routes whose next hop is not on the link.
fn refused(socket: &mut Socket) -> Vec<Request> {
    socket.apply(&[link::set_up("lo")]).unwrap();
    let index = link::by_name(socket, "lo").unwrap().unwrap().index;
    let to = |number: u32| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        let mut route = Route::new(std::net::IpAddr::from(address).into());
        route.gateway = Some([192, 0, 2, 1].into());
        route.create(index)
    };
    (0..MANY).map(to).collect()
}

#[test]
fn each_of_many_refusals_is_told() {
    let mut socket = Socket::open().unwrap();
    let requests = refused(&mut socket);
    let failures = socket.apply_all(&requests);
    let told: Vec<usize> = failures.iter().map(|failed| failed.at).collect();
    assert_eq!(told, (0..requests.len()).collect::<Vec<_>>());
    for (failed, request) in failures.iter().zip(&requests) {
        assert_eq!(failed.error.errno, Errno::ENETUNREACH, "{failed:?}");
        assert_eq!(failed.error.what, request.what());
        assert_eq!(failed.error.words.as_deref(), Some("Nexthop has invalid gateway"));
    }
}

/// What does not fit is lost, the reason is not, and the socket goes on.
#[test]
fn a_socket_that_overran_tells_the_reason_and_serves_on() {
    let mut socket = Socket::open().unwrap();
    let requests = refused(&mut socket);
    for _ in 0..2 {
        let error = socket.apply(&requests).unwrap_err();
        assert_eq!(error.errno, Errno::ENETUNREACH, "{error}");
    }
    assert!(link::by_name(&mut socket, "lo").unwrap().is_some());
}
