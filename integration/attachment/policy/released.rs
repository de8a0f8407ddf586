// SPDX-License-Identifier: Apache-2.0
//! What a pod leaves where its release is in the way of something: policies that are being
//! applied, a note that is lost, a table that is made again.

use std::fs;
use std::thread;

use serde_json::json;

use super::{OPEN, addresses, apply, are, classes, enforcing, is_under_policy, known, only, pod};
use crate::harness::Reply;
use crate::network::{Network, host_link};

/// One with two addresses.
fn narrow() -> Network {
    let network = enforcing();
    let leases = network.host().scratch().dir("leases").display().to_string();
    network.ipam(json!({"type": "manx-ipam", "dataDir": leases, "ranges": [
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.8", "rangeEnd": "10.1.0.9"}]]}))
}

fn table(network: &Network) -> String {
    network.host().command("nft", &["list", "table", "inet", "manx.policy"]).ok()
}

/// While policies are applied for longer than a release waits, nobody gets the address of a pod
/// that the table still holds.
#[test]
fn an_address_that_cannot_be_released_is_nobody_elses() {
    let ways = ["DEL", "GC", "an ADD that needs the address"];
    let check = |way: &str| {
        let network = narrow();
        let (client, former, new) = (pod("client", "u1"), pod("former", "u2"), pod("new", "u3"));
        let world = [known("client", "u1"), known("former", "u2"), only("former", "client")];
        apply(&network, &world);
        network.add(&client).ok();
        let result = network.add(&former).ok();
        let address = "10.1.0.9";
        let held = classes(&network, address);
        assert!(held != OPEN, "{way}");
        network.host().command("ip", &["link", "delete", &host_link(&result)]).ok();
        let (leases, notes) = (network.leases(), network.journal());
        let lock = fs::File::open(network.root("run/manx/.policy/.lock")).unwrap();
        lock.lock().unwrap();
        let act = || -> Reply {
            match way {
                "DEL" => network.del(&former),
                "GC" => network.gc(&[&client]),
                _ => network.add(&new),
            }
        };
        let reply = act();
        assert!(reply.stdout.contains(".policy"), "{way}: {reply:?}");
        if !way.contains("ADD") {
            assert_eq!(reply.code(), Some(11), "{way}: {reply:?}");
        }
        reply.error();
        assert_eq!((network.leases(), network.journal()), (leases.clone(), notes), "{way}");
        lock.unlock().unwrap();
        act().ok();
        assert_eq!(classes(&network, address)[1].is_some(), way.contains("ADD"), "{way}");
        assert_eq!(network.leases() == leases, way.contains("ADD"), "{way}");
    };
    thread::scope(|scope| {
        for way in ways {
            scope.spawn(move || check(way));
        }
    });
}

/// The link tells which addresses a pod had where its note does not.
#[test]
fn a_pod_whose_note_is_lost_leaves_nothing_in_the_table() {
    for verb in ["DEL", "GC"] {
        let network = enforcing();
        let world = [known("web", "u1"), known("client", "u2"), only("web", "client")];
        apply(&network, &[&world[..], &[only("client", "web")]].concat());
        let (web, client) = (pod("web", "u1"), pod("client", "u2"));
        let result = network.add(&web).ok();
        let before = table(&network);
        let lost = network.add(&client).ok();
        fs::remove_file(network.root("run/manx/net").join(format!("{}:eth0", client.id))).unwrap();
        match verb {
            "DEL" => network.del(&client).ok(),
            _ => network.gc(&[&web]).ok(),
        };
        are(&network, &lost, OPEN);
        assert_eq!(table(&network), before, "{verb}");
        is_under_policy(&network, &result);
    }
}

/// Not its class and not its identity, by which the next pod of the address would be let in.
#[test]
fn a_table_that_is_made_again_holds_nothing_of_a_pod_that_is_gone() {
    let network = enforcing();
    let world = [known("web", "u1"), known("client", "u2"), only("web", "client")];
    let world = [&world[..], &[only("client", "web")]].concat();
    apply(&network, &world);
    let (web, client) = (pod("web", "u1"), pod("client", "u2"));
    let result = network.add(&web).ok();
    let alone = table(&network);
    let gone = network.root("run/manx/.policy/gone");
    for with_link in [true, false] {
        let client_result = network.add(&client).ok();
        // So that the file has its addresses.
        apply(&network, &world);
        assert!(!gone.exists());
        let both = table(&network);
        if !with_link {
            network.host().command("ip", &["link", "delete", &host_link(&client_result)]).ok();
        }
        network.del(&client).ok();
        network.host().command("nft", &["delete", "table", "inet", "manx.policy"]).ok();
        network.status().ok();
        are(&network, &client_result, OPEN);
        assert_eq!(table(&network), alone);
        assert_eq!(fs::read_to_string(&gone).unwrap().lines().count(), 2);
        // One that has come by its address is what it is.
        let again = network.add(&pod("client", "u2")).ok();
        network.host().command("nft", &["delete", "table", "inet", "manx.policy"]).ok();
        network.status().ok();
        for address in addresses(&again) {
            assert!(table(&network).contains(&address), "{both}");
        }
        network.gc(&[&web]).ok();
        assert_eq!(table(&network), alone);
        is_under_policy(&network, &result);
    }
}
