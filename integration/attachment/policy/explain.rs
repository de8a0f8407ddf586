// SPDX-License-Identifier: Apache-2.0
//! What explain tells of a packet that network policies judge.

use super::*;

/// The kernel's table is what explain goes by, and what it says is so.
#[test]
fn explain_names_the_policies_that_decide() {
    let network = enforcing();
    let [web, client, other] =
        [("web", "u1"), ("client", "u2"), ("other", "u3")].map(|(name, uid)| pod(name, uid));
    let results = [&web, &client, &other].map(|pod| network.add(pod).ok());
    let world =
        [known("web", "u1"), known("client", "u2"), known("other", "u3"), only("web", "client")];
    apply(&network, &world);
    let [v4, _] = addresses(&results[0]);
    let list = json!({"kind": "List", "items": world}).to_string();
    let file = network.host().scratch().file("given.json", &list).display().to_string();
    for (from, pod, is_allowed) in [("test/client", &client, true), ("test/other", &other, false)] {
        assert!(if is_allowed { pod.netns.pings(&v4) } else { pod.netns.keeps_silent(&v4) });
        for more in [&[][..], &["--policies", &file]] {
            let told = manx(&network, &[&["explain", from, "test/web:80"], more].concat());
            let said = &told.stdout;
            assert_eq!(told.status == 3, !is_allowed, "{told:?}");
            assert!(said.contains("isolated by test/only-client"), "{said}");
            let by_names = "policies     ingress of pod test/web: allowed by test/only-client";
            assert_eq!(said.contains(by_names), is_allowed && !more.is_empty(), "{said}");
            let why = "no policy allows tcp 80: ingress of pod test/web is isolated";
            assert_eq!(said.contains(why), !is_allowed, "{said}");
        }
    }
    // A bundle knows it as well.
    let bundle = network.host().scratch().path().join("node.gz").display().to_string();
    manx(&network, &["bundle", &bundle]).ok();
    let arguments = ["explain", "--bundle", &bundle, "test/other", "test/web:80"];
    let told = network.host().command(MANX, &arguments);
    assert!(told.stdout.contains("isolated by test/only-client"), "{told:?}");
}
