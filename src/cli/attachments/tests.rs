use super::*;

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
        alias: Some(alias(entry)),
        group: 0,
        mtu: 1400,
        mac: None,
        up,
        loopback: false,
        kind: None,
        peer_index: None,
        vxlan: None,
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
    let joined = join(entries, &links);
    let seen: Vec<_> =
        joined.iter().map(|pod| (pod.entry.pod_name.as_deref().unwrap(), pod.state())).collect();
    assert_eq!(seen, [("a", "missing"), ("b", "down"), ("c", "up")]);
    let mut out = Vec::new();
    crate::cli::pods::table(&joined).print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let cells: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(cells[1], ["default/a", "a1", "eth0", "10.0.0.1", "calia1", "1450", "missing"]);
    assert_eq!(cells[2], ["default/b", "b1", "eth0", "10.0.0.2", "other", "1400", "down"]);
}
