// SPDX-License-Identifier: Apache-2.0
//! nft reads our text and lists our messages: both must come to the same.

use ipnetwork::IpNetwork;

use super::{Namespace, but, differences, ensure, guarded, vxlan, wanted};
use crate::family::Family;
use crate::nft::key::{Load, Part};
use crate::nft::message::generation;
use crate::nft::set::{Content, Data, Field, Key, Ranges, Set, Type, Value, Verdict};
use crate::nft::side::Side;
use crate::nft::snapshot;
use crate::nft::socket::Socket;
use crate::nft::table::{Chain, ESTABLISHED, Holds, Hook, Kind, Point, RELATED, Rule, Term};
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
    // And the other way round: what nft made is what we want, if not as we made it, and is made
    // anew once for that.
    assert_eq!(theirs.run(|| nft::differences(wanted)), Ok(Vec::new()));
    assert_eq!(theirs.run(|| nft::is_intact(&wanted.seal())), Ok(false));
    assert_eq!(theirs.run(|| nft::ensure(wanted)), Ok(Ensured::Unchanged));
    assert_eq!(theirs.run(|| nft::is_intact(&wanted.seal())), Ok(true));
    assert_eq!(ours.ruleset(), theirs.ruleset());
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
    let (ipip, ours) = (Carrier::Ipip, Carrier::Vxlan { port: 8472, vni: 1 });
    let calicos = Carrier::Vxlan { port: 4789, vni: 4096 };
    let all = [vec![ipip], vec![ours], vec![ipip, ours], vec![ours, ipip], vec![calicos, ours]];
    for carriers in all {
        let some = vxlan(&["192.0.2.12", "2001:db8::12", "192.0.2.13"]);
        assert_table_equals_nft(&Tunnel { carriers: carriers.clone(), ..some }.describe().unwrap());
        assert_table_equals_nft(&Tunnel { carriers, ..vxlan(&[]) }.describe().unwrap());
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
        assert!(matches!(ensure(&wanted), Err(Error::Invalid(_))), "{table}");
        assert!(matches!(remove(table), Err(Error::Invalid(_))), "{table}");
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

/// What networks and tunnels do not use: maps of verdicts, ranges of several parts,
/// jumps, connections' states and marks.
#[test]
fn nft_lists_maps_and_concatenations_as_it_lists_our_text() {
    let destination = Load::Address(Side::Destination, Family::V4);
    let value = Field::Address("192.0.2.7".parse().unwrap());
    assert_table_equals_nft(&of_all_kinds(Type::Address(Family::V4), destination, value));
    // nft turns the protocol around before it asks for ranges, which are of one byte: it
    // lists the same, but it is not the same.
    let table = of_all_kinds(Type::Protocol, Load::Protocol, Field::Protocol(6));
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    assert_eq!(ours.run(|| nft::ensure(&table)), Ok(Ensured::Installed));
    theirs.load(&table.render());
    assert_eq!(ours.ruleset(), theirs.ruleset());
    assert_eq!(ours.run(|| nft::ensure(&table)), Ok(Ensured::Unchanged));
}

/// The second part of the keys that have ranges is this.
fn of_all_kinds(second: Type, load: Load, value: Field<'_>) -> Table {
    let ipv4 = Type::Address(Family::V4);
    let address = |text: &str| Field::Address(text.parse().unwrap());
    let source = || Part::Of(Load::Address(Side::Source, Family::V4));
    let verdict = |group, text, verdict| {
        (Key::of(&[Field::Group(group), address(text)]), Some(Value::Verdict(verdict)))
    };
    let verdicts = [
        verdict(7, "10.1.0.1", Verdict::Jump("other")),
        verdict(8, "10.1.0.2", Verdict::Goto("other")),
        verdict(8, "10.1.0.3", Verdict::Drop),
    ];
    let flow = |text, port| [address(text), value, Field::Port(port)];
    let flows = [
        (Key::range(&flow("10.1.0.0", 80), &flow("10.1.0.255", 90)), None),
        (Key::of(&flow("10.2.0.9", 53)), None),
    ];
    let marks = [(Key::of(&[Field::Name("eth0"), Field::Mark(7)]), None)];
    let set = |name, key: &[Type], data, ranges, elements| {
        let content = Content::Following(elements);
        Set { name, key: key.to_vec(), data, ranges, content }
    };
    let sets = vec![
        set("verdicts", &[Type::Group, ipv4], Some(Data::Verdict), Ranges::None, verdicts.into()),
        set("flows", &[ipv4, second, Type::Port], None, Ranges::Each, flows.into()),
        set("marks", &[Type::Name, Type::Mark], None, Ranges::None, marks.into()),
    ];
    let flow = vec![source(), Part::Of(load), Part::Of(Load::Port(Side::Destination))];
    let mark = vec![Part::Of(Load::IncomingName), Part::Of(Load::Mark)];
    let rules = [
        vec![Term::Verdict(vec![Part::Of(Load::IncomingGroup), source()], "verdicts")],
        vec![Term::Among(flow, Holds::Is, "flows"), Term::End(Verdict::Accept)],
        vec![Term::Among(mark, Holds::IsNot, "marks"), Term::SetMark(9)],
        vec![Term::Mark(8), Term::Count, Term::End(Verdict::Jump("other"))],
        vec![Term::State(ESTABLISHED | RELATED), Term::IsReply, Term::End(Verdict::Accept)],
    ];
    let hook = Hook { kind: Kind::Filter, point: Point::Forward, priority: 0 };
    let other = vec![Rule(vec![Term::End(Verdict::Return)])];
    let chains = vec![
        Chain { name: "other", hook: None, rules: other },
        Chain { name: "forward", hook: Some(hook), rules: rules.map(Rule).into() },
    ];
    let (name, comment) = ("manx-maps".to_owned(), "of all kinds".to_owned());
    Table { name, comment, sets, chains, number: None }
}
