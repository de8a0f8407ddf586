// SPDX-License-Identifier: Apache-2.0
//! Checks of packets that the kernel drops for the device that they came by.

use super::{Answer, Seen, links};
use crate::{
    list::{Gather, PushAll},
    net::link::Link,
    node::Kernel,
    node::Snapshot,
    object::reverse_path as key,
    pod::identity::GROUPS,
    text::few::some_of,
};

/// `rp_filter`: only the device by which the way back leads.
const STRICT: u64 = 1;
/// Any device, if there is a way back at all.
const LOOSE: u64 = 2;

/// Strict devices harm nobody whose packets come and go by the same one, unless packets are
/// dropped now. The greater of the device's value and that of all holds.
///
/// The kernel counts for all devices together. Those that lead to other nodes are told how
/// to let such packets in; at others, as links of pods are, it keeps them from sending in
/// other names, and that stays.
pub(super) fn rp_filter(snapshot: &Snapshot) -> Answer {
    let (before, after) = snapshot.surroundings.reverse_path.unwrap_or_default();
    let dropped = after.saturating_sub(before);
    let mut seen = Vec::new();
    if dropped > 0 {
        let counted = format!(
            "{dropped} packets in a moment, and {after} since boot, came by another device than the \
             way back to their source, and were dropped"
        );
        seen.push_all(told(snapshot, &counted));
    }
    seen.push_all(links::rp_filter(snapshot)?);
    Ok(seen)
}

/// Whose packets they may be.
fn told(snapshot: &Snapshot, counted: &str) -> Option<Seen> {
    let kernel = &snapshot.kernel;
    let all = kernel.number(&key("all")).unwrap_or_default();
    // What comes by links of our pods is looked at before the kernel does.
    let devices =
        kernel.links.iter().filter(|link| link.name != "lo" && !GROUPS.contains(&link.group));
    let strict = devices
        .filter_map(|link| Some((link, kernel.number(&key(&link.name))?)))
        .filter(|(_, own)| all.max(*own) == STRICT);
    let (ways, others): (Vec<(&Link, u64)>, Vec<_>) =
        strict.partition(|(link, _)| leads_on(link, snapshot));
    let names = |devices: &[(&Link, u64)]| {
        let names: Vec<&str> = devices.iter().map(|(link, _)| link.name.as_str()).gather();
        some_of(&names)
    };
    let or_a_pod = format!("at {}, as where a pod sends with a source of others", names(&others));
    let (at, of): (String, fn(&str, String) -> Seen) = match (ways.is_empty(), others.is_empty()) {
        (true, true) => return None,
        (true, false) => {
            let fix = "nothing for the node: sysctl -w net.ipv4.conf.all.log_martians=1 lets the \
                       kernel's log name such packets";
            let evidence = format!("{counted}: rp_filter is strict {or_a_pod}");
            return Some(Seen::info("rp_filter", evidence).fix(fix));
        }
        (false, true) => {
            (format!("at {}", names(&ways)), |object, evidence| Seen::warning(object, evidence))
        }
        // While a mode changes, packets of peers come by one device and go by another.
        (false, false) => (
            format!("at {}, and {or_a_pod}", names(&ways)),
            match is_changing(snapshot) {
                true => |object, evidence| Seen::warning(object, evidence),
                false => |object, evidence| Seen::info(object, evidence),
            },
        ),
    };
    let set = |value: &dyn Fn(u64) -> u64| {
        let pair = |(link, own): &(&Link, u64)| format!("{}={}", key(&link.name), value(*own));
        let pairs: Vec<String> = ways.iter().map(pair).gather();
        format!("sysctl -w {}", pairs.join(" "))
    };
    let seen = of("rp_filter", format!("{counted}: rp_filter is strict {at}"));
    Some(seen.fix(set(&|_| LOOSE)).undo(set(&|own| own)))
}

/// Whether packets of peers may come in two ways just now.
fn is_changing(snapshot: &Snapshot) -> bool {
    let mut fabrics = snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
    fabrics.any(|fabric| fabric.accepts.is_some())
}

/// Whether packets of other nodes come by it: it has an address that the fabric goes by, or
/// a way through somebody.
fn leads_on(link: &Link, snapshot: &Snapshot) -> bool {
    let kernel: &Kernel = &snapshot.kernel;
    let mut fabrics = snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
    let mut own = kernel.addresses.iter().filter(|(index, _)| *index == link.index);
    let is_way = |(_, address): &(u32, ipnetwork::IpNetwork)| {
        address.is_ipv4() && fabrics.any(|fabric| fabric.addresses.contains(&address.ip()))
    };
    own.any(is_way)
        || kernel.routes.iter().any(|found| {
            let is_ipv4 = found.route.destination.is_ipv4();
            is_ipv4 && !found.gateways.is_empty() && found.devices.contains(&link.index)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::Severity,
        net::route::{Found, Route},
        node::{Fabric, Network},
    };

    const UPLINK: u32 = 2;
    const TUNNEL: u32 = 3;

    /// With an address of the fabric at eth0, a way through a gateway at eth1.5, and a pod
    /// of another plugin.
    fn node(all: &str, uplink: &str, tunnel: &str, pod: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let names = ["lo", "eth0", "eth1.5", "cali1"];
        let link =
            |(index, name): (u32, &str)| Link { index, name: name.into(), ..Link::default() };
        snapshot.kernel.links = (1..).zip(names).map(link).collect();
        let values =
            [("all", all), ("lo", "1"), ("eth0", uplink), ("eth1.5", tunnel), ("cali1", pod)];
        snapshot.kernel.sysctls = values.map(|(name, value)| (key(name), value.to_owned())).into();
        snapshot.kernel.addresses = vec![(UPLINK, "192.0.2.1/24".parse().unwrap())];
        let route = |to: &str, device| Found::new(Route::new(to.parse().unwrap()), vec![device]);
        let far =
            Found { gateways: vec!["192.0.2.2".parse().unwrap()], ..route("10.2.0.0/24", TUNNEL) };
        snapshot.kernel.routes = vec![far, route("10.1.0.5/32", 4)];
        snapshot.surroundings.reverse_path = Some((7, 9));
        snapshot
    }

    #[test]
    fn devices_to_other_nodes_are_named_while_packets_are_dropped() {
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        for (all, own) in [("0", "1"), ("1", "0"), ("1", "1")] {
            let mut snapshot = node(all, own, "2", "2");
            assert!(rp_filter(&snapshot).unwrap().iter().all(|one| one.fix.starts_with("nothing")));
            let fabric = Some(Fabric { addresses: addresses.clone(), ..Fabric::default() });
            snapshot.networks.push(Network { fabric, ..Network::default() });
            let [one, other] = &rp_filter(&snapshot).unwrap()[..] else { panic!("{all} {own}") };
            assert!(one.evidence.contains("2 packets") && one.evidence.ends_with("at eth0"));
            assert_eq!(one.severity, Severity::Warning);
            assert_eq!(one.fix, "sysctl -w net/ipv4/conf/eth0/rp_filter=2");
            assert_eq!(one.undo, format!("sysctl -w net/ipv4/conf/eth0/rp_filter={own}"));
            assert!(other.object.contains("eth0"), "what matters without drops is told besides");
            snapshot.surroundings.reverse_path = Some((9, 9));
            assert_eq!(rp_filter(&snapshot).unwrap().len(), 1, "still");
        }
        for (all, own) in [("0", "0"), ("2", "1"), ("1", "2")] {
            assert!(rp_filter(&node(all, own, "2", "2")).unwrap().is_empty(), "{all} {own}");
        }
    }

    /// A pod that sends in another name makes nobody open the node for it.
    #[test]
    fn links_of_pods_stay_strict() {
        let [both] = &rp_filter(&node("0", "2", "1", "1")).unwrap()[..] else { panic!() };
        assert_eq!(both.severity, Severity::Info);
        assert!(both.evidence.contains("at eth1.5, and at cali1"), "{}", both.evidence);
        assert_eq!(both.fix, "sysctl -w net/ipv4/conf/eth1.5/rp_filter=2");
        // Where a mode changes, as pods of another plugin are there, more is lost than theirs.
        let mut changing = node("0", "2", "1", "1");
        let accepts = Some("ipip".to_owned());
        let fabric = Some(Fabric { accepts, ..Fabric::default() });
        changing.networks.push(Network { fabric, ..Network::default() });
        let [lost] = &rp_filter(&changing).unwrap()[..] else { panic!() };
        assert!(
            lost.severity == Severity::Warning && lost.evidence.contains("eth1.5, and at cali1")
        );
        let [pods] = &rp_filter(&node("0", "2", "2", "1")).unwrap()[..] else { panic!() };
        assert!(pods.severity == Severity::Info && pods.fix.starts_with("nothing"));
        assert!(pods.evidence.contains("at cali1"), "{}", pods.evidence);
        // Ours are looked at elsewhere.
        let mut ours = node("1", "2", "2", "0");
        ours.kernel.links[3].group = *GROUPS.start();
        assert!(rp_filter(&ours).unwrap().is_empty());
    }
}
