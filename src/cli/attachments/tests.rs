// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::pod::Identity;

/// An attachment of a pod in the default namespace.
pub(crate) fn entry(pod: &str, container_id: &str, ifname: &str, address: &str) -> Entry {
    Entry {
        network: "net".into(),
        container_id: container_id.into(),
        ifname: ifname.into(),
        pod_namespace: Some("default".into()),
        pod_name: Some(pod.into()),
        host_link: format!("cali{container_id}"),
        addresses: vec![address.parse().unwrap()],
        mtu: 1450,
        ..Entry::default()
    }
}

/// The host link that belongs to `entry`.
pub(crate) fn link(entry: &Entry, up: bool) -> Link {
    Link {
        index: 7,
        name: entry.host_link.clone(),
        alias: Some(Identity::from(entry).alias()),
        mtu: 1400,
        up,
        ..Link::default()
    }
}

#[test]
fn links_are_found_by_their_mark_and_not_by_their_name() {
    let entries = vec![
        entry("c", "c1", "eth0", "10.0.0.3"),
        entry("b", "b1", "eth0", "10.0.0.2"),
        entry("a", "a1", "eth0", "10.0.0.1"),
    ];
    let renamed = Link { name: "other".into(), ..link(&entries[1], false) };
    let foreign = Link { alias: None, ..link(&entries[2], true) };
    let links = [link(&entries[0], true), renamed, foreign];
    let joined = Attachment::join(entries, &links);
    let seen: Vec<_> =
        joined.iter().map(|pod| (pod.entry.pod_name.as_deref().unwrap(), pod.state())).collect();
    assert_eq!(seen, [("a", "missing"), ("b", "down"), ("c", "up")]);
    let mut out = Vec::new();
    crate::cli::pods::table(&joined).print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let cells: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        cells[1],
        ["default/a", "net", "a1", "eth0", "10.0.0.1", "calia1", "1450", "missing", "-"]
    );
    assert_eq!(
        cells[2],
        ["default/b", "net", "b1", "eth0", "10.0.0.2", "other", "1400", "down", "-"]
    );
}

/// The container that a word means, or what is said instead.
fn chosen(pods: &[Attachment], word: &str) -> String {
    match choose(pods, word, |pod| pod.entry.container_id.clone()) {
        Ok(Ok(pod)) => pod.entry.container_id.clone(),
        Ok(Err(failure)) => format!("{failure:?}"),
        Err(ambiguous) => ambiguous,
    }
}

#[test]
fn a_pod_is_named_in_three_ways() {
    let entries = vec![
        entry("a", "abc1", "eth0", "10.0.0.1"),
        entry("b", "abc123", "eth0", "10.0.0.2"),
        entry("b", "abc123", "net1", "fd00::2"),
        entry("c", "def", "eth0", "10.0.0.3"),
    ];
    let links: Vec<Link> = entries.iter().map(|entry| link(entry, true)).collect();
    let pods = Attachment::join(entries, &links);
    for (word, container_id) in [
        ("default/a", "abc1"),
        ("default/b", "abc123"),
        ("abc12", "abc123"),
        // An id that is the beginning of another one.
        ("abc1", "abc1"),
        ("10.0.0.3", "def"),
        ("fd00:0::2", "abc123"),
        ("::ffff:10.0.0.2", "abc123"),
    ] {
        assert_eq!(chosen(&pods, word), container_id, "{word}");
    }
    for word in ["", "b", "default/d", "10.0.0.4", "default"] {
        assert!(chosen(&pods, word).contains("no pod"), "{word}");
    }
    for (word, meant) in [
        ("b", "did you mean default/b?"),
        ("default/bb", "did you mean default/b?"),
        ("defalt/c", "did you mean default/c?"),
    ] {
        assert!(chosen(&pods, word).contains(meant), "{}", chosen(&pods, word));
    }
    assert!(!chosen(&pods, "nothing-like-it").contains("did you mean"));
    let ambiguous = chosen(&pods, "abc");
    for words in ["default/a abc1 eth0", "default/b abc123 net1", "3 attachments"] {
        assert!(ambiguous.contains(words), "{ambiguous}");
    }
    let by_interface = choose(&pods, "default/b", |pod| pod.entry.ifname.clone());
    assert!(by_interface.is_err_and(|words| words.contains("net1")));
}

#[test]
fn an_older_sandbox_of_the_pod_is_not_meant() {
    let entries =
        vec![entry("a", "older", "eth0", "10.0.0.1"), entry("a", "newer", "eth0", "10.0.0.2")];
    let links = [link(&entries[1], true)];
    assert_eq!(chosen(&Attachment::join(entries.clone(), &links), "default/a"), "newer");
    assert!(chosen(&Attachment::join(entries, &[]), "default/a").contains("2 attachments"));
}

#[test]
fn a_marked_link_that_no_journal_knows_is_listed() {
    let (known, unknown) =
        (entry("a", "a1", "eth0", "10.0.0.1"), entry("b", "b1", "eth0", "10.0.0.2"));
    let lost = Link { name: "cali5".into(), ..link(&unknown, true) };
    let digest = Link { name: "cali6".into(), alias: Some("manx1 sha1:00".into()), ..lost.clone() };
    let foreign = Link { name: "cali7".into(), alias: Some("manx10 x y z".into()), ..lost.clone() };
    let pods = Attachment::join(vec![known.clone()], &[link(&known, true), digest, lost, foreign]);
    let seen: Vec<_> = pods
        .iter()
        .map(|pod| (&*pod.entry.host_link, &*pod.entry.container_id, pod.state()))
        .collect();
    assert_eq!(
        seen,
        [("cali6", "?", "unnoted"), ("cali5", "b1", "unnoted"), ("calia1", "a1", "up")]
    );
    assert_eq!(chosen(&pods, "b1"), "b1");
}
