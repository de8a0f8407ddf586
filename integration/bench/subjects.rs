// SPDX-License-Identifier: Apache-2.0
//! What is measured: plugins with their configurations, and the floor, each on
//! a node of its own.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::effect::Attachment;
use crate::harness::{Host, Netns, Plugin, Pod, plugin_dir};
use crate::measure::{Job, Sample};

/// The network of all nodes.
pub const NETWORK: &str = "bench";

/// The pods of every node: room for thousands.
const IPV4_SUBNET: &str = "10.88.0.0/16";
const IPV6_SUBNET: &str = "fd00:88::/64";

/// The floor's host links: Calico's address, and an index that no other has.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
const FIRST_INDEX: usize = 10_000;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The static, stripped manx.
    pub manx: PathBuf,
    pub floor: PathBuf,
    pub meter: PathBuf,
}

/// A way to attach a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Kind {
    #[serde(rename = "floor")]
    Floor,
    #[serde(rename = "manx + manx-ipam")]
    ManxIpam,
    #[serde(rename = "manx + host-local")]
    ManxHostLocal,
    #[serde(rename = "ptp + host-local")]
    Ptp,
    #[serde(rename = "bridge + host-local")]
    Bridge,
    #[serde(rename = "flannel (bridge, host-local)")]
    Flannel,
}

/// Families and masquerade.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Setting {
    pub dual_stack: bool,
    pub masquerade: bool,
}

impl Kind {
    /// All that can be measured.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Floor,
            Self::ManxIpam,
            Self::ManxHostLocal,
            Self::Ptp,
            Self::Bridge,
            Self::Flannel,
        ]
    }

    /// The plugins among them.
    pub fn plugins() -> Vec<Self> {
        Self::all().into_iter().filter(|kind| *kind != Self::Floor).collect()
    }

    /// The name in tables and charts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::ManxIpam => "manx + manx-ipam",
            Self::ManxHostLocal => "manx + host-local",
            Self::Ptp => "ptp + host-local",
            Self::Bridge => "bridge + host-local",
            Self::Flannel => "flannel (bridge, host-local)",
        }
    }

    pub fn is_manx(self) -> bool {
        matches!(self, Self::ManxIpam | Self::ManxHostLocal)
    }

    /// The bridge that its pods hang on, which has at most 1023 of them.
    pub fn bridge(self) -> Option<&'static str> {
        matches!(self, Self::Bridge | Self::Flannel).then_some("cni0")
    }

    pub fn is_bridged(self) -> bool {
        self.bridge().is_some()
    }

    /// The name of a row. The floor never masquerades: what stands beside those
    /// that do has done the same work in the same turns.
    pub fn row_name(self, setting: Setting) -> String {
        match (self, setting.masquerade) {
            (Self::Floor, true) => {
                let without = Setting { masquerade: false, ..setting };
                format!("floor, {}, beside masquerade", without.name())
            }
            _ => format!("{}, {}", self.name(), setting.name()),
        }
    }
}

impl Setting {
    pub fn name(self) -> String {
        let families = if self.dual_stack { "dual stack" } else { "v4" };
        let masquerade = if self.masquerade { ", masquerade" } else { "" };
        format!("{families}{masquerade}")
    }
}

/// A node with one subject on it.
pub struct Node {
    pub kind: Kind,
    pub host: Host,
    pub plugin: Plugin,
    setting: Setting,
    floor: PathBuf,
    _outside: Netns,
}

/// A pod to be, or one that is attached.
pub struct Place {
    pub pod: Pod,
    number: usize,
    /// What ADD answered, for the verbs that follow it.
    pub result: Value,
    /// What ADD made, for as long as it is to be there.
    made: Option<Attachment>,
}

impl Node {
    pub fn new(kind: Kind, setting: Setting, programs: &Programs) -> Self {
        let (host, outside) = Host::with_uplink();
        // Plugins do this with their first pod.
        host.set_sysctl("ipv4/ip_forward", "1");
        if setting.dual_stack {
            host.set_sysctl("ipv6/conf/all/forwarding", "1");
        }
        let binary = match kind {
            Kind::Floor => programs.floor.clone(),
            Kind::ManxIpam | Kind::ManxHostLocal => programs.manx.clone(),
            Kind::Ptp => plugin_dir().join("ptp"),
            Kind::Bridge => plugin_dir().join("bridge"),
            Kind::Flannel => plugin_dir().join("flannel"),
        };
        let plugin = Plugin::new(&host, binary).config(configuration(kind, setting, &host));
        host.scratch().file("conf.json", plugin.conf.to_string());
        let floor = programs.floor.clone();
        Self { kind, host, plugin, setting, floor, _outside: outside }
    }

    /// A pod with an id and arguments such as a Kubernetes runtime gives.
    pub fn place(&self, number: usize) -> Place {
        let mut pod = Pod::new("bench");
        pod.id = format!("{:016x}{:048x}", FIRST_INDEX * 7919 + number, number);
        let pod = pod.kubernetes("default", &format!("pod-{number}"));
        Place { pod, number, result: Value::Null, made: None }
    }

    /// Places with these numbers.
    pub fn places(&self, numbers: std::ops::Range<usize>) -> Vec<Place> {
        numbers.map(|number| self.place(number)).collect()
    }

    /// The run that attaches the pod.
    pub fn add_job(&self, place: &Place) -> Job {
        if self.kind == Kind::Floor { self.floor_add(place) } else { self.job("ADD", place) }
    }

    /// The run that detaches it.
    pub fn del_job(&self, place: &Place) -> Job {
        if self.kind == Kind::Floor {
            return self.floor_job(vec!["del".into(), host_link(place)]);
        }
        self.job("DEL", place)
    }

    /// Attaches, and looks whether it did.
    pub fn add(&self, place: &mut Place) -> Sample {
        let sample = self.enter(&self.add_job(place));
        self.added(place, &sample);
        sample
    }

    /// Detaches, and looks whether it did.
    pub fn del(&self, place: &mut Place) -> Sample {
        let sample = self.enter(&self.del_job(place));
        self.removed(place);
        sample
    }

    /// To be called after an ADD that was run elsewhere: keeps the result that
    /// the plugin printed.
    ///
    /// # Panics
    /// If anything of the attachment is not there. The time of an ADD that did
    /// nothing is no measurement.
    pub fn added(&self, place: &mut Place, sample: &Sample) {
        place.result = serde_json::from_str(&sample.stdout).unwrap_or_default();
        let made = self.made(place).unwrap_or_else(|why| panic!("{}: {why}", self.about(place)));
        let missing = made.missing(&self.host, &place.pod.netns);
        assert!(missing.is_empty(), "{}: after ADD there is no {missing:?}", self.about(place));
        place.made = Some(made);
    }

    /// To be called after a DEL that was run elsewhere.
    ///
    /// # Panics
    /// If anything of the attachment is left, or nothing was there to remove.
    pub fn removed(&self, place: &mut Place) {
        // A runtime adds without a former result.
        place.result = Value::Null;
        let made = place.made.take();
        let made = made.unwrap_or_else(|| panic!("{}: DEL without ADD", self.about(place)));
        let left = made.left(&self.host, &place.pod.netns);
        assert!(left.is_empty(), "{}: after DEL there is still {left:?}", self.about(place));
    }

    fn made(&self, place: &Place) -> Result<Attachment, String> {
        if self.kind == Kind::Floor {
            let addresses = self.floor_addresses(place).into_iter().map(|text| text.parse());
            return Ok(Attachment {
                host_link: host_link(place),
                pod_link: place.pod.ifname.clone(),
                addresses: addresses
                    .collect::<Result<_, std::net::AddrParseError>>()
                    .map_err(|e| e.to_string())?,
                is_routed: true,
                leases: Vec::new(),
            });
        }
        let leases = self.host.scratch().path().join("leases").join(NETWORK);
        Attachment::of_result(&place.result, self.kind.bridge(), &leases)
    }

    fn about(&self, place: &Place) -> String {
        format!("{}, pod {}", self.kind.row_name(self.setting), place.number)
    }

    /// Runs a job on the node.
    pub fn enter(&self, job: &Job) -> Sample {
        self.host.enter(|| job.run())
    }

    /// The run of any verb, as libcni does it: the result of ADD goes with
    /// verbs that follow it.
    pub fn job(&self, verb: &str, place: &Place) -> Job {
        let call = self.plugin.call(verb).pod(&place.pod);
        let stdin = if place.result.is_null() {
            self.host.scratch().path().join("conf.json")
        } else {
            let mut conf = call.conf().clone();
            conf["prevResult"] = place.result.clone();
            let name = format!("conf-{}.json", place.number);
            self.host.scratch().file(&name, conf.to_string())
        };
        Job::of_call(&call, stdin)
    }

    fn floor_job(&self, args: Vec<String>) -> Job {
        let path = std::env::var("PATH").unwrap_or_default();
        let env = vec![("PATH".to_owned(), path)];
        Job { program: self.floor.clone(), args, env, stdin: None, output: None }
    }

    /// The floor's start and end, and nothing between.
    pub fn floor_nothing(&self) -> Job {
        self.floor_job(vec!["nothing".into()])
    }

    fn floor_add(&self, place: &Place) -> Job {
        let n = place.number;
        let mac = format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256);
        self.floor_job(floor_args(place, &host_link(place), &mac, &self.floor_addresses(place)))
    }

    fn floor_addresses(&self, place: &Place) -> Vec<String> {
        let n = place.number;
        let mut addresses = vec![format!("10.88.{}.{}", 100 + n / 250, n % 250 + 1)];
        addresses.extend(self.setting.dual_stack.then(|| format!("fd00:88::1:{n:x}")));
        addresses
    }
}

/// Arguments for the floor to make an attachment of the usual shape.
pub fn floor_args(place: &Place, link: &str, mac: &str, addresses: &[String]) -> Vec<String> {
    let netns = place.pod.netns.path().display().to_string();
    let index = (FIRST_INDEX + place.number).to_string();
    let mut args = ["add", &netns, link, &index, "eth0", "2", "1500", HOST_MAC, mac]
        .map(String::from)
        .to_vec();
    args.extend_from_slice(addresses);
    args
}

fn host_link(place: &Place) -> String {
    format!("floor{}", place.number)
}

fn configuration(kind: Kind, setting: Setting, host: &Host) -> Value {
    let mut ranges = vec![json!([{"subnet": IPV4_SUBNET}])];
    let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
    if setting.dual_stack {
        ranges.push(json!([{"subnet": IPV6_SUBNET}]));
        routes.push(json!({"dst": "::/0"}));
    }
    let leases = host.scratch().dir("leases");
    let ipam =
        |name: &str| json!({"type": name, "dataDir": leases, "ranges": ranges, "routes": routes});
    let common = |name: &str, ipam: Value| {
        json!({"cniVersion": "1.1.0", "name": NETWORK, "type": name,
               "ipMasq": setting.masquerade, "ipam": ipam})
    };
    match kind {
        Kind::Floor => Value::Null,
        Kind::ManxIpam => common("manx", ipam("manx-ipam")),
        Kind::ManxHostLocal => common("manx", ipam("host-local")),
        Kind::Ptp => common("ptp", ipam("host-local")),
        Kind::Bridge => {
            let mut conf = common("bridge", ipam("host-local"));
            conf["bridge"] = "cni0".into();
            conf["isGateway"] = true.into();
            conf["hairpinMode"] = true.into();
            conf
        }
        Kind::Flannel => flannel(setting, host, &leases),
    }
}

/// As flannel's manifest has it. Without masquerade stands for a node where
/// flanneld masquerades, once for all pods; with it the bridge does, for each.
fn flannel(setting: Setting, host: &Host, leases: &Path) -> Value {
    let mut env = format!(
        "FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET={IPV4_SUBNET}\n\
         FLANNEL_MTU=1450\nFLANNEL_IPMASQ={}\n",
        !setting.masquerade
    );
    if setting.dual_stack {
        env += &format!("FLANNEL_IPV6_NETWORK=fd00::/16\nFLANNEL_IPV6_SUBNET={IPV6_SUBNET}\n");
    }
    let subnet_file = host.scratch().file("subnet.env", env);
    json!({
        "cniVersion": "0.3.1", "name": NETWORK, "type": "flannel",
        "subnetFile": subnet_file, "dataDir": host.scratch().dir("flannel"),
        "ipam": {"dataDir": leases},
        "delegate": {"hairpinMode": true, "isDefaultGateway": true},
    })
}
