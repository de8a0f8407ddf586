// SPDX-License-Identifier: Apache-2.0
//! conf/config.schema.json: it accepts what is shipped, and what it accepts, an ADD does.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::schema::agrees;
use crate::input::wrong_values;

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn conf(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

#[test]
fn what_is_shipped_is_as_the_schema_says() {
    let schema = read(&conf("config.schema.json"));
    let mut seen = 0;
    for directory in ["", "examples", "two-nodes"] {
        let files = fs::read_dir(conf(directory)).unwrap().map(|file| file.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|end| end == "conflist")) {
            let list = read(&file);
            let ours = |plugin: &&Value| plugin["type"] == "manx" || plugin["type"] == "calico";
            for plugin in list["plugins"].as_array().unwrap().iter().filter(ours) {
                assert!(agrees(&schema, plugin), "{}: {plugin}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "{seen} configurations");
}

#[test]
fn what_is_refused_is_not_as_the_schema_says() {
    let schema = read(&conf("config.schema.json"));
    let with = |key: &str, value: &Value| {
        let mut plugin = json!({"type": "manx", "ipam": {"type": "manx-ipam"}});
        plugin[key] = value.clone();
        agrees(&schema, &plugin)
    };
    // What is no next hop, and what is wrong beside other keys only.
    let unsaid = |key, value: &Value| {
        (key == "gateway" && value.as_str().is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()))
            || (key, value) == ("mtuMode", &json!("route"))
    };
    for (key, value, _) in wrong_values() {
        assert_eq!(with(key, &value), unsaid(key, &value), "{key}: {value}");
    }
    for (key, value) in [
        ("mtu", json!(0)),
        ("mtu", json!(1450)),
        ("mode", json!("vxlan")),
        ("crossSubnet", json!("route")),
        ("vxlan", json!({"vni": 1, "port": 8472, "device": "flannel.1"})),
        ("num_queues", json!(4)),
        ("container_settings", json!({"allow_ip_forwarding": true})),
        ("kubernetes", json!({"kubeconfig": "/x"})),
        ("cni.dev/attachments", json!([])),
        (
            "ipam",
            json!({"type": "host-local", "subnet": "usePodCidr", "routes": [{"dst": "::/0"}]}),
        ),
        (
            "ipam",
            json!({"type": "host-local", "ranges": [[{"subnet": "fd00::/64", "rangeEnd": ""}]]}),
        ),
        ("ipam", json!({"type": "static", "addresses": [{"address": "10.0.0.2/24"}]})),
    ] {
        assert!(with(key, &value), "{key}: {value}");
    }
    for (key, value) in [
        ("ipMsaq", json!(true)),
        ("vxlan", json!({"vnid": 1})),
        ("vxlan", json!({"port": 0})),
        ("ipam", json!({})),
        ("ipam", json!({"type": "manx-ipam", "rotes": []})),
        ("ipam", json!({"type": "manx-ipam", "ranges": [[{"subnet": "10.0.0.0"}]]})),
        ("ipam", json!({"type": "manx-ipam", "ranges": [[{"rangeStart": "10.0.0.1"}]]})),
    ] {
        assert!(!with(key, &value), "{key}: {value}");
    }
}
