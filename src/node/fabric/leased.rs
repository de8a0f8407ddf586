// SPDX-License-Identifier: Apache-2.0
//! Which addresses that this node's tunnels should have pods have.

use std::{
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    conf::{Config, has_store},
    fabric::{Peers, encapsulation},
    family::Family,
    ipam::store::DATA_DIR,
    list::Gather,
    state::{Entry, Root, journal},
};

/// Those of attachments of ours, or by a store of leases of any network; and that no store
/// is seen, where there should be one.
pub(super) fn leased(config: &Config, root: &Root, peers: &Peers) -> (Vec<IpAddr>, Option<String>) {
    if encapsulation::of(config.mode).is_none() {
        return (Vec::new(), None);
    }
    among(Family::BOTH.into_iter().filter_map(|family| peers.me.tunnel_address(family)), root)
}

fn among(addresses: impl Iterator<Item = IpAddr>, root: &Root) -> (Vec<IpAddr>, Option<String>) {
    let entries = journal::all(root);
    let (stores, unseen) = stores(&root.path(DATA_DIR), &entries);
    let is_leased = |address: &IpAddr| {
        let has = |entry: &Entry| entry.addresses.contains(address);
        let file = address.to_string();
        entries.iter().any(has) || stores.iter().any(|store| store.join(&file).exists())
    };
    (addresses.filter(is_leased).gather(), unseen)
}

/// The stores of leases; or why they cannot be seen. A directory that is missing may mean two
/// things: nobody has had a lease on this node yet, or this is a container without that mount.
fn stores(directory: &Path, entries: &[Entry]) -> (Vec<PathBuf>, Option<String>) {
    let error = match fs::read_dir(directory) {
        Ok(stores) => return (stores.flatten().map(|store| store.path()).gather(), None),
        Err(error) => error,
    };
    let is_there = |entry: &Entry| {
        let text = |key: &str| entry.ipam.get(key).and_then(Value::as_str).unwrap_or_default();
        has_store(text("type")) && text("dataDir").is_empty()
    };
    let is_none = error.kind() == ErrorKind::NotFound && !entries.iter().any(is_there);
    let unseen = (!is_none).then(|| {
        let directory = directory.display();
        format!(
            "the leases below {directory} are not seen ({error}): whether another plugin's pod \
             has the address of a tunnel of this node is not known"
        )
    });
    (Vec::new(), unseen)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::Journal;

    #[test]
    fn a_store_that_is_not_seen_is_not_an_empty_one() {
        let path = std::env::temp_dir().join(format!("manx-leased-{}", std::process::id()));
        let root = Root::new(path.clone());
        let address: IpAddr = "10.1.0.0".parse().unwrap();
        let ask = || among([address].into_iter(), &root);
        assert_eq!(ask(), (vec![], None), "nobody had one yet");
        let mut entry =
            Entry { container_id: "c1".into(), ifname: "eth0".into(), ..Entry::default() };
        let journal = Journal::new(&root, "pods");
        for (ipam, is_seen) in [
            (json!({"type": "calico-ipam"}), true),
            (json!({"type": "manx-ipam", "dataDir": "/elsewhere"}), true),
            (json!({"type": "manx-ipam"}), false),
        ] {
            entry.ipam = ipam;
            journal.write(&entry).unwrap();
            let (found, unseen) = ask();
            assert_eq!((found.len(), unseen.is_none()), (0, is_seen), "{}: {unseen:?}", entry.ipam);
        }
        let store = root.path(DATA_DIR).join("bridge");
        fs::create_dir_all(&store).unwrap();
        assert_eq!(ask(), (vec![], None));
        fs::write(store.join("10.1.0.0"), "c2\neth0").unwrap();
        assert_eq!(ask(), (vec![address], None));
        fs::remove_dir_all(path).unwrap();
    }
}
