//! nft reads our text and lists our messages: both must come to the same.

use ipnetwork::IpNetwork;

use super::{Namespace, but, differences, ensure, guarded, vxlan, wanted};
use crate::nft::message::generation;
use crate::nft::snapshot;
use crate::nft::socket::Socket;
use crate::nft::{
    self, Carrier, Ensured, Error, Guard, Masquerade, Network, Table, Tunnel, available, remove,
    tables,
};

/// Installs by netlink and by nft, and compares what nft lists.
fn assert_equals_nft(wanted: &Network) {
    assert_table_equals_nft(&wanted.describe().unwrap());
}

fn assert_table_equals_nft(wanted: &Table) {
    let ours = Namespace::new();
    assert_eq!(ours.run(|| nft::ensure(wanted)), Ok(Ensured::Installed));
    assert_eq!(ours.run(|| nft::is_intact(&wanted.seal())), Ok(true));
    let theirs = Namespace::new();
    theirs.load(&wanted.render());
    assert_eq!(ours.ruleset(), theirs.ruleset());
    // And the other way round: what nft made is what we want, if not as we made it.
    assert_eq!(theirs.run(|| nft::differences(wanted)), Ok(Vec::new()));
    assert_eq!(theirs.run(|| nft::ensure(wanted)), Ok(Ensured::Unchanged));
    assert_eq!(theirs.run(|| nft::is_intact(&wanted.seal())), Ok(false));
}

#[test]
fn nft_lists_our_table_as_it_lists_our_text() {
    assert_equals_nft(&wanted());
    let mut bare = wanted();
    bare.masquerade = Some(but(&[]));
    bare.host_link_groups = 7..=7;
    assert_equals_nft(&bare);
    let mut whole = wanted();
    whole.masquerade = Some(but(&["0.0.0.0/0", "::/0"]));
    assert_equals_nft(&whole);
    for guard in [Guard::Loopback, Guard::Sources] {
        assert_equals_nft(&Network { guard, ..guarded() });
        assert_equals_nft(&Network { guard, masquerade: None, ..guarded() });
    }
    for carrier in [Carrier::Ipip, Carrier::Vxlan { port: 8472, vni: 1 }] {
        let some = vxlan(&["192.0.2.12", "2001:db8::12", "192.0.2.13"]);
        assert_table_equals_nft(&Tunnel { carrier, ..some }.describe().unwrap());
        assert_table_equals_nft(&Tunnel { carrier, ..vxlan(&[]) }.describe().unwrap());
    }
}

#[test]
fn the_text_is_what_an_operator_reads() {
    let expected = r#"table inet manx-blue {
	comment "manx: links of group 1835073537"

	set never4 {
		type ipv4_addr
		flags constant, interval
		elements = { 10.244.0.0-10.245.127.255,
			     169.254.1.1,
			     198.51.100.7,
			     224.0.0.0/4,
			     255.255.255.255 }
	}

	set never6 {
		type ipv6_addr
		flags constant, interval
		elements = { fd00:244::/48,
			     fe80::/10,
			     ff00::/8 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifgroup 1835073536-1835139071 return
		ip daddr @never4 return
		ip6 daddr @never6 return
		iifgroup 1835073537 masquerade fully-random
	}
}
"#;
    assert_eq!(wanted().describe().unwrap().render(), expected);
}

#[test]
fn thousands_of_networks_fit() {
    let mut many = wanted();
    // Every other one, so that none can be merged.
    let never: Vec<IpNetwork> = (0..3000u32)
        .flat_map(|n| {
            let v4 = format!("10.{}.{}.0/24", n / 128, n % 128 * 2);
            [v4, format!("fd00:0:0:{:x}::/64", n * 2)]
        })
        .map(|text| text.parse().unwrap())
        .collect();
    let masquerade = |never: &[IpNetwork]| Some(Masquerade { never: never.to_vec(), ..but(&[]) });
    many.masquerade = masquerade(&never);
    // Some 350 kB: more than a socket sends at first.
    let namespace = Namespace::new();
    assert_eq!(namespace.run(|| ensure(&many)), Ok(Ensured::Installed));
    assert_eq!(namespace.run(|| differences(&many)), Ok(Vec::new()));
    let (last, kept) = never.split_last().unwrap();
    let fewer = Network { masquerade: masquerade(kept), ..many.clone() };
    let found = namespace.run(|| differences(&fewer)).unwrap();
    assert_eq!(found.len(), 1, "{last}: {found:?}");
    assert!(found[0].contains("2 foreign interval bounds"), "{found:?}");
}

#[test]
fn removing_takes_our_table_and_no_other() {
    let namespace = Namespace::new();
    namespace.load("table inet manxish { chain c { counter; }; }\ntable ip manx-blue {\n}\n");
    let before = namespace.ruleset();
    namespace.run(|| {
        assert_eq!(available(), Ok(()));
        assert_eq!(tables("manx-"), Ok(vec![]));
        assert_eq!(ensure(&wanted()), Ok(Ensured::Installed));
        let second = Network { table: "manx-a".into(), ..wanted() };
        assert_eq!(ensure(&second), Ok(Ensured::Installed));
        assert_eq!(tables("manx-"), Ok(vec!["manx-a".into(), "manx-blue".into()]));
        assert_eq!(remove("manx-a"), Ok(true));
        assert_eq!(remove("manx-a"), Ok(false));
        assert_eq!(ensure(&wanted()), Ok(Ensured::Unchanged));
        assert_eq!(remove("manx-blue"), Ok(true));
        assert_eq!(tables("manx"), Ok(vec!["manxish".into()]));
    });
    assert_eq!(namespace.ruleset(), before);
}

#[test]
fn what_no_rule_set_can_say_is_refused_before_the_kernel_is_asked() {
    let long = "m".repeat(256);
    for table in ["", "1st", "two words", "semi;colon", "ünïcode", &long] {
        let wanted = Network { table: table.into(), ..wanted() };
        assert!(matches!(ensure(&wanted), Err(Error::Invalid { .. })), "{table}");
        assert!(matches!(remove(table), Err(Error::Invalid { .. })), "{table}");
    }
    #[expect(clippy::reversed_empty_ranges)]
    let empty = Network { host_link_groups: 2..=1, ..wanted() };
    assert!(differences(&empty).unwrap_err().to_string().contains("empty"));
}

#[test]
fn the_longest_name_works() {
    let longest = Network { table: "m".repeat(255), ..wanted() };
    let namespace = Namespace::new();
    assert_eq!(namespace.run(|| ensure(&longest)), Ok(Ensured::Installed));
    assert_eq!(namespace.run(|| ensure(&longest)), Ok(Ensured::Unchanged));
    assert_eq!(namespace.run(|| remove(&longest.table)), Ok(true));
}

#[test]
fn looking_changes_nothing() {
    let namespace = Namespace::new();
    namespace.run(|| {
        assert_eq!(ensure(&wanted()), Ok(Ensured::Installed));
        let generation_now = || {
            let mut socket = Socket::open().unwrap();
            let [reply] = snapshot::ask(&mut socket, [generation()]).unwrap();
            snapshot::generation_of(&reply).unwrap()
        };
        // The kernel counts each transaction, even one that changes nothing.
        let before = generation_now();
        assert_eq!(ensure(&wanted()), Ok(Ensured::Unchanged));
        assert_eq!(differences(&wanted()), Ok(vec![]));
        assert_eq!(tables("manx-"), Ok(vec!["manx-blue".into()]));
        assert_eq!(remove("manx-red"), Ok(false));
        assert_eq!(generation_now(), before);
    });
}
