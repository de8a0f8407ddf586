// SPDX-License-Identifier: Apache-2.0
use serde_json::json;

use super::*;
use crate::{
    cni::{Document, Version, cidr},
    object,
    pod::{Attachment, Identity, Side},
};

const DEFAULT: &str = "0.0.0.0/0";
const NEXT_HOP: &str = "169.254.1.1/32";

/// The pod's side of a second interface whose addresses, routes of IPAM, and
/// destinations taken are these.
fn second(addresses: &[&str], given: &[cni::Route], taken: &[&str]) -> (Side, Vec<cni::Route>) {
    beside(addresses, given, taken, Some(10_901), None)
}

fn beside(
    addresses: &[&str],
    given: &[cni::Route],
    taken: &[&str],
    table: Option<u32>,
    remote: Option<Remote<'_>>,
) -> (Side, Vec<cni::Route>) {
    let conf = json!({"name": "net", "type": "manx", "ipam": {"type": "host-local"}});
    let document = Document::parse(conf.to_string().into_bytes()).unwrap();
    let (config, _) = Config::read(&document, Version::NEWEST);
    let identity = Identity {
        network: "net".into(),
        container_id: "c1".into(),
        ifname: "net1".into(),
        pod: None,
    };
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let taken = taken.iter().map(|text| cidr::parse(text).unwrap()).collect();
    let wanted = Attachment::describe(&Spec {
        identity: &identity,
        host_link: "calic1",
        config: &config,
        addresses: &addresses,
        routes: given,
        mtu: 1500,
        mac: None,
        facts: &PodFacts { attached_before: true, taken, table, leftovers: Vec::new() },
        remote,
    });
    (wanted.pod_side, wanted.routes)
}

fn routes(side: &Side) -> impl Iterator<Item = &Route> {
    side.objects.routes.iter().map(object::Route::plain)
}

fn lines(side: &Side) -> Vec<String> {
    routes(side).map(Route::to_string).collect()
}

fn route(dst: &str) -> cni::Route {
    cni::Route::new(cidr::parse(dst).unwrap(), None)
}

#[test]
fn a_second_interface_stands_behind_the_first_and_has_its_own_table() {
    let (side, told) = second(&["10.1.0.5"], &[], &[DEFAULT, NEXT_HOP]);
    assert_eq!(
        lines(&side),
        [
            "169.254.1.1/32 metric 10901",
            "0.0.0.0/0 via 169.254.1.1 metric 10901",
            "169.254.1.1/32 table 10901",
            "0.0.0.0/0 via 169.254.1.1 table 10901",
        ]
    );
    let rules: Vec<_> = side.objects.rules.iter().map(Rule::to_string).collect();
    assert_eq!(rules, ["10900: from 10.1.0.5/32 lookup 10901"]);
    assert!(side.objects.rules.iter().all(is_ours));
    let told: Vec<_> = told.iter().map(|route| (route.dst.prefix(), route.priority)).collect();
    assert_eq!(told, [(0, Some(10_901))]);
}

#[test]
fn the_family_that_nobody_else_has_gets_plain_routes() {
    let (side, _) = second(&["10.1.0.5", "fd00::5"], &[], &[DEFAULT, NEXT_HOP]);
    let lines = lines(&side);
    assert!(lines.contains(&"::/0 via fe80::ecee:eeff:feee:eeee".to_owned()), "{lines:?}");
    let own = "::/0 via fe80::ecee:eeff:feee:eeee table 10901";
    assert!(lines.contains(&own.to_owned()), "{lines:?}");
    assert_eq!(side.objects.rules.len(), 2);
    // Beside another plugin's interface, whose next hop is not ours.
    let (side, _) = second(&["10.1.0.5"], &[], &[DEFAULT, "10.9.0.0/24"]);
    assert_eq!(routes(&side).next().unwrap().to_string(), "169.254.1.1/32");
}

#[test]
fn only_what_another_interface_has_a_route_to_gets_a_metric() {
    let mut given = vec![route("10.0.0.0/8"), route("10.9.0.7/16"), route("172.16.0.0/12")];
    given[2].priority = Some(7);
    let (side, told) =
        second(&["10.1.0.5"], &given, &[DEFAULT, NEXT_HOP, "10.9.0.0/16", "172.16.0.0/12"]);
    let metrics: Vec<_> = told.iter().map(|route| route.priority).collect();
    assert_eq!(metrics, [None, Some(10_901), Some(7)]);
    let own: Vec<_> =
        routes(&side).filter(|route| route.table == 10_901).map(Route::to_string).collect();
    assert_eq!(
        own,
        [
            "169.254.1.1/32 table 10901",
            "10.0.0.0/8 via 169.254.1.1 table 10901",
            "10.9.0.0/16 via 169.254.1.1 table 10901",
            "172.16.0.0/12 via 169.254.1.1 table 10901",
            "0.0.0.0/0 via 169.254.1.1 table 10901",
        ]
    );
}

#[test]
fn routes_of_a_table_that_ipam_named_stay_there() {
    let given = [cni::Route { table: Some(200), ..route(DEFAULT) }];
    let (side, told) = second(&["10.1.0.5"], &given, &[DEFAULT, NEXT_HOP]);
    assert_eq!(told[0].priority, None);
    let lines = lines(&side);
    assert!(lines.contains(&"0.0.0.0/0 via 169.254.1.1 table 200".to_owned()), "{lines:?}");
    assert!(lines.contains(&"0.0.0.0/0 via 169.254.1.1 table 10901".to_owned()), "{lines:?}");
}

#[test]
fn in_route_mode_the_own_table_carries_the_mtu() {
    let cluster = ["10.1.0.0/24", "10.2.0.0/24"].map(|text| cidr::parse(text).unwrap());
    let remote = Remote { mtu: 1450, cluster: &cluster, own: &cluster[..1] };
    let taken = [DEFAULT, NEXT_HOP];
    let (side, told) = beside(&["10.1.0.5"], &[], &taken, Some(10_901), Some(remote));
    assert_eq!(told.len(), 1, "another interface leads there: {told:?}");
    let narrow: Vec<_> = routes(&side).filter(|route| route.mtu == Some(1450)).collect();
    assert_eq!(narrow.len(), 1);
    assert_eq!(
        (narrow[0].destination, narrow[0].table, narrow[0].advmss),
        (cluster[1], 10_901, Some(1410))
    );
}

/// What an older manx made beside another interface.
#[test]
fn without_a_table_nothing_stands_beside_what_is_taken() {
    let (side, told) = beside(&["10.1.0.5"], &[], &[DEFAULT, NEXT_HOP], None, None);
    assert_eq!((lines(&side).len(), side.objects.rules.len(), told.len()), (0, 0, 0));
}

fn found(route: Route) -> Found {
    Found::new(route, vec![2])
}

#[test]
fn a_table_is_free_where_nobody_uses_its_number() {
    assert_eq!(free_table(&[], &[]), 10_901);
    let network = cidr::parse("10.0.0.0/8").unwrap();
    let table = found(Route { table: 10_902, ..Route::new(network) });
    let metric = found(Route { priority: Some(10_903), ..Route::new(network) });
    let rules = rules(Some(10_901), &["10.1.0.5".parse().unwrap()]);
    assert_eq!(free_table(&rules, &[table, metric]), 10_904);
}

#[test]
fn a_rule_is_left_over_without_its_address_and_its_table() {
    let [gone, alive, moved]: [IpAddr; 3] =
        ["10.1.0.5", "10.1.0.6", "10.1.0.7"].map(|text| text.parse().unwrap());
    let mut all = rules(Some(10_901), &[gone]);
    all.extend(rules(Some(10_902), &[alive]));
    all.extend(rules(Some(10_903), &[moved]));
    all.push(Rule { protocol: 3, ..all[0] });
    let in_use = found(Route { table: 10_903, ..Route::new(cidr::parse(DEFAULT).unwrap()) });
    assert_eq!(leftovers(&all, &[in_use], &[alive]), rules(Some(10_901), &[gone]));
}
