// SPDX-License-Identifier: Apache-2.0
//! By what a table is known.

use sha1_smol::Sha1;

use super::{but, guarded, vxlan, wanted};
use crate::nft::{Carrier, Guard, Masquerade, Network, Table, Tunnel, seal::FORM};

/// What the kernel is sent for our tables. The digest that it keeps is of the
/// description alone, so tables that a former version made would stay as they are.
#[test]
#[cfg(target_endian = "little")]
fn what_is_sent_is_that_of_the_form() {
    let loopback = Network { guard: Guard::Loopback, ..wanted() };
    let ipip = Tunnel { carriers: vec![Carrier::Ipip], ..vxlan(&[]) };
    let tables = [wanted(), guarded(), loopback].map(|network| network.describe().unwrap());
    let tunnels = [vxlan(&["192.0.2.12"]), ipip].map(|tunnel| tunnel.describe().unwrap());
    let mut sent = Vec::new();
    for table in tables.iter().chain(&tunnels) {
        let mut requests = table.creation();
        // Without the digest.
        requests.pop();
        requests.extend(table.structure(&[]).pop());
        requests.iter().for_each(|request| request.emit(0, 0, &mut sent));
    }
    let digest = Sha1::from(&sent).digest().to_string();
    assert_eq!(
        (FORM, &*digest),
        (2, "ca72cbc4cef7652c707fe460313cfb782c17797d"),
        "raise FORM, and put both here"
    );
}

#[test]
fn each_description_has_a_seal_of_its_own() {
    let network = |change: &dyn Fn(&mut Network)| {
        let mut network = guarded();
        change(&mut network);
        network.describe().unwrap()
    };
    let never = |never: &[&str]| network(&|it| it.masquerade = Some(but(never)));
    let tables = [
        network(&|_| {}),
        network(&|it| it.table = "manx-red".into()),
        network(&|it| it.group += 1),
        network(&|it| it.host_link_groups = 1..=2),
        network(&|it| it.guard = Guard::Loopback),
        network(&|it| it.guard = Guard::Off),
        network(&|it| it.masquerade = None),
        never(&["10.244.0.0/16"]),
        never(&["10.244.0.0/17"]),
        network(&|it| {
            let next_hop = [169, 254, 1, 2].into();
            it.masquerade = Some(Masquerade { next_hop, ..but(&["10.244.0.0/16"]) });
        }),
        Table { comment: "other".into(), ..network(&|_| {}) },
        vxlan(&[]).describe().unwrap(),
        Tunnel { carriers: vec![Carrier::Ipip], ..vxlan(&[]) }.describe().unwrap(),
    ];
    for (place, table) in tables.iter().enumerate() {
        assert_eq!(table.seal(), table.seal());
        for other in tables.iter().skip(place + 1) {
            assert_ne!(table.seal().note, other.seal().note, "{table:?}\n{other:?}");
        }
    }
}

/// They come and go without a change of the table.
#[test]
fn what_follows_something_is_not_in_the_seal() {
    let seal = |peers: &[&str]| vxlan(peers).describe().unwrap().seal();
    assert_eq!(seal(&[]), seal(&["192.0.2.12", "2001:db8::12"]));
}
