//! Two calls at once, of which the slower one finds the world changed.

use std::thread;

use serde_json::json;

use crate::harness::{DEADLINE, Pod, eventually};
use crate::network::{Network, host_link};

/// An IPAM plugin that, when the container's id begins with `slow`, waits until
/// the test has written a file, and then gives 10.1.0.5; 10.1.0.6 to others.
const SLOW: &str = "cat >/dev/null\n\
    test $CNI_COMMAND = ADD || exit 0\n\
    case $CNI_CONTAINERID in\n\
    slow*) touch $HERE/waiting; while ! test -e $HERE/go; do sleep 0.02; done; n=5;;\n\
    *) n=6;;\n\
    esac\n\
    echo '{\"ips\":[{\"address\":\"10.1.0.'$n'/24\"}]}'";

/// Starts an ADD of `slow`, runs `meanwhile` while it waits for its address,
/// lets it go on, and gives its reply.
fn overtaken(network: &Network, slow: &Pod, meanwhile: impl FnOnce()) -> crate::harness::Reply {
    let scratch = network.host().scratch();
    thread::scope(|scope| {
        let slow = scope.spawn(|| network.add(slow));
        let waiting = scratch.path().join("waiting");
        let waits = eventually(DEADLINE, || waiting.exists());
        if waits {
            meanwhile();
        }
        scratch.file("go", "");
        let reply = slow.join().unwrap();
        assert!(waits, "the delegate was not called: {reply:?}");
        reply
    })
}

/// calico#10375: an ADD that was held up deletes the link of the pod that the
/// runtime has started in its place.
#[test]
fn an_add_that_was_overtaken_by_a_newer_sandbox_fails_and_harms_nothing() {
    let network = Network::new().script(SLOW);
    let slow = Pod::new("slow").kubernetes("test", "pod1");
    let new = Pod::new("new").kubernetes("test", "pod1");
    let mut result = json!(null);
    let reply = overtaken(&network, &slow, || result = network.add(&new).ok());
    reply.error();
    network.check(&new, &result).ok();
    assert!(new.netns.pings("192.0.2.11"));
    network.del(&slow).ok();
    network.check(&new, &result).ok();
    assert!(slow.netns.links().is_empty());
}

#[test]
fn an_add_that_would_replace_a_sandbox_and_was_overtaken_harms_nothing() {
    let network = Network::new().script(SLOW);
    let [oldest, slow, new] =
        ["oldest", "slow", "new"].map(|name| Pod::new(name).kubernetes("test", "pod1"));
    network.add(&oldest).ok();
    let mut result = json!(null);
    let reply = overtaken(&network, &slow, || {
        network.del(&oldest).ok();
        result = network.add(&new).ok();
    });
    reply.error();
    network.check(&new, &result).ok();
    assert!(new.netns.pings("192.0.2.11"));
}

#[test]
fn a_name_that_somebody_took_meanwhile_outside_kubernetes_is_exchanged() {
    let network = Network::new().script(SLOW);
    let slow = Pod { id: "slow-0000000-one".into(), ..Pod::new("slow") };
    let taken = Pod { id: "slow-0000000-two".into(), ..Pod::new("slow") };
    let name = format!("cali{}", &slow.id[..11]);
    let reply = overtaken(&network, &slow, || {
        let args = ["link", "add", name.as_str(), "type", "bridge"];
        network.host().command("ip", &args).ok();
    });
    let result = reply.ok();
    assert_ne!(host_link(&result), name);
    network.check(&slow, &result).ok();
    network.del(&slow).ok();
    network.del(&taken).ok();
    assert!(network.host().link(&name).is_some(), "what is not ours stays");
}

#[test]
fn a_del_that_overtakes_its_add_is_ok_and_a_second_one_leaves_nothing() {
    let network = Network::new().script(SLOW);
    let before = network.remains();
    let slow = Pod::new("slow");
    let reply = overtaken(&network, &slow, || {
        network.del(&slow).ok();
    });
    reply.ok();
    network.del(&slow).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn the_pods_namespace_may_go_while_ipam_is_asked() {
    let network = Network::new().script(SLOW);
    let before = network.remains();
    let slow = Pod::new("slow");
    let id = slow.id.clone();
    let reply = overtaken(&network, &slow, || {
        slow.netns.command("ip", &["link", "add", "eth0", "type", "bridge"]).ok();
    });
    let error = reply.error();
    assert!(error["msg"].as_str().unwrap().contains("eth0"), "{error}");
    assert_eq!(network.remains(), before, "{id}");
    assert_eq!(slow.netns.links(), ["eth0"]);
}
