//! What has to be known or done before pods of ours live where another plugin's did. Pure.

use super::{
    found::Remains,
    site::{Former, Site},
};
use crate::{
    finding::{Finding, Severity},
    node::Plugin,
    text::few::some_of,
};

/// What keeps the plan from being carried out.
pub(super) const BLOCKING: [&str; 4] =
    ["former-agent", "configuration-missing", "delegate-missing", "calico-dataplane"];

/// All findings, the worst first.
pub(super) fn findings(site: &Site, remains: &Remains<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        agent(site),
        dataplane(site),
        configuration(site),
        plugin(site),
        chains(site, remains),
        policy(site),
        unavailable(site),
        forwarding(site),
        unknown_pods(remains),
        routes(site, remains),
        addresses(site, remains),
        bridge(site, remains),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

fn agent(site: &Site) -> Option<Finding> {
    let (pid, name) = site.agents.first()?;
    let evidence = format!("it runs with pid {pid}, and takes back what is changed");
    let fix = match site.former {
        Former::Calico => {
            "kubectl -n kube-system patch daemonset calico-node -p '{\"spec\":{\"template\":{\"spec\":\
             {\"nodeSelector\":{\"calico\":\"true\"}}}}}' after kubectl label node calico=true on all \
             nodes that keep it"
        }
        Former::Flannel => {
            "kubectl -n kube-flannel patch daemonset kube-flannel-ds -p '{\"spec\":{\"template\":\
             {\"spec\":{\"nodeSelector\":{\"flannel\":\"true\"}}}}}' after kubectl label node \
             flannel=true on all nodes that keep it"
        }
    };
    Some(of("former-agent", Severity::Error, &format!("process {name}"), evidence, fix))
}

/// What decides about packets besides routes and rules of iptables, which are all that is
/// taken over.
fn dataplane(site: &Site) -> Option<Finding> {
    let cases = [
        ("bpfin.cali", "its programs of eBPF stay at the links of pods", "bpfEnabled"),
        ("wireguard.cali", "other nodes encrypt what they send here", "wireguardEnabled"),
    ];
    let has = |name: &str| site.snapshot.kernel.links.iter().any(|link| link.name == name);
    let (device, evidence, key) =
        cases.into_iter().find(|(name, ..)| site.former == Former::Calico && has(name))?;
    let fix = format!(
        "before calico-node is stopped: kubectl patch felixconfiguration default --type merge -p \
         '{{\"spec\":{{\"{key}\":false}}}}'"
    );
    let (object, evidence) = (format!("device {device}"), evidence.to_owned());
    Some(of("calico-dataplane", Severity::Error, &object, evidence, &fix))
}

fn configuration(site: &Site) -> Option<Finding> {
    if site.ours.is_some() {
        return None;
    }
    let evidence = "no file in /etc/cni/net.d has a plugin of type manx".to_owned();
    let fix = "let manx-agent write one, or manx install --conf FILE, which takes effect when the \
               other is moved away";
    Some(of("configuration-missing", Severity::Error, "configuration", evidence, fix))
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
        .rules
        .iter()
        .map(|rules| format!("{} {}", rules.backend.name(), rules.family.word()))
        .collect();
    let own = site.tables.iter().map(|(family, name)| format!("nftables {family} {name}"));
    let places: Vec<String> = places.into_iter().chain(own).collect();
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
            "the plan removes them; or set hostPrefix to something else than cali",
        ),
        Former::Flannel if !remains.pods.is_empty() || remains.bridged > 0 => (
            Severity::Info,
            format!("{} serve the pods behind the bridge, and stay for them", some_of(&places)),
            "run this command again when the last of these pods is gone",
        ),
        Former::Flannel => (
            Severity::Info,
            format!("{} serve no pod any more", some_of(&places)),
            "the plan removes them",
        ),
    };
    let id = if site.former == Former::Calico { "calico-chains" } else { "former-chains" };
    Some(of(id, severity, "firewall", evidence, fix))
}

/// Nobody enforces what Felix did.
fn policy(site: &Site) -> Option<Finding> {
    let is_policy = |chain: &&String| {
        ["cali-pi-", "cali-po-", "cali-pri-", "cali-pro-"]
            .iter()
            .any(|prefix| chain.starts_with(prefix))
    };
    let chains = site.rules.iter().flat_map(|rules| &rules.left).flat_map(|left| &left.chains);
    let count = chains.filter(is_policy).count();
    let evidence = match (site.former, count, site.tables.is_empty()) {
        (Former::Flannel, ..) | (_, 0, true) => return None,
        (_, 0, false) => "the policies of Felix's own table are enforced no more".to_owned(),
        _ => format!("the policies and profiles of {count} chains are enforced no more"),
    };
    let fix = "keep pods that need them on other nodes";
    Some(of("policy-unenforced", Severity::Warning, "network policy", evidence, fix))
}

/// A taint that only an agent that is gone would take away.
fn unavailable(site: &Site) -> Option<Finding> {
    let node = match &site.node {
        Ok(node) => node,
        Err(reason) => {
            let evidence = format!("whether NetworkUnavailable is set was not seen: {reason}");
            let fix = "kubectl get node NAME -o jsonpath='{.status.conditions}'";
            return Some(of("network-unavailable", Severity::Info, "node", evidence, fix));
        }
    };
    let reason = node.unavailable.as_ref()?;
    let object = format!("node {}", node.name);
    let evidence = format!("NetworkUnavailable is true ({reason}): no new pod is scheduled here");
    let fix = format!(
        "when the plan is done: kubectl patch node {} --subresource=status -p \
         '{{\"status\":{{\"conditions\":[{{\"type\":\"NetworkUnavailable\",\"status\":\"False\",\
         \"reason\":\"ManxIsUp\"}}]}}}}'",
        node.name
    );
    Some(of("network-unavailable", Severity::Warning, &object, evidence, &fix))
}

fn forwarding(site: &Site) -> Option<Finding> {
    let drops = site.rules.iter().find(|rules| rules.left.iter().any(|left| left.forward_drops))?;
    if site.former == Former::Flannel {
        return None;
    }
    let tool = format!("{}tables", drops.family.word());
    let evidence = format!(
        "chain FORWARD of {} drops by its policy, and the rules of Felix that accept go",
        drops.backend.name()
    );
    let fix = format!(
        "{tool} -I FORWARD -i cali+ -j ACCEPT; {tool} -I FORWARD -o cali+ -j ACCEPT, at each boot"
    );
    Some(of("forward-drop", Severity::Warning, "hook forward", evidence, &fix))
}

fn unknown_pods(remains: &Remains<'_>) -> Option<Finding> {
    let names: Vec<&str> = remains.unknown.iter().map(|link| link.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let evidence = format!("no file in /var/lib/cni/results tells whose {} is", some_of(&names));
    let fix = "if they are of pods, delete these pods; else ip link del";
    Some(of("pod-unknown", Severity::Warning, "links of pods", evidence, fix))
}

/// Routes that nobody will keep true.
fn routes(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let outside = remains.routes.iter().filter(|route| !site.covers(route.route.destination));
    let outside: Vec<String> = outside.map(|route| route.route.destination.to_string()).collect();
    if outside.is_empty() {
        return None;
    }
    let evidence = match site.protocol() {
        Some(_) => format!("{} are in no podCIDR of the peers file, and stay", some_of(&outside)),
        None => format!("{} stay, for there is no peers file that leads there", some_of(&outside)),
    };
    let fix = "put these networks into the podCIDRs of their nodes, or remove the routes when no pod \
               is there";
    Some(of("fabric-conflict", Severity::Warning, "routes", evidence, fix))
}

/// Addresses that our own pool does not know to be taken.
fn addresses(site: &Site, remains: &Remains<'_>) -> Option<Finding> {
    let ours = site.ours.as_ref()?;
    let pool = site.snapshot.networks.first()?.pool.as_ref()?;
    let all = remains.pods.iter().flat_map(|pod| &pod.cached.entry.addresses);
    let outside: Vec<String> = all
        .filter(|address| !pool.ranges.iter().any(|range| range.contains(**address)))
        .map(ToString::to_string)
        .collect();
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
        0 => ("no pod is behind it any more".to_owned(), format!("ip link del {}", bridge.name)),
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
