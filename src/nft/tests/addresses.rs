// SPDX-License-Identifier: Apache-2.0
//! What a table holds besides its constant rules: addresses that follow a
//! description, and those that somebody else added.

use ipnetwork::IpNetwork;

use super::{Namespace, but, differences, ensure, guarded, vxlan};
use crate::nft::{self, Carrier, Ensured, Guard, Masquerade, Network, Table, Tunnel};

const OURS: &str = "inet manx-blue";

/// Each object with its number, but no elements.
pub(super) fn handles(namespace: &Namespace) -> Vec<String> {
    let listed = namespace.command("nft -a list ruleset");
    listed.lines().filter(|line| line.contains("# handle")).map(str::to_owned).collect()
}

/// Everything but the addresses stays, to the number of each rule.
#[test]
fn peers_come_and_go_without_a_new_table() {
    let namespace = Namespace::new();
    let ensure = |tunnel: &Tunnel| {
        let table = tunnel.describe().unwrap();
        namespace.run(|| nft::ensure(&table))
    };
    let two = vxlan(&["192.0.2.12", "2001:db8::12", "192.0.2.13"]);
    assert_eq!(ensure(&two), Ok(Ensured::Installed));
    let before = handles(&namespace);
    let joined = vxlan(&["192.0.2.12", "2001:db8::12", "192.0.2.13", "2001:db8::14"]);
    let table = joined.describe().unwrap();
    let told = namespace.run(|| nft::differences(&table)).unwrap();
    assert_eq!(told, ["set peers6 of table inet manx.tunnels lacks 2001:db8::14"]);
    assert_eq!(ensure(&joined), Ok(Ensured::Repaired));
    assert_eq!(handles(&namespace), before);
    assert_eq!(ensure(&joined), Ok(Ensured::Unchanged));
    let left = vxlan(&["192.0.2.13", "2001:db8::12"]);
    assert_eq!(ensure(&left), Ok(Ensured::Repaired));
    assert_eq!(handles(&namespace), before);
    let now = namespace.ruleset();
    assert!(!now.contains("192.0.2.12") && !now.contains("::14"), "{now}");
    assert_eq!(ensure(&left), Ok(Ensured::Unchanged));
}

#[test]
fn an_address_that_somebody_added_or_removed_is_put_right() {
    let namespace = Namespace::new();
    let table: Table = vxlan(&["192.0.2.12"]).describe().unwrap();
    assert_eq!(namespace.run(|| nft::ensure(&table)), Ok(Ensured::Installed));
    for (damage, told) in [
        ("add element inet manx.tunnels peers4 { 192.0.2.66 }", "holds besides 192.0.2.66"),
        ("flush set inet manx.tunnels peers4", "lacks 192.0.2.12"),
    ] {
        namespace.load(damage);
        let found = namespace.run(|| nft::differences(&table)).unwrap();
        assert_eq!(found, [format!("set peers4 of table inet manx.tunnels {told}")]);
        assert_eq!(namespace.run(|| nft::ensure(&table)), Ok(Ensured::Repaired));
        assert_eq!(namespace.run(|| nft::differences(&table)), Ok(Vec::new()));
    }
}

#[test]
fn thousands_of_peers_fit() {
    let namespace = Namespace::new();
    let peers: Vec<std::net::IpAddr> =
        (0..3000u32).map(|number| (0x0a00_0000 + number).to_be_bytes().into()).collect();
    for (peers, done) in [
        (&peers[..], Ensured::Installed),
        (&peers[..1000], Ensured::Repaired),
        (&peers[..], Ensured::Repaired),
    ] {
        let table = Tunnel { peers: peers.to_vec(), ..vxlan(&[]) }.describe().unwrap();
        assert_eq!(namespace.run(|| nft::ensure(&table)), Ok(done));
        assert_eq!(namespace.run(|| nft::differences(&table)), Ok(Vec::new()));
    }
    let ipip = Tunnel { carriers: vec![Carrier::Ipip], ..vxlan(&[]) }.describe().unwrap();
    assert_eq!(namespace.run(|| nft::ensure(&ipip)), Ok(Ensured::Repaired));
    assert_eq!(namespace.run(|| nft::differences(&ipip)), Ok(Vec::new()));
}

/// A repair makes the table anew, and what an operator allowed is no damage.
#[test]
fn allowed_sources_survive_a_repair() {
    let namespace = Namespace::new();
    namespace.run(|| assert_eq!(ensure(&guarded()), Ok(Ensured::Installed)));
    let allow = format!(
        "add element {OURS} allowed4 {{ \"cali1\" . 10.9.0.0/16, \"cali2\" . 192.0.2.9 }}\n\
         add element {OURS} allowed6 {{ \"cali1\" . fd09::/48 }}"
    );
    namespace.load(&allow);
    let before = namespace.ruleset();
    namespace.run(|| {
        assert_eq!(differences(&guarded()), Ok(Vec::new()));
        assert_eq!(nft::is_intact(&guarded().describe().unwrap().seal()), Ok(true));
        assert_eq!(ensure(&guarded()), Ok(Ensured::Unchanged));
    });
    for damage in ["flush chain inet manx-blue forward", "flush table inet manx-blue"] {
        namespace.load(damage);
        assert_eq!(namespace.run(|| ensure(&guarded())), Ok(Ensured::Repaired), "{damage}");
        assert_eq!(namespace.ruleset(), before, "{damage}");
    }
    // Nor where somebody saved and restored it.
    let text = guarded().describe().unwrap().render();
    namespace.load(&format!("delete table inet manx-blue\n{text}{allow}"));
    namespace.run(|| {
        assert_eq!(ensure(&guarded()), Ok(Ensured::Unchanged));
        assert_eq!(nft::is_intact(&guarded().describe().unwrap().seal()), Ok(true));
    });
    assert_eq!(namespace.ruleset(), before);
    // Also where the rules themselves are others.
    let plain = Network { masquerade: None, ..guarded() };
    assert_eq!(namespace.run(|| ensure(&plain)), Ok(Ensured::Repaired));
    assert!(namespace.ruleset().contains("\"cali1\" . 10.9.0.0/16"));
}

/// What a packet counts is no difference.
#[test]
fn a_table_of_the_earlier_version_is_replaced_by_one_that_checks() {
    let namespace = Namespace::new();
    let earlier = Network { guard: Guard::Off, ..guarded() };
    namespace.run(|| {
        assert_eq!(ensure(&earlier), Ok(Ensured::Installed));
        assert_eq!(nft::is_intact(&guarded().describe().unwrap().seal()), Ok(false));
        assert_eq!(ensure(&guarded()), Ok(Ensured::Repaired));
        assert_eq!(nft::is_intact(&guarded().describe().unwrap().seal()), Ok(true));
    });
}

/// Of thousands of networks an ADD knows a digest.
#[test]
fn a_table_is_known_by_the_digest_of_the_pods_networks() {
    let namespace = Namespace::new();
    let pods = |texts: &[&str]| {
        let pods: Vec<IpNetwork> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let masquerade = Masquerade { pods: pods.clone(), ..but(&["10.244.0.0/16"]) };
        (Network { masquerade: Some(masquerade), ..guarded() }, nft::digest(&pods))
    };
    let (three, digest) = pods(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]);
    let (_, shuffled) = pods(&["fd00:1::/64", "10.2.0.0/24", "10.1.0.0/24", "10.1.0.0/24"]);
    let (more, longer) = pods(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "10.244.1.0/24"]);
    assert_eq!((digest, digest != longer), (shuffled, true));
    let known = |digest| nft::is_intact(&guarded().seal(&digest).unwrap());
    namespace.run(|| {
        assert_eq!(ensure(&three), Ok(Ensured::Installed));
        // What is never masqueraded is another.
        assert_eq!(known(digest), Ok(false));
        let known = |digest| nft::is_intact(&three.seal(&digest).unwrap());
        assert_eq!((known(digest), known(longer)), (Ok(true), Ok(false)));
        // It holds the same by another list: noted once.
        assert_eq!((ensure(&more), known(longer)), (Ok(Ensured::Unchanged), Ok(true)));
    });
    namespace.load(&format!("add element {OURS} allowed4 {{ \"cali1\" . 10.9.0.0/16 }}"));
    let before = namespace.ruleset();
    assert_eq!(namespace.run(|| ensure(&three)), Ok(Ensured::Unchanged));
    assert_eq!(namespace.ruleset(), before);
}

/// What ADD looks at, by one message, tells whatever a flush leaves.
#[test]
fn a_glance_sees_each_lost_or_added_rule() {
    for damage in [
        "flush ruleset",
        "flush table inet manx-blue",
        "flush chain inet manx-blue forward",
        "flush chain inet manx-blue input",
        "flush chain inet manx-blue postrouting",
        "insert rule inet manx-blue forward accept",
        "insert rule inet manx-blue stranger accept",
    ] {
        let namespace = Namespace::new();
        namespace.run(|| assert_eq!(ensure(&guarded()), Ok(Ensured::Installed)));
        namespace.load(damage);
        let table = guarded().describe().unwrap();
        assert_eq!(namespace.run(|| nft::is_intact(&table.seal())), Ok(false), "{damage}");
    }
}
