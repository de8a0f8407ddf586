// SPDX-License-Identifier: Apache-2.0
//! What others do to the table of policies, as the commands that look after the node tell and mend it.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{
    MANX, addresses, apply, enforcing, is_applied, is_under_policy, known, manx, only, pod, shown,
};
use crate::harness::{DEADLINE, eventually};
use crate::network::Network;

/// `manx apply --watch`, ended with the test.
struct Watch(Child);

impl Watch {
    fn start(network: &Network) -> Self {
        let mut command = Command::new(MANX);
        command.args(["apply", "--watch", "--root"]).arg(network.root(""));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(network.host().enter(|| command.spawn().unwrap()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plan, doctor and an apply of the node see what others did to the table; a watch puts it
/// right by itself.
#[test]
fn doctor_tells_what_the_table_lacks_and_apply_mends_it() {
    let network = enforcing();
    let world = [known("web", "u1"), only("web", "client")];
    apply(&network, &world);
    let web = pod("web", "u1");
    let result = network.add(&web).ok();
    let file = network.root("etc/cni/net.d/10-manx.conflist");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut plugin = network.conf.clone();
    let (version, name) = (plugin["cniVersion"].take(), plugin["name"].take());
    plugin.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    plugin["policy"] = json!({"type": "k8s"});
    let list = json!({"cniVersion": version, "name": name, "plugins": [plugin]});
    fs::write(&file, list.to_string()).unwrap();
    let doctor = || manx(&network, &["doctor", "--only", "policy-unenforced"]);
    let plan = || manx(&network, &["plan"]);
    let quiet = doctor();
    assert_eq!(quiet.status, 0, "{quiet:?}");
    manx(&network, &["apply"]).ok();
    assert_eq!(plan().status, 0, "{:?}", plan());
    let [v4, _] = addresses(&result);
    let element = format!("{{ {v4} }}");
    let damages: [&[&str]; 4] = [
        &["delete", "element", "inet", "manx.policy", "class-in4", &element],
        &["flush", "map", "inet", "manx.policy", "class-in4"],
        &["flush", "chain", "inet", "manx.policy", "ingress4"],
        &["flush", "ruleset"],
    ];
    for damage in damages {
        network.host().command("nft", damage).ok();
        let told = doctor();
        assert_eq!(told.status, 3, "{damage:?}: {told:?}");
        for words in ["error: policy-unenforced", "nftables table manx.policy", "fix: manx apply"] {
            assert!(told.stdout.contains(words), "{words}: {told:?}");
        }
        let planned = plan();
        let line = "~ nftables table manx.policy: ";
        assert!(planned.status == 3 && planned.stdout.contains(line), "{planned:?}");
        manx(&network, &["apply"]).ok();
        assert_eq!(doctor().status, 0, "{damage:?}");
        is_under_policy(&network, &result);
        network.check(&web, &result).ok();
        is_applied(&network, &world);
    }
    let watch = Watch::start(&network);
    for damage in damages {
        network.host().command("nft", damage).ok();
        let is_back = || shown(&network)["pods"].as_array().is_some_and(|pods| pods.len() == 2);
        assert!(eventually(DEADLINE, || is_back() && doctor().status == 0), "{damage:?}");
    }
    drop(watch);
    is_applied(&network, &world);
    // Without a pod nobody is open.
    network.del(&web).ok();
    network.host().command("nft", &["flush", "ruleset"]).ok();
    assert_eq!(doctor().status, 0);
    // Calico's object asks in vain where nothing is enforced.
    let list = list.to_string().replace("\"enforce\"", "\"off\"");
    fs::write(&file, list).unwrap();
    let told = doctor();
    assert!(told.status == 3 && told.stdout.contains("object policy"), "{told:?}");
}
