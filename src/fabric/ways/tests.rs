// SPDX-License-Identifier: Apache-2.0
//! What shows that routes are lost.

use super::*;
use crate::net::route::Route;

fn found(destination: &str, device: u32) -> Found {
    Found::new(Route::new(destination.parse().unwrap()), vec![device])
}

#[test]
fn a_route_that_is_lost_shows() {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let way = found("0.0.0.0/0", 2);
    let mut ways = Ways::through([], Some((address("192.0.2.2"), &way)));
    ways.sentinels = vec![
        Sentinel::of(address("10.2.0.129"), "10.2.0.0/24".parse().unwrap()),
        Sentinel::without(address("198.51.100.3")),
        Sentinel::of(address("fd00:2::1"), "fd00:2::/64".parse().unwrap()),
    ];
    let whole = || vec![way.clone(), found("10.2.0.0/24", 2), found("fd00:2::/64", 2)];
    assert!(ways.agree(&[], &whole()));
    // Packets to the pods take the default route, or none.
    let (mut default, mut fewer, mut more) = (whole(), whole(), whole());
    default[1] = way.clone();
    fewer.pop();
    more.insert(2, way.clone());
    for (what, routes) in [("default", default), ("lost", fewer), ("found", more)] {
        assert!(!ways.agree(&[], &routes), "{what}");
    }
}
