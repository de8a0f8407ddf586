// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::fabric::Peers;

fn node(number: usize) -> String {
    format!(
        r#"{{"name": "n{number}", "addresses": ["192.0.2.{number}"], "podCIDRs": ["10.{number}.0.0/24"]}}"#
    )
}

fn list(nodes: &[String]) -> String {
    format!(r#"{{"self": "n1", "nodes": [{}], "fabric": {{}}}}"#, nodes.join(", "))
}

fn text(list: &str) -> Text {
    let peers = Peers::parse(list.as_bytes(), &|_| false).unwrap();
    let count = peers.nodes().count();
    Text::of(list.as_bytes().into(), count).unwrap()
}

/// The names before and after, as far as another text differs.
fn names(old: &str, new: &str) -> Option<(Vec<String>, Vec<String>)> {
    let splice = text(old).splice(new.as_bytes())?;
    let names = |nodes: Vec<Entry>| nodes.into_iter().map(|(node, _)| node.name).collect();
    Some((names(splice.before), names(splice.after)))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn only_the_nodes_that_differ_are_read() {
    let nodes: Vec<String> = (1..=5).map(node).collect();
    let old = list(&nodes);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut nodes = nodes.clone();
        change(&mut nodes);
        list(&nodes)
    };
    for (what, new, before, after) in [
        ("another address", old.replace("192.0.2.3", "192.0.2.33"), vec!["n3"], vec!["n3"]),
        ("another name", old.replace("n3", "other"), vec!["n3"], vec!["other"]),
        (
            "the first and the third",
            old.replace("192.0.2.1\"", "192.0.2.7\"").replace("10.3.", "10.9."),
            vec!["n1", "n2", "n3"],
            vec!["n1", "n2", "n3"],
        ),
        ("one more behind", with(&|all| all.push(node(6))), vec!["n5"], vec!["n5", "n6"]),
        ("one more before", with(&|all| all.insert(0, node(6))), vec!["n1"], vec!["n6", "n1"]),
        ("one less behind", with(&|all| drop(all.pop())), vec!["n4", "n5"], vec!["n4"]),
        ("the last twice", with(&|all| all.push(node(5))), vec!["n5"], vec!["n5", "n5"]),
    ] {
        let expected = Some((strings(&before), strings(&after)));
        assert_eq!(names(&old, &new), expected, "{what}");
    }
    // Those between are read with one that is beside them.
    for (what, new, one_more) in [
        ("one more", with(&|all| all.insert(2, node(6))), true),
        ("one less", with(&|all| drop(all.remove(2))), false),
    ] {
        let (before, after) = names(&old, &new).unwrap();
        assert_eq!(after.len() > before.len(), one_more, "{what}");
        assert!(before.len().max(after.len()) <= 3, "{what}: {before:?} {after:?}");
    }
}

#[test]
fn what_differs_elsewhere_is_not_obvious() {
    let old = list(&(1..=3).map(node).collect::<Vec<_>>());
    for (what, new) in [
        ("nothing", old.clone()),
        ("another self", old.replace("\"self\": \"n1\"", "\"self\": \"n2\"")),
        ("both", old.replace("n1", "n2")),
        ("the fabric", old.replace("{}}", "{\"mode\": \"ipip\"}}")),
        ("a key more", old.replace("{}}", "{}, \"more\": 1}")),
        ("a key of a node that is not known", old.replace("\"n2\"", "\"n2\", \"more\": 1")),
        ("a key twice", old.replace("\"n2\"", "\"n2\", \"name\": \"n4\"")),
        ("cut off", old[..old.len() - 20].to_owned()),
        ("no list", String::new()),
        ("two lists", old.replace("}, {\"name\": \"n2\"", "}], \"nodes\": [{\"name\": \"n2\"")),
        ("a node that ends early", old.replace("10.2.0.0/24\"]}", "10.2.0.0/24\"]}}")),
        ("no comma", old.replace("}, {\"name\": \"n2\"", "} {\"name\": \"n2\"")),
        ("another space", old.replace("\"nodes\": [{", "\"nodes\" : [{")),
        ("none left", r#"{"self": "n1", "nodes": [], "fabric": {}}"#.to_owned()),
    ] {
        assert_eq!(names(&old, &new), None, "{what}");
    }
}

#[test]
fn braces_and_quotes_in_names_do_not_matter() {
    let nodes = [node(1), node(2).replace("n2", r#"}\"]{\\"#), node(3)];
    let old = list(&nodes);
    let (before, after) = names(&old, &old.replace("192.0.2.3", "192.0.2.4")).unwrap();
    assert_eq!((before, after), (strings(&["n3"]), strings(&["n3"])));
    let (before, _) = names(&old, &old.replace("192.0.2.2", "192.0.2.4")).unwrap();
    assert_eq!(before, ["}\"]{\\"]);
    assert!(Text::of(b"{\"nodes\": [{}, {}]}".to_vec(), 3).is_none());
}
