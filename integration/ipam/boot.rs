// SPDX-License-Identifier: Apache-2.0
//! Leases from before the boot: nobody has released them, and nobody has them.

use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::ground::{Ground, Program, address};
use crate::harness::{Plugin, Pod};

/// A day in 2001, in seconds.
const LONG_AGO: Duration = Duration::from_secs(1_000_000_000);

/// A store of four addresses of each family, of which three are leased since
/// long ago to `old2` to `old4`.
fn after_a_boot(prefix: &str) -> (Ground, Plugin) {
    let ground = Ground::new();
    let length = if prefix.contains(':') { 64 } else { 24 };
    let network = if prefix.contains(':') { prefix.to_owned() } else { format!("{prefix}0") };
    let ranges = json!([[{"subnet": format!("{network}/{length}"),
        "rangeStart": format!("{prefix}2"), "rangeEnd": format!("{prefix}5")}]]);
    for last in 2..=4 {
        lease_long_ago(&ground, &format!("{prefix}{last}"), &format!("old{last}\r\neth0"));
    }
    let plugin = ground.ipam_plugin(Program::Manx, &ground.ipam_of(ranges));
    (ground, plugin)
}

fn lease_long_ago(ground: &Ground, name: &str, content: &str) {
    ground.write(name, content);
    let file = File::options().write(true).open(ground.store().join(name)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + LONG_AGO).unwrap();
}

#[test]
fn they_are_released_when_nothing_else_is_left() {
    for prefix in ["10.1.0.", "fd00:1::"] {
        let (ground, plugin) = after_a_boot(prefix);
        let container = |id| ground.container(id, "eth0");
        plugin.status().ok();
        assert_eq!(address(&plugin.add(&container("new1")).ok()), format!("{prefix}5"));
        assert_eq!(ground.leases().len(), 4, "there was another");
        plugin.status().ok();
        assert_eq!(ground.leases().len(), 4, "STATUS only looks");
        for id in ["new2", "new3", "new4"] {
            plugin.add(&container(id)).ok();
        }
        assert!(ground.leases().values().all(|content| content.starts_with("new")));
        assert_eq!(plugin.add(&container("new5")).code(), Some(11), "those of today stay");
    }
}

#[test]
fn one_that_is_asked_for_is_released() {
    let (ground, plugin) = after_a_boot("10.1.0.");
    let mut asked = ground.container("new", "eth0");
    asked.args = Some("IP=10.1.0.3".into());
    assert_eq!(address(&plugin.add(&asked).ok()), "10.1.0.3");
    assert_eq!(ground.leases()["10.1.0.2"], "old2\r\neth0", "the others are not in the way");
}

#[test]
fn what_is_alive_keeps_them_whatever_their_date() {
    for (prefix, length) in [("10.1.0.", 32), ("fd00:1::", 128)] {
        let (ground, plugin) = after_a_boot(prefix);
        let ip = |args: &str| {
            let args: Vec<&str> = args.split_whitespace().collect();
            ground.host.command("ip", &args).ok();
        };
        ip("link add of-a-pod type veth peer of-a-pod-2");
        ip("link set of-a-pod up");
        ip(&format!("route add {prefix}2/{length} dev of-a-pod"));
        ip("link add of-another type veth peer of-another-2");
        ground
            .host
            .command("ip", &["link", "set", "of-another", "alias", "manx1 net old3 eth0"])
            .ok();
        let container = |id| ground.container(id, "eth0");
        plugin.add(&container("new1")).ok();
        assert_eq!(address(&plugin.add(&container("new2")).ok()), format!("{prefix}4"));
        for _ in 0..2 {
            assert_eq!(plugin.add(&container("new3")).code(), Some(11));
            plugin.status().ok();
        }
        let leases = ground.leases();
        assert_eq!(leases[&format!("{prefix}2")], "old2\r\neth0");
        assert_eq!(leases[&format!("{prefix}3")], "old3\r\neth0");
        ip("link del of-a-pod");
        plugin.status().ok();
        assert_eq!(address(&plugin.add(&container("new3")).ok()), format!("{prefix}2"));
        ip("link del of-another");
        assert_eq!(address(&plugin.add(&container("new4")).ok()), format!("{prefix}3"));
    }
}

/// Files of the older format name no interface; the link may be of any.
#[test]
fn the_older_format_is_kept_by_any_interface_of_its_container() {
    let (ground, plugin) = after_a_boot("10.1.0.");
    for last in 2..=4 {
        lease_long_ago(&ground, &format!("10.1.0.{last}"), &format!("old{last}"));
    }
    ground.host.command("ip", &["link", "add", "of-a-pod", "type", "veth"]).ok();
    ground.host.command("ip", &["link", "set", "of-a-pod", "alias", "manx1 net old3 net1"]).ok();
    for id in ["new1", "new2", "new3"] {
        plugin.add(&ground.container(id, "eth0")).ok();
    }
    assert_eq!(plugin.add(&ground.container("new4", "eth0")).code(), Some(11));
    assert_eq!(ground.leases()["10.1.0.3"], "old3");
}

/// A clock that is set forward makes every lease look older than the boot, and
/// of a bridge's pods neither route nor mark tells that they are alive.
#[test]
fn a_clock_that_is_set_makes_no_lease_old() {
    let ground = Ground::new();
    let ranges =
        json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.3"}]]);
    let plugin = ground.ipam_plugin(Program::Manx, &ground.ipam_of(ranges));
    for id in ["c1", "c2"] {
        let given = address(&plugin.add(&ground.container(id, "eth0")).ok());
        lease_long_ago(&ground, &given, &format!("{id}\r\neth0"));
    }
    assert_eq!(plugin.add(&ground.container("c3", "eth0")).code(), Some(11));
    plugin.status().ok();
    assert_eq!(ground.leases().len(), 2);
}

/// A static pod keeps its container's id over a boot of which its runtime knows
/// nothing: no DEL came.
#[test]
fn the_same_container_takes_its_lease_over() {
    for content in ["again\r\neth0", "again"] {
        let ground = Ground::with_uplink();
        let ipam = ground.ipam(&["10.1.0.0/24"]);
        lease_long_ago(&ground, "10.1.0.77", content);
        let plugin = ground.manx(&ipam);
        let pod = Pod { id: "again".into(), ..Pod::new("a") };
        assert_eq!(address(&plugin.add(&pod).ok()), "10.1.0.77", "{content:?}");
        assert_eq!(ground.leases().into_keys().collect::<Vec<_>>(), ["10.1.0.77"]);
        assert_eq!(plugin.add(&pod).code(), Some(101), "it is of this boot now");
        plugin.del(&pod).ok();
        assert!(ground.leases().is_empty());
    }
}

#[test]
fn a_lease_from_before_the_boot_that_a_link_holds_is_not_taken_over() {
    let ground = Ground::with_uplink();
    lease_long_ago(&ground, "10.1.0.77", "again\r\neth0");
    ground.host.command("ip", &["link", "add", "of-a-pod", "type", "veth"]).ok();
    ground.host.command("ip", &["link", "set", "of-a-pod", "alias", "manx1 net again eth0"]).ok();
    let plugin = ground.manx(&ground.ipam(&["10.1.0.0/24"]));
    let pod = Pod { id: "again".into(), ..Pod::new("a") };
    assert_eq!(plugin.add(&pod).code(), Some(101));
    assert!(ground.leases().contains_key("10.1.0.77"));
}

/// The same behind the real host-local, with files of either format.
#[test]
fn the_same_container_is_served_by_host_local_as_well() {
    for content in ["again\r\neth0", "again"] {
        let ground = Ground::with_uplink();
        let mut ipam = ground.ipam(&["10.1.0.0/24"]);
        ipam["type"] = "host-local".into();
        lease_long_ago(&ground, "10.1.0.77", content);
        let plugin = ground.manx(&ipam);
        let pod = Pod { id: "again".into(), ..Pod::new("a") };
        let given = address(&plugin.add(&pod).ok());
        assert_eq!(ground.leases().into_keys().collect::<Vec<_>>(), [given], "{content:?}");
    }
}
