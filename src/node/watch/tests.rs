// SPDX-License-Identifier: Apache-2.0
//! What a watch is woken by, in the namespace of the test.

use std::{fs, process};

use serde_json::json;

use super::*;

/// A node with one network, of which nobody has made anything.
struct Ground {
    directory: PathBuf,
    root: Root,
    events: Events,
}

impl Ground {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("manx-watch-{name}-{}", process::id()));
        let place = directory.join("etc/cni/net.d");
        fs::create_dir_all(&place).unwrap();
        let conflist = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "manx", "ipam": {"type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]}}]});
        fs::write(place.join("10.conflist"), conflist.to_string()).unwrap();
        let root = Root::new(&directory);
        let networks = Networks::read(&root, None).unwrap();
        let mut events = Events::subscribe(&networks, &place.join(ANY), &mut |_| None).unwrap();
        assert!(events.take_files(), "it was not looked at yet");
        Self { directory, root, events }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Neither is a reason for a pass. Of the kernel there may be events of other tests.
#[test]
fn who_is_told_is_woken_by_the_time_and_by_the_bell() {
    let mut ground = Ground::new("woken");
    let (bell, beside) = (Bell::new().unwrap(), ground.directory.join("etc/cni/net.d/20.conflist"));
    let mut until_woken = |again: Option<Instant>| {
        let mut woken = 0;
        while woken == 0 {
            let mut tell = |said: Said| {
                assert!(matches!(said, Said::Woken));
                woken += 1;
                // What ends the wait.
                fs::write(&beside, "{}").unwrap();
                None
            };
            let events = &mut ground.events;
            let came = await_event(events, Duration::ZERO, Some(&bell), again, &mut tell);
            assert!(came.unwrap(), "neither came before the next pass");
        }
        woken
    };
    assert_eq!(until_woken(Some(Instant::now() + WRITTEN)), 1);
    bell.ring();
    assert_eq!(until_woken(None), 1);
}

/// Without a peersFile, which of the pods' addresses are this node's is said there.
#[test]
fn the_agents_file_is_heeded_where_a_configuration_names_none() {
    let mut ground = Ground::new("heeded");
    let path = ground.root.path("/var/lib/manx/peers.json");
    let mut hears = |what: &str| {
        let came = ground.events.wait(Duration::from_secs(60), None).unwrap();
        assert_eq!(came, Came::Event, "{what}");
        assert!(ground.events.take_files(), "{what}");
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    hears("its directory");
    fs::write(path.with_extension("new"), "{}").unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    hears("the file");
}
