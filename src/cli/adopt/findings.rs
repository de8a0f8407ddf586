// SPDX-License-Identifier: Apache-2.0
//! What has to be known or done before pods of ours live where another plugin's did. Pure.

use serde_json::json;

use super::{
    dataplane,
    found::Remains,
    site::{Former, Rules, Site},
    sources,
    steps::{Step, steps},
    taken,
};
use crate::{
    cli::forward::POLICIES,
    finding::{Finding, Severity},
    list::{Gather, Ordered, PushAll},
    net::route::Found,
    node::{Barrier, Plugin},
    object::{Action, Kind},
    text::{few::some_of, shell::quoted},
};

/// The label of nodes whose pods are ours.
const MOVED: &str = "manx/node";

/// What keeps the plan from being carried out.
const BLOCKING: [&str; 9] = [
    "former-agent",
    "configuration-missing",
    "delegate-missing",
    "pod-unknown",
    "pool-unknown",
    "former-rules-unread",
    "forward-drop",
    "calico-dataplane",
    "route-orphaned",
];

/// Whether a finding does.
pub(super) fn blocks(finding: &Finding) -> bool {
    finding.severity == Severity::Error && BLOCKING.contains(&finding.id)
}

/// Whether the plan itself mends it.
pub(super) fn is_mended(finding: &Finding) -> bool {
    ["calico-chains", "former-chains"].contains(&finding.id)
}

/// All findings, the worst first.
pub(super) fn findings(site: &Site, remains: &Remains<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        agent(site),
        configuration(site),
        plugin(site),
        chains(site, remains),
        unread(site),
        pool(site),
        policy(site),
        sources::lost(site),
        unavailable(site),
        forwarding(site, remains),
        unknown_pods(remains),
        disputed(site, remains),
        orphans(site, remains),
        schedulable(site, remains),
        routes(site, remains),
        addresses(site, remains),
        bridge(site, remains),
    ]
    .into_iter()
    .flatten()
    .chain(dataplane::findings(site))
    .gather();
    found.order_by_key(|finding| finding.severity);
    found
}

fn agent(site: &Site) -> Option<Finding> {
    let (pid, name) = site.agents.first()?;
    let evidence = format!("it runs with pid {pid}, and takes back what is changed");
    let fix = match site.former {
        Former::Flannel if name.starts_with("k3s") => {
            "restart it with --flannel-backend=none (on servers), and move its 10-flannel.conflist away"
                .to_owned()
        }
        Former::Calico => kept_away("kube-system", "calico-node"),
        Former::Flannel => kept_away("kube-flannel", "kube-flannel-ds"),
    };
    Some(of("former-agent", Severity::Error, &format!("process {name}"), evidence, &fix))
}

/// How a DaemonSet leaves one node, and stays on the others and on those that join. The
/// patch takes the place of what it said of nodes, which was their system.
fn kept_away(namespace: &str, name: &str) -> String {
    let of_linux = json!({"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]});
    let unmoved = json!({"key": MOVED, "operator": "DoesNotExist"});
    let terms = json!([{"matchExpressions": [of_linux, unmoved]}]);
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = json!({"nodeAffinity": {required: {"nodeSelectorTerms": terms}}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}});
    format!(
        "keep it from this node: kubectl -n {namespace} patch daemonset {name} -p '{patch}' && \
         kubectl label node NAME {MOVED}=true"
    )
}

fn configuration(site: &Site) -> Option<Finding> {
    let directory = site.directory.display();
    let (evidence, fix) = match &site.ours {
        Some(ours) if ours.listed.is_some() => return None,
        Some(ours) => (
            format!("{} is not in {directory}, where the runtime looks", ours.path.display()),
            format!("put it into {directory}, or name the runtime's directory with --conf-dir"),
        ),
        None => (
            format!("no file in {directory} has a plugin of type manx"),
            "let manx-agent write one, or manx install --conf FILE, which takes effect when the \
             other is moved away"
                .to_owned(),
        ),
    };
    Some(of("configuration-missing", Severity::Error, "configuration", evidence, &fix))
}

/// The runtime would find a configuration, and nobody to call.
fn plugin(site: &Site) -> Option<Finding> {
    let mut plugins = site.snapshot.surroundings.plugins.iter();
    let missing = |plugin: &Plugin| Some((plugin.kind.clone(), plugin.problem.clone()?));
    let (kind, problem) = plugins.find_map(missing)?;
    let fix = "manx install --no-conf, and install the other plugins that the configuration names";
    Some(of("delegate-missing", Severity::Error, &format!("plugin {kind}"), problem, fix))
}

/// Felix leads all links of its name to chains that drop those which it does not know.
fn chains(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let places: Vec<String> = site
        .firewall
        .rules
        .iter()
        .map(|rules| format!("{} {}", rules.backend.name(), rules.family.word()))
        .gather();
    let own = site.firewall.tables.iter().map(|(family, name)| format!("nftables {family} {name}"));
    let places: Vec<String> = places.into_iter().chain(own).gather();
    if places.is_empty() {
        return None;
    }
    let (severity, evidence, fix) = match site.former {
        Former::Calico => (
            Severity::Error,
            format!(
                "{} drop what comes from a link that calico-node has not seen",
                some_of(&places)
            ),
            "--apply removes them (or set hostPrefix of our configuration to something else than cali)",
        ),
        Former::Flannel if remains.needs_rules(site) => (
            Severity::Info,
            format!("{} serve the pods behind the bridge, and stay for them", some_of(&places)),
            "run this command again when the last of these pods is gone",
        ),
        Former::Flannel => (
            Severity::Info,
            format!("{} serve no pod any more", some_of(&places)),
            "--apply removes them",
        ),
    };
    let id = if site.former == Former::Calico { "calico-chains" } else { "former-chains" };
    Some(of(id, severity, "firewall", evidence, fix))
}

/// Nobody enforces what Felix did, unless our own table does already.
fn policy(site: &Site) -> Option<Finding> {
    let asks = site.snapshot.networks.iter().any(|network| network.enforces_policy);
    if asks && site.snapshot.surroundings.enforces_policy {
        return None;
    }
    let is_policy = |chain: &&String| POLICIES.iter().any(|prefix| chain.starts_with(prefix));
    let chains =
        site.firewall.rules.iter().flat_map(|rules| &rules.left).flat_map(|left| &left.chains);
    let count = chains.filter(is_policy).count();
    let evidence = match (site.former, count, site.firewall.tables.is_empty()) {
        (Former::Flannel, ..) | (_, 0, true) => return None,
        (_, 0, false) => "the policies of Felix's own table are enforced no more".to_owned(),
        _ => format!("the policies and profiles of {count} chains are enforced no more"),
    };
    let fix = "set \"networkPolicy\": \"enforce\" in our configuration and run manx policy apply \
               first, or keep pods that need them on other nodes";
    Some(of("policy-unenforced", Severity::Warning, "network policy", evidence, fix))
}

/// A taint that only an agent that is gone would take away.
fn unavailable(site: &Site) -> Option<Finding> {
    let node = match &site.node {
        Ok(node) => node,
        Err(reason) => {
            let evidence =
                format!("whether its condition NetworkUnavailable is True is not known: {reason}");
            let fix = "where kubectl works: kubectl get node NAME -o jsonpath='{.status.conditions[?\
                       (@.type==\"NetworkUnavailable\")].status}' says False, or nothing";
            return Some(of("network-unavailable", Severity::Info, "node", evidence, fix));
        }
    };
    let reason = node.unavailable.as_ref()?;
    let object = format!("node {}", node.name);
    let evidence = format!("NetworkUnavailable is true ({reason}): no new pod is scheduled here");
    let fix = format!(
        "after --apply: kubectl patch node {} --subresource=status -p \
         '{{\"status\":{{\"conditions\":[{{\"type\":\"NetworkUnavailable\",\"status\":\"False\",\
         \"reason\":\"ManxIsUp\"}}]}}}}'",
        node.name
    );
    Some(of("network-unavailable", Severity::Warning, &object, evidence, &fix))
}

/// Rules of an agent let pods' packets pass what else drops them.
fn forwarding(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let mut barriers: Vec<(&Rules, &Barrier)> = Vec::new();
    for rules in &site.firewall.rules {
        barriers.push_all(rules.barriers.iter().map(|barrier| (rules, barrier)));
    }
    // The worst first, and all that is to be done.
    barriers.order_by_key(|(_, barrier)| !barrier.certain);
    let (rules, first) = barriers.first().filter(|_| !remains.needs_rules(site))?;
    let evidence = format!(
        "without the rules of {}, in {}: {}",
        site.former.name(),
        rules.backend.name(),
        first.text
    );
    let mut fixes: Vec<&str> = Vec::new();
    for (_, barrier) in barriers.iter().filter(|(_, barrier)| !barrier.fix.is_empty()) {
        if !fixes.contains(&barrier.fix.as_str()) {
            fixes.push(&barrier.fix);
        }
    }
    let fix = match fixes[..] {
        [] => "accept there what pods send and get".to_owned(),
        _ => fixes.join("; "),
    };
    let severity = if first.certain { Severity::Error } else { Severity::Warning };
    Some(of("forward-drop", severity, "hook forward", evidence, &fix))
}

/// Nothing is done on the strength of what was not seen.
fn unread(site: &Site) -> Option<Finding> {
    let unread = &site.firewall.unread;
    if unread.is_empty() {
        return None;
    }
    let evidence = some_of(unread);
    let fix = "install the tool of that backend (iptables, nftables), and see that it lists them";
    Some(of("former-rules-unread", Severity::Error, "firewall", evidence, fix))
}

/// Pods whose addresses are not leased lose them to new ones.
fn pool(site: &Site) -> Option<Finding> {
    let ours = site.ours.as_ref()?;
    let network = site.snapshot.networks.first();
    let fabric = network.and_then(|network| network.fabric.as_ref());
    let of_pool = network.and_then(|network| network.pool.as_ref());
    let (evidence, fix) = match (network, of_pool, fabric.and_then(|it| it.problem.as_ref())) {
        (None, ..) => ("the network cannot be read".to_owned(), "see: manx doctor"),
        (_, _, Some(problem)) => (problem.clone(), "see: manx doctor"),
        (_, Some(pool), _) if pool.problem.is_some() || pool.ranges.is_empty() => (
            pool.problem.clone().unwrap_or_else(|| "it has no range".to_owned()),
            "the peers file has to have this node's podCIDR, or ipam its ranges: see manx ipam show",
        ),
        _ => return None,
    };
    let evidence = format!("which addresses are its own is not known: {evidence}");
    let object = format!("network {}", ours.network);
    Some(of("pool-unknown", Severity::Error, &object, evidence, fix))
}

fn unknown_pods(remains: &Remains<'_>) -> Option<Finding> {
    let names: Vec<&str> = remains.unknown.iter().map(|link| link.name.as_str()).gather();
    if names.is_empty() {
        return None;
    }
    let evidence = format!(
        "no file in /var/lib/cni/results tells whose {} is, with the addresses that it leads to",
        some_of(&names)
    );
    let fix = format!(
        "delete the pods that have these addresses; where no pod has: ip link del {}",
        quoted(names.first().unwrap_or(&"NAME"))
    );
    Some(of("pod-unknown", Severity::Error, "links of pods", evidence, &fix))
}

/// The DEL of the one would take the other's link.
fn disputed(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let link = remains.disputed.first()?;
    let claims = site.cached.iter().filter(|cached| cached.link == Some(link.index));
    let claims: Vec<&str> = claims.map(|cached| cached.entry.container_id.as_str()).gather();
    let evidence = format!("the notes of {} name it, with one address", some_of(&claims));
    let fix = "crictl pods shows which of them is there: remove the file of the other from \
               /var/lib/cni/results";
    let object = format!("link {}", link.name);
    Some(of("pod-unknown", Severity::Error, &object, evidence, fix))
}

/// Routes by a tunnel that becomes ours lose there what leads to their next hops.
fn orphans(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let steps = steps(site, remains);
    let compared = taken::compared(site, &steps);
    let lines = compared.told(&compared.plans());
    let goes = |found: &&&Found, name: &str| {
        let gateway = found.route.gateway.map(|gateway| format!("neighbour {gateway} dev {name}"));
        lines.iter().any(|line| match line.action {
            Action::Delete if Some(&line.object) == gateway.as_ref() => true,
            _ => line.kind == Kind::Link && line.object == format!("link {name}"),
        })
    };
    let mut orphans = Vec::new();
    for step in &steps {
        let Step::Tunnel { index, name, .. } = step else { continue };
        let outside = remains.routes.iter().filter(|it| !site.covers(it.route.destination));
        let by_it = outside.filter(|it| it.devices.contains(index));
        orphans
            .push_all(by_it.filter(|it| goes(it, name)).map(|it| it.route.destination.to_string()));
    }
    if orphans.is_empty() {
        return None;
    }
    let evidence = format!(
        "{} are in no podCIDR of the peers file, and would lead nowhere when the tunnel is ours",
        some_of(&orphans)
    );
    let fix = "put these networks into the podCIDRs of their nodes, or remove the routes when no pod \
               is there";
    Some(of("route-orphaned", Severity::Error, "routes", evidence, fix))
}

/// New pods get Calico's links until its configuration is moved away.
fn schedulable(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let node = site.node.as_ref().ok()?;
    if node.cordoned || node.unavailable.is_some() || remains.files.is_empty() {
        return None;
    }
    let evidence = "new pods may come while it is taken over".to_owned();
    let fix = format!("kubectl cordon {0}, and kubectl uncordon {0} afterwards", node.name);
    Some(of("node-schedulable", Severity::Warning, &format!("node {}", node.name), evidence, &fix))
}

/// Routes that nobody will keep true.
fn routes(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let outside = remains.routes.iter().filter(|route| !site.covers(route.route.destination));
    let outside: Vec<String> = outside.map(|route| route.route.destination.to_string()).gather();
    if outside.is_empty() {
        return None;
    }
    let evidence = match site.protocol() {
        Some(_) => {
            format!("left as they are, in no podCIDR of the peers file: {}", some_of(&outside))
        }
        None => format!("left as they are, for there is no peers file: {}", some_of(&outside)),
    };
    let fix = "put these networks into the podCIDRs of their nodes, or remove the routes when no pod \
               is there";
    Some(of("fabric-conflict", Severity::Warning, "routes", evidence, fix))
}

/// Addresses that our own pool does not know to be taken.
fn addresses(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let ours = site.ours.as_ref()?;
    let pool = site.pool()?;
    let all = remains.pods.iter().flat_map(|pod| &pod.cached.entry.addresses);
    let outside: Vec<String> = all
        .filter(|address| !pool.ranges.iter().any(|range| range.contains(**address)))
        .map(ToString::to_string)
        .gather();
    if outside.is_empty() {
        return None;
    }
    let evidence = format!(
        "{} of pods that live are in no range of {}: whoever gave them takes them back",
        some_of(&outside),
        ours.network
    );
    let fix = match site.former {
        Former::Calico => "nothing: calico-kube-controllers does when the pods are gone",
        Former::Flannel => "nothing: no other pod gets them",
    };
    Some(of("lease-out-of-range", Severity::Info, "addresses", evidence, fix))
}

fn bridge(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let bridge = remains.bridge.filter(|_| site.former == Former::Flannel)?;
    let count = remains.pods.len() + remains.bridged;
    let object = format!("bridge {}", bridge.name);
    let (evidence, fix) = match count {
        0 => (
            "no pod is behind it any more".to_owned(),
            format!("ip link del {}", quoted(&bridge.name)),
        ),
        _ => (
            format!(
                "pods that stay behind it while they live: {count}; they reach new ones by proxy ARP"
            ),
            "IPv6 between them and new pods of this node does not work: delete them one by one"
                .to_owned(),
        ),
    };
    Some(of("former-bridge", Severity::Info, &object, evidence, &fix))
}

fn of(id: &'static str, severity: Severity, object: &str, evidence: String, fix: &str) -> Finding {
    Finding { fix: fix.to_owned(), ..Finding::new(id, severity, object, evidence) }
}
