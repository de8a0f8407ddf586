// SPDX-License-Identifier: Apache-2.0
//! Which routes and rules are in question, and what the kernel's answers mean.

use super::*;
use crate::net::route;

const OURS: u8 = 109;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to_peer(destination: &str, gateway: &str) -> Route {
    let route = route::Route {
        protocol: OURS,
        gateway: Some(ip(gateway)),
        onlink: true,
        ..route::Route::new(destination.parse().unwrap())
    };
    Route::through("eth0", route)
}

fn found(destination: &str, gateway: &str, device: u32) -> Found {
    let mut route = route::Route::new(destination.parse().unwrap());
    route.gateway = Some(ip(gateway));
    Found::new(route, vec![device])
}

fn held(route: &Route, protocol: u8) -> HeldRoute {
    let plain = route::Route { protocol, ..route.plain().clone() };
    HeldRoute {
        found: Found::new(plain, vec![2]),
        device: Some("eth0".into()),
        ours: protocol == OURS,
        on_host_link: false,
    }
}

fn asked(wanted: &[Route], routes: &[HeldRoute], rules: bool) -> Vec<Question> {
    let wanted: Vec<&Route> = wanted.iter().collect();
    questions(&wanted, routes, rules)
}

fn indexes() -> HashMap<String, u32> {
    HashMap::from([("eth0".to_owned(), 2), ("wg0".to_owned(), 9)])
}

#[test]
fn a_longer_prefix_of_somebody_else_is_in_question() {
    let wanted = [to_peer("10.2.0.0/24", "192.0.2.2"), to_peer("10.3.0.0/24", "192.0.2.3")];
    let inside = held(&to_peer("10.2.0.128/25", "192.0.2.9"), 4);
    let mut others = vec![
        held(&wanted[0], OURS),
        held(&wanted[1], OURS),
        held(&to_peer("10.2.0.0/16", "192.0.2.9"), 4),
        held(&to_peer("10.4.0.0/25", "192.0.2.9"), 4),
        held(&to_peer("10.3.0.0/25", "192.0.2.9"), OURS),
    ];
    assert_eq!(asked(&wanted, &others, false), []);
    let mut tos = inside.clone();
    tos.found.route.tos = 16;
    let of_pod = HeldRoute { on_host_link: true, ..inside.clone() };
    others.extend([tos, of_pod]);
    assert_eq!(asked(&wanted, &others, false), []);
    others.push(inside.clone());
    let questions = asked(&wanted, &others, false);
    assert_eq!(questions.len(), 1);
    assert!(inside.destination().contains(questions[0].address), "{questions:?}");
    // A rule may be about any peer, and about the rest of this one.
    let questions = asked(&wanted, &others, true);
    assert_eq!(questions.len(), 3);
    let rest =
        questions.iter().filter(|question| wanted[0].destination().contains(question.address));
    assert_eq!(rest.filter(|one| !inside.destination().contains(one.address)).count(), 1);
}

#[test]
fn what_is_still_to_be_made_is_not_asked_of_rules() {
    let wanted = [to_peer("10.2.0.0/24", "192.0.2.2")];
    let old = held(&to_peer("10.2.0.0/24", "192.0.2.7"), OURS);
    assert_eq!(asked(&wanted, &[], true), []);
    assert_eq!(asked(&wanted, &[old], true), []);
}

#[test]
fn only_what_leads_elsewhere_diverts() {
    let wanted = [to_peer("10.2.0.0/24", "192.0.2.2")];
    let inside = held(&to_peer("10.2.0.128/25", "192.0.2.9"), 4);
    let routes = [held(&wanted[0], OURS), inside];
    let questions = || asked(&wanted, &routes, true);
    assert_eq!(questions().len(), 2);
    let right = || Some(found("10.2.0.200/32", "192.0.2.2", 2));
    let told = |answers: Option<Vec<Option<Found>>>| -> Vec<String> {
        judge(questions(), answers, &indexes()).into_iter().map(|one| one.by).collect()
    };
    assert_eq!(told(Some(vec![right(), right()])), [""; 0]);
    let elsewhere = found("10.2.0.200/32", "192.0.2.9", 2);
    assert_eq!(told(Some(vec![Some(elsewhere.clone()), right()])).len(), 1);
    // The way is another one by its device alone, too.
    let mut by_table = found("10.2.0.65/32", "192.0.2.2", 9);
    by_table.route.table = 100;
    let rule = told(Some(vec![right(), Some(by_table)]));
    assert!(rule[0].ends_with(" via 192.0.2.2 dev wg0 table 100"), "{rule:?}");
    let nowhere = told(Some(vec![right(), None]));
    assert!(nowhere[0].ends_with("leads nowhere"), "{nowhere:?}");
    // Where the kernel does not answer, a longer prefix speaks for itself.
    let unasked = told(None);
    assert!(unasked.len() == 1 && unasked[0].starts_with("10.2.0.128/25"), "{unasked:?}");
}

#[test]
fn the_kernels_own_rules_are_nobodys() {
    let rule =
        |priority, table, source: &str| Rule::new(source.parse().unwrap(), table, priority, 2);
    for (priority, table, source, somebodys) in [
        (0, 255, "0.0.0.0/0", false),
        (32_766, 254, "::/0", false),
        (32_767, 253, "0.0.0.0/0", false),
        (100, 254, "0.0.0.0/0", true),
        (32_766, 100, "0.0.0.0/0", true),
        (32_766, 254, "10.1.0.0/24", true),
    ] {
        assert_eq!(is_of_somebody(&rule(priority, table, source)), somebodys, "{priority}");
    }
}

#[test]
fn an_address_of_a_network_is_one_of_its_hosts() {
    for network in ["10.2.0.0/24", "10.2.0.4/30", "10.2.0.4/31", "10.2.0.4/32", "0.0.0.0/0"]
        .into_iter()
        .chain(["fd00:2::/64", "fd00:2::/127", "fd00:2::5/128", "::/0"])
    {
        let network: IpNetwork = network.parse().unwrap();
        let address = address_in(&network, &[]);
        assert!(network.contains(address), "{network} {address}");
        if network.is_ipv4() && network.prefix() < 31 {
            assert!(address != network.network() && address != network.broadcast(), "{address}");
        }
    }
    let network = "10.2.0.0/24".parse().unwrap();
    for but in [&["10.2.0.128/25"][..], &["10.2.0.0/25"], &["10.2.0.64/26", "10.2.0.128/25"]] {
        let but: Vec<IpNetwork> = but.iter().map(|text| text.parse().unwrap()).collect();
        let address = address_in(&network, &but);
        assert!(!but.iter().any(|part| part.contains(address)), "{but:?} {address}");
    }
}
