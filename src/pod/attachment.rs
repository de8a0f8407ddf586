// SPDX-License-Identifier: Apache-2.0
//! The objects that one attachment consists of, on both sides of its veth.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{
    identity::{HOST_MAC, group},
    routing,
    side::Side,
    spec::{families, host_route},
};
use crate::{
    cni,
    family::HasFamily,
    list::{Gather, PushAll},
    net::{Mac, devconf::Devconf, forwarding, link::VethEnd},
    object::{Address, Neighbour, Objects, Setting, Sysctl, Value},
};

pub use super::spec::{Remote, Spec, gateway_ipv6};

/// Calico's prefix length for the link-local addresses of both ends.
const LINK_LOCAL_PREFIX: u8 = 64;

/// The desired state of an attachment. Its undo is short: all of it goes with the
/// link, but for the pod's rules and the node's forwarding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// The host's end of the veth.
    pub host: VethEnd,
    /// The pod's end of the veth.
    pub pod: VethEnd,
    /// The mark on the host link.
    pub alias: String,
    /// What belongs to the host link.
    pub host_side: Side,
    /// What belongs to the pod link.
    pub pod_side: Side,
    /// The node's own settings, in the order in which they are made.
    pub node: Vec<Sysctl>,
    /// The routes as the result tells them.
    pub routes: Vec<cni::Route>,
}

impl Attachment {
    /// Describes what is asked for.
    pub fn describe(spec: &Spec<'_>) -> Self {
        let mac = spec.mac.unwrap_or_else(|| spec.identity.pod_mac());
        let end = |name: &str, mac, group| VethEnd {
            name: name.to_owned(),
            mac,
            mtu: spec.mtu,
            group,
            queues: spec.config.queues,
        };
        let routes = routing::told(spec);
        let group = group(&spec.identity.network);
        Self {
            host: end(spec.host_link, HOST_MAC, group),
            pod: end(&spec.identity.ifname, mac, 0),
            alias: spec.identity.alias(),
            host_side: host_side(spec.host_link, spec.addresses, group),
            pod_side: pod_side(spec, mac, &routes),
            node: forwarding(spec),
            routes,
        }
    }

    /// Whether the attachment has an IPv6 address, and so needs its link-local
    /// addresses given instead of generated.
    pub fn has_ipv6(&self) -> bool {
        !self.host_side.objects.addresses.is_empty()
    }
}

/// What belongs to the host link of a pod with these addresses, in an interface group: by
/// that the rules of the network's table know a pod.
pub fn host_side(link: &str, addresses: &[IpAddr], group: u32) -> Side {
    let (ipv4, ipv6) = families(addresses);
    let mut side = Side { link: link.to_owned(), ..Side::default() };
    if ipv4 {
        side.devconf.push_all([
            Devconf::AcceptRedirects(false),
            Devconf::ProxyDelay(0),
            Devconf::ProxyArp(true),
            Devconf::Forwarding(true),
            // A pod does not answer 127.0.0.1, and the entry of its address would be
            // incomplete for other packets as well.
            Devconf::ArpAnnounce(2),
        ]);
    }
    let objects = &mut side.objects;
    if ipv6 {
        objects.sysctls.push_all([
            Sysctl::new(format!("net/ipv6/conf/{link}/disable_ipv6"), 0),
            Sysctl::new(format!("net/ipv6/conf/{link}/accept_dad"), 0),
            Sysctl::new(format!("net/ipv6/conf/{link}/forwarding"), 1),
        ]);
        objects.addresses.push_all(link_local(HOST_MAC).map(|address| at(link, address)));
    }
    objects.sysctls.push(Sysctl::optional(format!("net/ipv6/conf/{link}/accept_ra"), 0));
    let set = |value| Setting { device: link.to_owned(), value };
    objects.settings.push_all([Value::Group(group), Value::Up(true)].map(set));
    side.lead(addresses.iter().map(|address| host_route(*address)).gather());
    side
}

fn at(link: &str, address: IpNetwork) -> Address {
    Address { device: link.to_owned(), address }
}

fn pod_side(spec: &Spec<'_>, mac: Mac, routes: &[cni::Route]) -> Side {
    let (ipv4, ipv6) = families(spec.addresses);
    let link = &spec.identity.ifname;
    let neighbour = |address| Neighbour { device: link.clone(), address, mac: HOST_MAC };
    let mut objects = Objects { sysctls: pod_sysctls(spec), ..Objects::default() };
    objects.settings.push(Setting { device: link.clone(), value: Value::Up(true) });
    let own = spec.addresses.iter().map(|address| at(link, IpNetwork::from(*address)));
    objects.addresses.push_all(own);
    if ipv4 {
        objects.neighbours.push(neighbour(spec.config.gateway.into()));
    }
    if ipv6 {
        objects.addresses.push_all(link_local(mac).map(|address| at(link, address)));
        objects.neighbours.push(neighbour(gateway_ipv6().into()));
    }
    objects.rules = routing::rules(spec.facts.table, spec.addresses);
    let mut side = Side { link: link.clone(), objects, ..Side::default() };
    side.lead(routing::of_pod(spec, routes));
    side
}

fn pod_sysctls(spec: &Spec<'_>) -> Vec<Sysctl> {
    let (ipv4, ipv6) = families(spec.addresses);
    let ifname = &spec.identity.ifname;
    let mut sysctls = Vec::new();
    if ipv6 {
        // What the pod's other links are to be, `all` and `default` say, and others set.
        for scope in ["lo", ifname] {
            sysctls.push(Sysctl::new(format!("net/ipv6/conf/{scope}/disable_ipv6"), 0));
        }
        sysctls.push_all([
            Sysctl::new(format!("net/ipv6/conf/{ifname}/accept_dad"), 0),
            Sysctl::new(format!("net/ipv6/conf/{ifname}/keep_addr_on_down"), 1),
        ]);
    }
    let allowed = spec.config.allow_ip_forwarding;
    if allowed || !spec.facts.attached_before {
        let value = u8::from(allowed);
        sysctls.push_all(ipv4.then(|| Sysctl::new(forwarding::IPV4, value)));
        sysctls.push_all(ipv6.then(|| Sysctl::new(forwarding::IPV6, value)));
    }
    sysctls
}

fn forwarding(spec: &Spec<'_>) -> Vec<Sysctl> {
    let served = routing::served(spec.addresses).filter(|_| spec.config.manage_forwarding);
    served.map(|address| Sysctl::new(forwarding::key(address.family()), 1)).gather()
}

fn link_local(mac: Mac) -> Option<IpNetwork> {
    IpNetwork::new(mac.link_local().into(), LINK_LOCAL_PREFIX).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        cni::{Document, Version, cidr},
        conf::Config,
        object,
        pod::{Identity, PodFacts},
    };

    fn config(keys: serde_json::Value) -> Config {
        let mut conf = json!({"name": "net", "type": "manx", "ipam": {"type": "host-local"}});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let document = Document::parse(conf.to_string().into_bytes()).unwrap();
        let (config, complaints) = Config::read(&document, Version::NEWEST);
        assert_eq!(complaints, []);
        config
    }

    fn describe(
        config: &Config,
        addresses: &[&str],
        routes: &[&str],
        facts: PodFacts,
    ) -> Attachment {
        let identity = Identity {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            pod: None,
        };
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let routes: Vec<_> =
            routes.iter().map(|text| cni::Route::new(cidr::parse(text).unwrap(), None)).collect();
        Attachment::describe(&Spec {
            identity: &identity,
            host_link: "calic1",
            config,
            addresses: &addresses,
            routes: &routes,
            mtu: 1450,
            mac: None,
            facts: &facts,
            remote: None,
        })
    }

    fn told(attachment: &Attachment) -> Vec<String> {
        attachment.routes.iter().map(|route| route.dst.to_string()).collect()
    }

    #[test]
    fn an_ipv4_pod_has_calicos_two_routes() {
        let wanted = describe(&config(json!({})), &["10.1.0.5"], &[], PodFacts::default());
        let lines: Vec<_> =
            wanted.pod_side.objects.routes.iter().map(|route| route.plain().to_string()).collect();
        assert_eq!(lines, ["169.254.1.1/32", "0.0.0.0/0 via 169.254.1.1"]);
        assert_eq!(
            wanted.pod_side.objects.addresses,
            [at("eth0", cidr::parse("10.1.0.5/32").unwrap())]
        );
        assert_eq!(wanted.host_side.objects.routes[0].to_string(), "10.1.0.5/32 dev calic1");
        assert_eq!((wanted.host.mtu, wanted.pod.mtu), (1450, 1450));
        assert!(!wanted.has_ipv6());
    }

    #[test]
    fn a_dual_stack_pod_has_both_gateways_and_their_neighbours() {
        let wanted =
            describe(&config(json!({})), &["10.1.0.5", "fd00::5"], &[], PodFacts::default());
        let hops: Vec<_> =
            wanted.pod_side.objects.neighbours.iter().map(|hop| hop.address.to_string()).collect();
        assert_eq!(hops, ["169.254.1.1", "fe80::ecee:eeff:feee:eeee"]);
        assert_eq!(told(&wanted), ["0.0.0.0/0", "::/0"]);
        assert!(wanted.has_ipv6());
    }

    #[test]
    fn ipams_routes_stand_in_for_the_default_of_their_family_only() {
        let addresses = ["10.1.0.5", "fd00::5"];
        let plain = config(json!({}));
        let wanted = describe(&plain, &addresses, &["10.0.0.0/8"], PodFacts::default());
        assert_eq!(told(&wanted), ["10.0.0.0/8", "::/0"]);
        let both = config(json!({"includeDefaultRoutes": true}));
        let wanted = describe(&both, &addresses, &["10.0.0.0/8"], PodFacts::default());
        assert_eq!(told(&wanted), ["0.0.0.0/0", "10.0.0.0/8", "::/0"]);
    }

    #[test]
    fn a_second_attachment_leaves_the_first_ones_settings() {
        let facts = || PodFacts { attached_before: true, ..PodFacts::default() };
        let wanted = describe(&config(json!({})), &["10.1.0.5", "fd00::5"], &[], facts());
        let keys: Vec<&str> =
            wanted.pod_side.objects.sysctls.iter().map(|sysctl| sysctl.key.as_str()).collect();
        assert!(keys.iter().all(|key| !key.contains("forward")), "{keys:?}");
        let others = ["/all/", "/default/"];
        assert!(!keys.iter().any(|key| others.iter().any(|of| key.contains(of))), "{keys:?}");
        let router = config(json!({"allowIPForwarding": true}));
        let wanted = describe(&router, &["10.1.0.5"], &[], facts());
        assert_eq!(wanted.pod_side.objects.sysctls, [Sysctl::new(forwarding::IPV4, 1)]);
    }

    #[test]
    fn in_route_mode_only_the_way_to_other_nodes_is_narrow() {
        let plain = config(json!({}));
        let identity = Identity {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            pod: None,
        };
        let cluster = ["10.1.0.0/24", "10.2.0.0/24"].map(|text| cidr::parse(text).unwrap());
        let wanted = Attachment::describe(&Spec {
            identity: &identity,
            host_link: "calic1",
            config: &plain,
            addresses: &["10.1.0.5".parse().unwrap()],
            routes: &[],
            mtu: 1500,
            mac: None,
            facts: &PodFacts::default(),
            remote: Some(Remote { mtu: 1450, cluster: &cluster, own: &cluster[..1] }),
        });
        let lines: Vec<_> = wanted
            .pod_side
            .objects
            .routes
            .iter()
            .map(object::Route::plain)
            .map(|route| (route.destination.to_string(), route.mtu, route.advmss))
            .collect();
        assert_eq!(
            lines[1..],
            [
                ("0.0.0.0/0".to_owned(), None, None),
                ("10.1.0.0/24".to_owned(), None, None),
                ("10.2.0.0/24".to_owned(), Some(1450), Some(1410)),
            ]
        );
        assert_eq!((wanted.pod.mtu, wanted.host.mtu), (1500, 1500));
    }

    #[test]
    fn forwarding_follows_the_families_and_the_configuration() {
        let keys = |wanted: Attachment| {
            wanted.node.into_iter().map(|sysctl| sysctl.key).collect::<Vec<_>>()
        };
        let plain = config(json!({}));
        let facts = PodFacts::default();
        assert_eq!(
            keys(describe(&plain, &["10.1.0.5"], &[], facts.clone())),
            ["net/ipv4/ip_forward"]
        );
        let unmanaged = config(json!({"manageForwarding": false}));
        assert_eq!(keys(describe(&unmanaged, &["10.1.0.5", "fd00::5"], &[], facts)), [""; 0]);
    }
}
