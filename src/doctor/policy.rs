// SPDX-License-Identifier: Apache-2.0
//! Whether network policies are enforced where they are expected to be, and what they drop.

use super::{Answer, Seen};
use crate::{
    list::{Gather, PushAll},
    node::{Denied, Snapshot, Surroundings},
    policy::TABLE,
    text::few::some_of,
};

/// The link that kube-proxy gives the addresses of Services to, in mode ipvs.
const IPVS_LINK: &str = "kube-ipvs0";

/// Which policies there are only the API server knows. That some are expected to be in force
/// shows in a configuration, ours or another plugin's, or in what that made.
pub(super) fn policy_unenforced(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::from_iter(dropping(snapshot));
    seen.push_all(later_open(snapshot));
    if snapshot.networks.iter().any(|network| network.enforces_policy) {
        seen.push_all([lost(snapshot), unsaid(snapshot), unkept(snapshot)].into_iter().flatten());
        seen.push_all(bypassed(snapshot));
        return Ok(seen);
    }
    let asks = snapshot.files.iter().filter(|file| file.ours && file.policy);
    let asks: Vec<String> = asks.map(|file| file.path.display().to_string()).gather();
    let chains = snapshot.surroundings.policy_chains;
    let evidence = if !asks.is_empty() {
        format!(
            "{} asks for NetworkPolicy by Calico's object policy, which has no effect",
            some_of(&asks)
        )
    } else if chains > 0 && !snapshot.networks.is_empty() && !snapshot.surroundings.enforces_policy
    {
        format!(
            "{chains} chains of calico-node say that policies were in force, and pods of ours pass none"
        )
    } else if !seen.is_empty() {
        return Ok(seen);
    } else {
        return Err(
            "no configuration asks for NetworkPolicy, and no chains of calico-node say that \
                    there was any; the objects are the API server's"
                .to_owned(),
        );
    };
    let fix = "on Kubernetes manx-agent enforces what kubectl get networkpolicy -A lists, with \
               component network-policy of conf/kubernetes (networkPolicy: true of the chart); \
               without an agent manx policy apply enforces what a file says for the pods of this \
               node, and \"networkPolicy\": \"enforce\" in the configuration lets no later pod be \
               without";
    seen.push(Seen::warning("network policy", evidence).fix(fix));
    Ok(seen)
}

/// What is dropped while one looks: it is what policies ask for, and may be what somebody
/// looks for.
fn dropping(snapshot: &Snapshot) -> Option<Seen> {
    let (before, after) = snapshot.surroundings.load.as_ref()?;
    let mut grown = Vec::new();
    for now in &after.denied {
        let Denied { address, direction, packets } = now;
        let is_it = |one: &&Denied| one.address == *address && one.direction == *direction;
        // Rules that were made in between count from zero.
        let first = before.denied.iter().find(is_it).map_or(0, |first| first.packets);
        let moment = packets.saturating_sub(first);
        if moment > 0 {
            let pod = snapshot.journal.iter().find(|entry| entry.addresses.contains(address));
            let pod = pod.and_then(|entry| entry.pod()).map(|name| format!("{name} "));
            let pod = pod.unwrap_or_default();
            grown.push(format!("{direction} of pod {pod}{address}: {moment}, {packets} in all"));
        }
    }
    let evidence =
        format!("packets that no policy allows were dropped in a moment: {}", some_of(&grown));
    let fix = "if that is not meant: manx explain SOURCE DESTINATION:PORT names the policies that \
               decide, and manx policy show has what was dropped of each pod";
    (!grown.is_empty()).then(|| Seen::info("network policy", evidence).fix(fix))
}

/// Policies are in force for the pods that were there when they were applied, and no
/// configuration puts one under them that comes later.
fn later_open(snapshot: &Snapshot) -> Option<Seen> {
    let files = snapshot.networks.iter().map(|network| network.file.display().to_string());
    let files: Vec<String> = files.gather();
    let evidence = format!(
        "policies are in force for the pods that were there when they were applied; pods that {} \
         makes come up open",
        some_of(&files)
    );
    let fix = "\"networkPolicy\": \"enforce\" there, or manx policy remove if none are wanted";
    let enforces = snapshot.networks.iter().any(|network| network.enforces_policy);
    let is_told = snapshot.surroundings.enforces_policy && !files.is_empty() && !enforces;
    is_told.then(|| Seen::warning("network policy", evidence).fix(fix))
}

/// Policies are to be enforced, and nobody has said which there are.
fn unsaid(snapshot: &Snapshot) -> Option<Seen> {
    let evidence = "\"networkPolicy\": \"enforce\" is configured, and nobody has applied policies since \
                    the node started: a pod that comes waits for them, and then gets what \
                    networkPolicyMissing says";
    let fix = "manx-agent applies them on Kubernetes: see whether it runs; without one \
               manx policy apply WORLD";
    let is_told = snapshot.surroundings.policies_said == Some(false);
    is_told.then(|| Seen::warning("network policy", evidence).fix(fix))
}

/// Who applied policies is away, and nobody follows what changes in the cluster.
fn unkept(snapshot: &Snapshot) -> Option<Seen> {
    let evidence = "an agent applied network policies, and none is at work on this node: changes of pods \
                    and policies have no effect here, and a pod that comes gets what \
                    networkPolicyMissing says";
    let fix = "see what keeps it (kubectl -n manx-system get pods -o wide, and its log); where there \
               is to be none, manx policy apply applies them by hand";
    let surroundings = &snapshot.surroundings;
    let is_told = surroundings.policies_kept && surroundings.agent.is_none();
    is_told.then(|| Seen::warning("manx-agent", evidence).fix(fix))
}

/// What the table lacks of pods on which policies are enforced.
fn lost(snapshot: &Snapshot) -> Option<Seen> {
    let object = || format!("nftables table {TABLE}");
    let differences = differences(snapshot);
    if !differences.is_empty() {
        let evidence = format!("pods that policies isolate may be open: {}", some_of(differences));
        return Some(Seen::error(object(), evidence).fix("manx apply"));
    }
    let evidence = "policies were applied, and their table is gone: pods are open";
    let fix = "manx policy apply WORLD; an agent makes it again by itself";
    is_gone(snapshot).then(|| Seen::error(object(), evidence).fix(fix))
}

/// In what their table is not what it should be.
pub(super) fn differences(snapshot: &Snapshot) -> &[String] {
    let mut tables = snapshot.compared.tables.iter();
    let table = tables.find(|table| table.wanted.name == TABLE);
    table.map(|table| table.held.differences.as_slice()).unwrap_or_default()
}

/// Whether policies were applied to pods that are there, and there is no table of them. Of pods that
/// came before anybody asked for policies nothing else is noted.
pub(super) fn is_gone(snapshot: &Snapshot) -> bool {
    let Surroundings { enforces_policy: is_there, policies_said: said, .. } = snapshot.surroundings;
    !is_there && said == Some(true) && !snapshot.journal.is_empty()
}

/// Where IPVS makes Services, what is sent to one is delivered to the node, which sends it on
/// itself: it passes no rule for packets that are forwarded.
fn bypassed(snapshot: &Snapshot) -> Option<Seen> {
    let is_there = snapshot.kernel.links.iter().any(|link| link.name == IPVS_LINK);
    let evidence = "kube-proxy works in mode ipvs: what pods send to a Service passes no network \
                    policy, and what they send to each other does";
    let fix = "kube-proxy with mode nftables or iptables: the mode is in its ConfigMap; where it \
               works in another one already, ip link delete kube-ipvs0";
    is_there.then(|| Seen::warning(IPVS_LINK, evidence).fix(fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;
    use crate::net::link::Link;
    use crate::node::{File, Load, Network, OfTable};
    use crate::object::{HeldTable, Table};
    use crate::state::Entry;

    #[test]
    fn policies_that_were_in_force_are_told() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network::default());
        assert!(policy_unenforced(&snapshot).is_err(), "nothing tells");
        snapshot.surroundings.policy_chains = 3;
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("3 chains"), "{}", one.evidence);
        assert!(one.fix.contains("component network-policy"), "{}", one.fix);
        let path = "/etc/cni/net.d/10-calico.conflist".into();
        let ours = File { path, ours: true, policy: true, ..Default::default() };
        snapshot.files = vec![File { ours: false, ..ours.clone() }, ours];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("/etc/cni/net.d/10-calico.conflist asks"));
        let all = snapshot.clone();
        snapshot.files.pop();
        snapshot.surroundings.policy_chains = 0;
        assert!(policy_unenforced(&snapshot).is_err(), "another's file");
        // Where it is enforced it does not matter who else asks for it.
        let mut snapshot = all;
        snapshot.networks[0].enforces_policy = true;
        snapshot.surroundings.enforces_policy = true;
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
    }

    #[test]
    fn half_of_what_enforces_policies_is_told() {
        let mut snapshot = Snapshot::default();
        let file = "/etc/cni/net.d/10-manx.conflist".into();
        snapshot.networks.push(Network { file, ..Network::default() });
        snapshot.surroundings.enforces_policy = true;
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert_eq!(one.severity, Severity::Warning);
        let told = "pods that /etc/cni/net.d/10-manx.conflist makes come up open";
        assert!(one.evidence.ends_with(told), "{}", one.evidence);
        snapshot.networks[0].enforces_policy = true;
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
        // Another network may have no need of them.
        snapshot.networks.push(Network::default());
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
        // An ADD makes the table as well, where it knows nothing of its pod.
        for said in [None, Some(true), Some(false)] {
            snapshot.surroundings.policies_said = said;
            let seen = policy_unenforced(&snapshot).unwrap();
            assert_eq!(seen.len(), usize::from(said == Some(false)), "{said:?}");
            let told = |one: &Seen| one.evidence.contains("nobody has applied policies");
            assert!(seen.iter().all(told), "{said:?}");
        }
        // What was applied is gone.
        snapshot.surroundings.enforces_policy = false;
        snapshot.surroundings.policies_said = Some(true);
        assert!(policy_unenforced(&snapshot).unwrap().is_empty(), "there is no pod");
        snapshot.journal = vec![Entry::default()];
        let wanted = Table { name: TABLE.to_owned(), purpose: String::new(), description: None };
        let held = HeldTable { name: TABLE.to_owned(), differences: Vec::new() };
        let nothing = OfTable { network: String::new(), wanted, held, note: None };
        snapshot.compared.tables = vec![nothing];
        let [lost] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(lost.severity == Severity::Error && lost.evidence.contains("their table is gone"));
        snapshot.surroundings.enforces_policy = true;
        // Who applied them is away.
        snapshot.surroundings.policies_said = Some(true);
        snapshot.surroundings.policies_kept = true;
        let seen = policy_unenforced(&snapshot).unwrap();
        assert!(seen.len() == 1 && seen[0].evidence.contains("none is at work"));
        let says = String::new();
        snapshot.surroundings.agent = Some(crate::node::Agent { ready: Some(true), says });
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
    }

    #[test]
    fn what_is_dropped_meanwhile_is_told_and_nothing_is_wrong() {
        let denied = |last: u8, direction: &str, packets| Denied {
            address: [10, 1, 0, last].into(),
            direction: direction.to_owned(),
            packets,
        };
        let mut snapshot = Snapshot::default();
        let (mut before, mut after) = (Load::default(), Load::default());
        before.denied = vec![denied(5, "ingress", 3), denied(6, "egress", 4)];
        after.denied = before.denied.clone();
        snapshot.surroundings.load = Some((before.clone(), after.clone()));
        snapshot.networks.push(Network { enforces_policy: true, ..Network::default() });
        snapshot.surroundings.enforces_policy = true;
        assert!(policy_unenforced(&snapshot).unwrap().is_empty(), "nothing was dropped meanwhile");
        after.denied =
            vec![denied(5, "ingress", 10), denied(6, "egress", 2), denied(7, "egress", 1)];
        snapshot.surroundings.load = Some((before, after));
        let (pod_namespace, pod_name) = (Some("shop".to_owned()), Some("db".to_owned()));
        let addresses = vec![[10, 1, 0, 5].into()];
        let of_pod = Entry { pod_namespace, pod_name, addresses, ..Entry::default() };
        snapshot.journal = vec![of_pod];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert_eq!(one.severity, Severity::Info);
        let told = "in a moment: ingress of pod shop/db 10.1.0.5: 7, 10 in all, egress of pod \
                    10.1.0.7: 1, 1 in all";
        assert!(one.evidence.ends_with(told), "{}", one.evidence);
        assert!(one.fix.contains("manx explain"), "{}", one.fix);
        // So it is where policies are applied by hand.
        snapshot.networks.clear();
        assert_eq!(policy_unenforced(&snapshot).unwrap().len(), 1);
        snapshot.surroundings.load = None;
        assert!(policy_unenforced(&snapshot).is_err());
    }

    #[test]
    fn services_that_go_around_policies_are_told() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network { enforces_policy: true, ..Network::default() });
        snapshot.surroundings.enforces_policy = true;
        let name = "kube-ipvs0".to_owned();
        snapshot.kernel.links.push(Link { name, ..Link::default() });
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert_eq!((one.severity, one.object.as_str()), (Severity::Warning, "kube-ipvs0"));
        assert!(one.fix.contains("nftables or iptables"), "{}", one.fix);
        snapshot.networks[0].enforces_policy = false;
        snapshot.surroundings.enforces_policy = false;
        assert!(policy_unenforced(&snapshot).is_err(), "nothing is enforced that could be passed");
    }

    #[test]
    fn what_the_table_lacks_of_pods_is_an_error() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network { enforces_policy: true, ..Network::default() });
        snapshot.surroundings.enforces_policy = true;
        let table = |name: &str, differences: &[&str]| OfTable {
            network: String::new(),
            wanted: Table { name: name.to_owned(), purpose: String::new(), description: None },
            held: HeldTable {
                name: name.to_owned(),
                differences: differences.iter().map(|&text| text.to_owned()).collect(),
            },
            note: None,
        };
        snapshot.compared.tables = vec![table("manx-x", &["other"]), table(TABLE, &[])];
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
        snapshot.compared.tables = vec![table(TABLE, &["set class-in4 lacks 10.1.0.5 : 7"])];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.ends_with("open: set class-in4 lacks 10.1.0.5 : 7"));
        assert_eq!(
            (one.object.as_str(), one.fix.as_str()),
            ("nftables table manx.policy", "manx apply")
        );
    }
}
