// SPDX-License-Identifier: Apache-2.0
//! What of Calico decides about packets besides routes and rules of iptables, which are all
//! that can be taken over: its eBPF data plane and WireGuard. Pure.

use super::site::{Former, Site};
use crate::{
    finding::{Finding, Severity},
    list::{Gather, PushAll},
    net::rule::Rule,
    text::few::some_of,
};

/// The pair that leads packets to services, where programs of eBPF do what kube-proxy does.
const BPF_DEVICE: &str = "bpfin.cali";
/// Devices, and the key that makes Felix have them.
const WIREGUARD: [(&str, &str); 2] =
    [("wireguard.cali", "wireguardEnabled"), ("wg-v6.cali", "wireguardEnabledV6")];
/// What Felix looks into before all others, where it has not been told another place.
const TABLE: u32 = 1;
const PRIORITY: u32 = 99;

impl Site {
    /// Felix's rule that leads what is to be encrypted to a table of its own.
    pub(super) fn diverting(&self) -> impl Iterator<Item = &Rule> {
        let is_one =
            |rule: &&Rule| (rule.table, rule.priority, rule.selective) == (TABLE, PRIORITY, true);
        let rules = self.snapshot.kernel.rules.iter().filter(is_one);
        rules.filter(|_| self.former == Former::Calico)
    }
}

/// What has to be turned off while calico-node is there to do it.
pub(super) fn findings(site: &Site) -> Vec<Finding> {
    if site.former != Former::Calico {
        return Vec::new();
    }
    let has = |name: &str| site.snapshot.kernel.links.iter().any(|link| link.name == name);
    let mut found = Vec::new();
    let device = has(BPF_DEVICE).then(|| format!("device {BPF_DEVICE}"));
    let programs: Vec<String> = site.programs.iter().cloned().chain(device).gather();
    if !programs.is_empty() {
        let evidence = format!("{} are there: they decide about all packets", some_of(&programs));
        found.push(blocking("eBPF data plane", evidence, "bpfEnabled", " and kube-proxy"));
    }
    let devices: Vec<_> = WIREGUARD.into_iter().filter(|(name, _)| has(name)).gather();
    for (name, key) in &devices {
        let evidence = "other nodes encrypt what they send here".to_owned();
        found.push(blocking(&format!("device {name}"), evidence, key, ""));
    }
    if devices.is_empty() {
        found.push_all(site.diverting().map(diverts));
    }
    found
}

fn blocking(object: &str, evidence: String, key: &str, besides: &str) -> Finding {
    let fix = format!(
        "let calico-node{besides} run here again, turn it off by kubectl patch felixconfiguration \
         default --type merge -p '{{\"spec\":{{\"{key}\":false}}}}', and stop calico-node when \
         this is gone"
    );
    Finding { fix, ..Finding::new("calico-dataplane", Severity::Error, object, evidence) }
}

/// Nothing is lost by it while the table leads nowhere.
fn diverts(rule: &Rule) -> Finding {
    let family = if rule.source.is_ipv6() { 6 } else { 4 };
    let fix = format!("ip -{family} rule del pref {PRIORITY} table {TABLE}");
    let evidence = "it is of Calico's WireGuard, whose device is gone".to_owned();
    let object = format!("rule {rule}");
    Finding { fix, ..Finding::new("calico-dataplane", Severity::Warning, object, evidence) }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::calico, *};
    use crate::net::link::Link;

    fn with_link(name: &str) -> Site {
        let mut site = calico();
        let link = Link { name: name.to_owned(), ..Link::default() };
        site.snapshot.kernel.links.push(link);
        site
    }

    #[test]
    fn what_felix_alone_can_turn_off_is_told_with_the_key() {
        assert!(findings(&calico()).is_empty());
        for (link, key) in [
            ("bpfin.cali", "\"bpfEnabled\""),
            ("wireguard.cali", "\"wireguardEnabled\""),
            ("wg-v6.cali", "\"wireguardEnabledV6\""),
        ] {
            let mut site = with_link(link);
            let [one] = &findings(&site)[..] else { panic!("{link}") };
            assert_eq!(one.severity, Severity::Error, "{link}");
            assert!(one.fix.contains(key), "{one:?}");
            assert!(one.object.contains(link) || one.evidence.contains(link), "{one:?}");
            site.former = Former::Flannel;
            assert!(findings(&site).is_empty());
        }
    }

    /// Older versions have no such device.
    #[test]
    fn programs_without_the_device_are_told() {
        let mut site = calico();
        site.programs = ["/sys/fs/bpf/tc/globals/cali_v4_ct3", "cali_tc_preamble at cali1"]
            .map(str::to_owned)
            .to_vec();
        let [one] = &findings(&site)[..] else { panic!() };
        assert!(one.evidence.contains("cali_v4_ct3, cali_tc_preamble at cali1"), "{one:?}");
    }

    #[test]
    fn a_rule_that_is_left_of_wireguard_is_told_with_what_removes_it() {
        let mut site = calico();
        let rule = Rule::new("0.0.0.0/0".parse().unwrap(), TABLE, PRIORITY, 0);
        site.snapshot.kernel.rules = vec![rule];
        assert!(findings(&site).is_empty(), "somebody else's");
        site.snapshot.kernel.rules = vec![Rule { selective: true, ..rule }];
        let [one] = &findings(&site)[..] else { panic!() };
        assert_eq!(
            (one.severity, one.fix.as_str()),
            (Severity::Warning, "ip -4 rule del pref 99 table 1")
        );
        site.snapshot.kernel.links = with_link("wireguard.cali").snapshot.kernel.links;
        let told = findings(&site);
        assert!(told.len() == 1 && told[0].severity == Severity::Error, "it goes with the device");
    }
}
