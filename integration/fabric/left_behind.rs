// SPDX-License-Identifier: Apache-2.0
//! Nodes that another plugin ran, made by hand as its agent leaves them: with one pod, beside a
//! node of ours.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, NETWORK, Node, addresses, batch};
use crate::harness::{DEADLINE, Finished, Netns, Pod, Stdin, run};

/// The address of the pod that is there before us.
pub const OLD: &str = "10.244.1.5";
pub const OLD_IPV6: &str = "fd00:244:1::5";

/// A ping that goes on until it is asked.
pub struct Pinging(Option<Child>);

impl Drop for Pinging {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Pinging {
    pub fn new(from: &Netns, address: &str) -> Self {
        assert!(from.pings(address), "{address} before");
        Self(Some(from.enter(|| {
            let mut command = Command::new("ping");
            command.args(["-n", "-q", "-i", "0.01", address]).stdout(Stdio::piped());
            command.spawn().unwrap()
        })))
    }

    /// Asserts that no packet was lost; the last one may be on its way.
    #[track_caller]
    pub fn assert_whole(mut self) {
        let child = self.0.take().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        let said = child.wait_with_output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let line = said.lines().find(|line| line.contains("transmitted")).unwrap();
        let numbers: Vec<u32> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(numbers[0] > 1 && numbers[0] - numbers[1] <= 1, "{said}");
    }
}

/// A node a that another plugin runs, and another node of ours with a pod.
pub struct Scene {
    pub cluster: Cluster,
    pub families: Families,
    /// On node a.
    pub old: Pod,
    /// On the other node.
    pub far: Pod,
    /// A process of the old pod: where no note tells its namespace, that does.
    _within: Dweller,
}

/// A process that is in a namespace, and does nothing.
pub struct Dweller(Child);

impl Dweller {
    pub fn new(netns: &Netns) -> Self {
        Self(netns.enter(|| Command::new("sleep").arg("600").spawn().unwrap()))
    }
}

impl Drop for Dweller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    /// With these keys in the configurations of both; the other is node c.
    pub fn new(keys: &Value) -> Self {
        Self::beside(3, Families::Ipv4, keys)
    }

    /// The same with the other node's number.
    pub fn beside(number: usize, families: Families, keys: &Value) -> Self {
        let cluster = Cluster::of(&[1, number], families, keys);
        let far = &cluster.nodes[1];
        far.apply().ok();
        let pod = far.attach("far");
        let old = Pod::new("old").kubernetes("default", "web");
        let node = &cluster.nodes[0];
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            node.host.set_sysctl(key, "1");
        }
        let within = Dweller::new(&old.netns);
        let mut scene = Self { far: pod, old, families, cluster, _within: within };
        let mut ranges = vec![json!([{"subnet": "10.244.1.0/24"}])];
        let dual = families == Families::Dual;
        ranges.extend(dual.then(|| json!([{"subnet": "fd00:244:1::/64"}])));
        scene.cluster.nodes[0] =
            scene.node().with("ipam", json!({"type": "manx-ipam", "ranges": ranges}));
        let mut plugin = scene.node().plugin.conf.clone();
        let name = plugin.as_object_mut().unwrap().remove("name");
        let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [plugin]});
        scene.write("etc/cni/net.d/20-manx.conflist", &list);
        let programs = scene.node().host.scratch().dir("root/opt/cni/bin");
        symlink(MANX, programs.join("manx")).unwrap();
        scene
    }

    pub fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    pub fn far_address(&self) -> String {
        addresses(&self.far)[0].clone()
    }

    pub fn write(&self, path: &str, value: &Value) {
        let path = self.node().host.scratch().path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }

    /// What libcni notes of an attachment.
    pub fn note(&self, network: &str, links: &[&str]) {
        let pod = &self.old;
        let mut interfaces: Vec<Value> = links.iter().map(|name| json!({"name": name})).collect();
        interfaces.push(json!({"name": "eth0", "sandbox": pod.netns.path()}));
        let inside = interfaces.len() - 1;
        let mut ips = vec![json!({"address": format!("{OLD}/32"), "interface": inside})];
        ips.extend(
            (self.families == Families::Dual)
                .then(|| json!({"address": format!("{OLD_IPV6}/128"), "interface": inside})),
        );
        let note = json!({
            "kind": "cniCacheV1", "containerId": pod.id, "ifName": "eth0", "networkName": network,
            "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web"]],
            "result": {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips},
        });
        self.write(&format!("var/lib/cni/results/{network}-{}-eth0", pod.id), &note);
    }

    /// The same of Calico's plugin, which tells the node's end alone, by a libcni that notes
    /// no namespace (1.1, which containerd 1.7 has).
    pub fn calicos_note(&self, id: &str, address: &str) {
        self.note_of(id, WEB, address);
    }

    /// The same with another link.
    pub fn note_of(&self, id: &str, link: &str, address: &str) {
        let mut ips = vec![json!({"version": "4", "address": format!("{address}/32")})];
        ips.extend(
            (self.families == Families::Dual)
                .then(|| json!({"version": "6", "address": format!("{OLD_IPV6}/128")})),
        );
        let note = json!({
            "kind": "cniCacheV1", "containerId": id, "config": "", "ifName": "eth0",
            "networkName": "k8s-pod-network",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"],
                ["K8S_POD_NAME", "web"], ["K8S_POD_INFRA_CONTAINER_ID", id]],
            "result": {"cniVersion": "0.3.1", "dns": {}, "interfaces": [{"name": link}], "ips": ips},
        });
        self.write(&format!("var/lib/cni/results/k8s-pod-network-{id}-eth0"), &note);
    }

    /// `manx adopt ARGS` on node a.
    pub fn adopt(&self, args: &[&str]) -> Finished {
        self.adopt_by(&std::env::var("PATH").unwrap(), args)
    }

    /// With programs from these directories.
    pub fn adopt_by(&self, path: &str, args: &[&str]) -> Finished {
        let root = self.node().host.scratch().dir("root");
        self.node().host.enter(|| {
            let mut command = Command::new(MANX);
            command.arg("adopt").args(args).arg("--root").arg(root).env("PATH", path);
            command.env("XTABLES_LOCKFILE", self.xtables_lock());
            run(command, &Stdin::Null, DEADLINE)
        })
    }

    /// `manx pods` on node a.
    pub fn pods(&self) -> String {
        let root = self.node().host.scratch().dir("root").display().to_string();
        self.node().host.command(MANX, &["pods", "--root", &root]).ok()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let told = self.adopt(&[args, &["--json"]].concat());
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"))
    }

    /// The MAC address and the address of node c's tunnel, and what node c takes for those
    /// of node a.
    pub fn tunnels(&self, device: &str) -> [String; 2] {
        let far = &self.cluster.nodes[1].host;
        let own = far.link(device).unwrap()["address"].as_str().unwrap().to_owned();
        let all = far.ip(&["neighbour", "show", "nud", "permanent", "dev", device]);
        let of_a = all.as_array().unwrap().iter().find(|it| it["dst"] == "10.244.1.0").unwrap();
        [of_a["lladdr"].as_str().unwrap().to_owned(), own]
    }

    pub fn restore(&self, program: &str, text: &str) {
        self.node().host.enter(|| {
            let mut command = Command::new(program);
            command.env("XTABLES_LOCKFILE", self.xtables_lock());
            run(command, &Stdin::Bytes(text.into()), DEADLINE).ok();
        });
    }

    /// One of its own, for iptables as an ordinary user.
    fn xtables_lock(&self) -> PathBuf {
        self.node().host.scratch().path().join("xtables.lock")
    }

    /// Takes the pod from the node in the way of a runtime that has our configuration now.
    pub fn delete_old(&self) {
        self.node().plugin.del(&self.old).ok();
        self.assert_forgotten();
    }

    /// Asserts that the journal has no entry of the pod.
    #[track_caller]
    pub fn assert_forgotten(&self) {
        let journal = self.node().host.scratch().path().join("root/run/manx").join(NETWORK);
        let left: Vec<String> = fs::read_dir(journal)
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(&self.old.id))
            .collect();
        assert_eq!(left, [""; 0]);
    }

    pub fn leases(&self) -> Vec<String> {
        let root = self.node().host.scratch().path().join("root/var/lib/cni/networks");
        let names = fs::read_dir(root.join(NETWORK)).into_iter().flatten();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut leases: Vec<String> =
            names.filter(|name| name.starts_with("10.") || name.starts_with("fd")).collect();
        leases.sort();
        leases
    }
}

/// The host link of default/web, as Calico names it.
pub const WEB: &str = "cali68caf03a5f4";

/// What Felix leaves, as far as it decides about packets.
pub const FELIX: &str = "*filter
:FORWARD ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-to-wl-dispatch - [0:0]
-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-from-wl-dispatch -i cali68caf03a5f4 -j RETURN
-A cali-from-wl-dispatch -m comment --comment \"Unknown interface\" -j DROP
-A cali-to-wl-dispatch -o cali68caf03a5f4 -j RETURN
-A cali-to-wl-dispatch -m comment --comment \"Unknown interface\" -j DROP
COMMIT
";

/// Makes the pod as Calico's plugin does, and what Felix and libcni have of it.
pub fn calicos_pod(scene: &Scene) {
    let host = &scene.node().host;
    let netns = scene.old.netns.path().display().to_string();
    batch(
        host,
        &format!(
            "link add {WEB} address ee:ee:ee:ee:ee:ee mtu 1450 type veth peer name eth0 mtu 1450 \
                netns {netns}
             link set {WEB} up
             route add {OLD} dev {WEB} scope link metric 1024
             route add {OLD_IPV6} dev {WEB} metric 1024"
        ),
    );
    for key in ["ipv4/conf/{}/proxy_arp", "ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding"] {
        host.set_sysctl(&key.replace("{}", WEB), "1");
    }
    batch(
        &scene.old.netns,
        &format!(
            "address add {OLD}/32 dev eth0
             address add {OLD_IPV6}/128 dev eth0 nodad
             link set eth0 up
             route add 169.254.1.1 dev eth0 scope link
             route add default via 169.254.1.1
             route add default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024"
        ),
    );
    scene.calicos_note(&scene.old.id, OLD);
    let calico = json!({"type": "calico", "ipam": {"type": "calico-ipam"}});
    let list = json!({"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [calico]});
    scene.write("etc/cni/net.d/10-calico.conflist", &list);
}

/// A node as calico-node leaves it that routes by VXLAN, with one pod. Its rules are in both
/// backends, as where iptables was changed meanwhile.
pub fn calico() -> Scene {
    let scene = calico_without_rules();
    scene.restore("iptables-nft-restore", FELIX);
    scene.restore("iptables-legacy-restore", FELIX);
    scene
}

/// The same without what decides about packets.
pub fn calico_without_rules() -> Scene {
    let scene = Scene::new(&json!({"mode": "vxlan"}));
    let [mac_a, mac_c] = scene.tunnels("vxlan.calico");
    let host = &scene.node().host;
    batch(
        host,
        &format!(
            "link add vxlan.calico address {mac_a} mtu 1450 type vxlan id 4096 dstport 4789 \
                local 192.0.2.11 dev eth0 nolearning
             address add 10.244.1.0/32 dev vxlan.calico
             link set vxlan.calico up
             neighbour add 10.244.3.0 lladdr {mac_c} dev vxlan.calico nud permanent
             route add 10.244.3.0/26 via 10.244.3.0 dev vxlan.calico onlink mtu 1450 proto 80
             route add 10.65.9.0/26 via 10.244.3.0 dev vxlan.calico onlink proto 80
             route add blackhole 10.244.1.0/26 proto 80"
        ),
    );
    let fdb = ["fdb", "append", &mac_c, "dev", "vxlan.calico", "dst", "198.51.100.13", "self"];
    host.command("bridge", &fdb).ok();
    calicos_pod(&scene);
    scene
}
