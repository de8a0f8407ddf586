//! Nodes that another plugin ran, made by hand as its agent leaves them, become ours with
//! their pods running and packets under way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, NETWORK, Node, addresses, batch};
use crate::harness::{DEADLINE, Finished, Netns, Pod, Stdin, eventually, run};

/// The address of the pod that is there before us.
const OLD: &str = "10.244.1.5";
const OLD_IPV6: &str = "fd00:244:1::5";

/// A ping that goes on until it is asked.
struct Pinging(Child);

impl Pinging {
    fn new(from: &Netns, address: &str) -> Self {
        assert!(from.pings(address), "{address} before");
        Self(from.enter(|| {
            let mut command = Command::new("ping");
            command.args(["-n", "-q", "-i", "0.01", address]).stdout(Stdio::piped());
            command.spawn().unwrap()
        }))
    }

    /// Asserts that no packet was lost; the last one may be on its way.
    #[track_caller]
    fn assert_whole(self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).unwrap();
        let said = self.0.wait_with_output().unwrap().stdout;
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
struct Scene {
    cluster: Cluster,
    families: Families,
    /// On node a.
    old: Pod,
    /// On the other node.
    far: Pod,
}

impl Scene {
    /// With these keys in the configurations of both; the other is node c.
    fn new(keys: &Value) -> Self {
        Self::beside(3, Families::Ipv4, keys)
    }

    /// The same with the other node's number.
    fn beside(number: usize, families: Families, keys: &Value) -> Self {
        let cluster = Cluster::of(&[1, number], families, keys);
        let far = &cluster.nodes[1];
        far.apply().ok();
        let pod = far.attach("far");
        let old = Pod::new("old").kubernetes("default", "web");
        let node = &cluster.nodes[0];
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            node.host.set_sysctl(key, "1");
        }
        let mut scene = Self { far: pod, old, families, cluster };
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
        symlink(crate::cluster::MANX, programs.join("manx")).unwrap();
        scene
    }

    fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    fn far_address(&self) -> String {
        addresses(&self.far)[0].clone()
    }

    fn write(&self, path: &str, value: &Value) {
        let path = self.node().host.scratch().path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }

    /// What libcni notes of an attachment.
    fn note(&self, network: &str, links: &[&str]) {
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

    /// `manx adopt ARGS` on node a.
    fn adopt(&self, args: &[&str]) -> Finished {
        self.adopt_by(&std::env::var("PATH").unwrap(), args)
    }

    /// With programs from these directories.
    fn adopt_by(&self, path: &str, args: &[&str]) -> Finished {
        let root = self.node().host.scratch().dir("root");
        self.node().host.enter(|| {
            let mut command = Command::new(crate::cluster::MANX);
            command.arg("adopt").args(args).arg("--root").arg(root).env("PATH", path);
            run(command, &Stdin::Null, DEADLINE)
        })
    }

    /// `manx pods` on node a.
    fn pods(&self) -> String {
        let root = self.node().host.scratch().dir("root").display().to_string();
        self.node().host.command(crate::cluster::MANX, &["pods", "--root", &root]).ok()
    }

    fn json(&self, args: &[&str]) -> Value {
        let told = self.adopt(&[args, &["--json"]].concat());
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"))
    }

    /// The MAC address and the address of node c's tunnel, and what node c takes for those
    /// of node a.
    fn tunnels(&self, device: &str) -> [String; 2] {
        let far = &self.cluster.nodes[1].host;
        let own = far.link(device).unwrap()["address"].as_str().unwrap().to_owned();
        let all = far.ip(&["neighbour", "show", "nud", "permanent", "dev", device]);
        let of_a = all.as_array().unwrap().iter().find(|it| it["dst"] == "10.244.1.0").unwrap();
        [of_a["lladdr"].as_str().unwrap().to_owned(), own]
    }

    fn restore(&self, program: &str, text: &str) {
        self.node().host.enter(|| {
            run(Command::new(program), &Stdin::Bytes(text.into()), DEADLINE).ok();
        });
    }

    /// Takes the pod from the node in the way of a runtime that has our configuration now.
    fn delete_old(&self) {
        self.node().plugin.del(&self.old).ok();
        let journal = self.node().host.scratch().path().join("root/run/manx").join(NETWORK);
        let left: Vec<String> = fs::read_dir(journal)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(&self.old.id))
            .collect();
        assert_eq!(left, [""; 0]);
    }

    fn leases(&self) -> Vec<String> {
        let root = self.node().host.scratch().path().join("root/var/lib/cni/networks");
        let names = fs::read_dir(root.join(NETWORK)).unwrap();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut leases: Vec<String> =
            names.filter(|name| name.starts_with("10.") || name.starts_with("fd")).collect();
        leases.sort();
        leases
    }
}

/// Asserts that there is nothing that doctor would warn of.
#[track_caller]
fn assert_healthy(node: &Node) {
    let doctor = node.manx(&["doctor"]);
    assert_eq!(doctor.status, 0, "{}", doctor.stdout);
}

/// The host link of default/web, as Calico names it.
const WEB: &str = "cali68caf03a5f4";

/// What Felix leaves, as far as it decides about packets.
const FELIX: &str = "*filter
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
fn calicos_pod(scene: &Scene) {
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
    scene.note("k8s-pod-network", &[WEB]);
    let calico = json!({"type": "calico", "ipam": {"type": "calico-ipam"}});
    let list = json!({"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [calico]});
    scene.write("etc/cni/net.d/10-calico.conflist", &list);
}

/// A node as calico-node leaves it that routes by VXLAN, with one pod. Its rules are in both
/// backends, as where iptables was changed meanwhile.
fn calico() -> Scene {
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
    scene.restore("iptables-nft-restore", FELIX);
    scene.restore("iptables-legacy-restore", FELIX);
    scene
}

/// The same where BIRD makes the routes, of both families, to a node on the same link.
#[test]
fn a_node_of_calico_with_bird_becomes_ours_under_traffic() {
    let scene = Scene::beside(2, Families::Dual, &json!({"mode": "direct"}));
    let node = scene.node();
    batch(
        &node.host,
        "route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto bird
         route add fd00:244:2::/64 via 2001:db8:1::12 dev eth0 proto bird metric 1024
         route add blackhole 10.244.1.0/26 proto bird",
    );
    calicos_pod(&scene);
    let far = addresses(&scene.far);
    let pinging: Vec<Pinging> = far
        .iter()
        .map(|address| Pinging::new(&scene.old.netns, address))
        .chain([OLD, OLD_IPV6].map(|address| Pinging::new(&scene.far.netns, address)))
        .collect();
    scene.adopt(&["calico", "--apply"]).ok();
    pinging.into_iter().for_each(Pinging::assert_whole);
    node.assert_settled();
    assert_eq!(scene.json(&["calico"])["changes"], json!([]));
    assert!(!node.state().iter().any(|line| line.contains("proto 12")), "{:?}", node.state());
    assert_eq!(scene.leases(), [OLD, OLD_IPV6]);
    let new = node.attach("new");
    for address in far.iter().map(String::as_str).chain([OLD, OLD_IPV6]) {
        assert!(new.netns.pings(address), "{address}");
    }
    assert_healthy(node);
    scene.delete_old();
    assert_eq!(scene.leases().len(), 2, "those of the new pod");
}

#[test]
fn what_calico_left_is_told() {
    let scene = calico();
    let before = scene.node().state();
    let told = scene.json(&["calico"]);
    let objects = |kind: &str| {
        let rows = told["found"].as_array().unwrap().iter().filter(|row| row["kind"] == kind);
        rows.map(|row| row["object"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(objects("device"), ["vxlan.calico"]);
    assert_eq!(objects("pod"), [WEB]);
    assert_eq!(objects("chains"), ["iptables-nft ip filter", "iptables-legacy ip filter"]);
    let mut routes = objects("route");
    routes.sort();
    assert_eq!(routes, ["10.244.1.0/26", "10.244.3.0/26", "10.65.9.0/26"]);
    assert_eq!(objects("leases"), ["network k8s-pod-network"]);
    assert!(objects("file")[0].ends_with("10-calico.conflist"), "{told}");
    let checks: Vec<&str> =
        told["checks"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(checks, ["calico-chains", "fabric-conflict", "network-unavailable"], "{told}");
    let plan = scene.adopt(&["calico"]);
    assert_eq!(plan.status, 3, "{plan:?}");
    for words in ["KIND", WEB, "~ link vxlan.calico", "- rules iptables-nft ip filter"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    assert_eq!(scene.node().state(), before, "it was only asked");
}

#[test]
fn a_node_of_calico_becomes_ours_under_traffic() {
    let scene = calico();
    let node = scene.node();
    // Beside what is left of Felix, no pod of ours reaches anything.
    let refused = node.attach("refused");
    assert!(refused.netns.keeps_silent(&scene.far_address()));
    node.plugin.del(&refused).ok();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let to_old = Pinging::new(&scene.far.netns, OLD);
    let done = scene.adopt(&["calico", "--apply"]);
    assert_eq!(done.status, 0, "{done:?}");
    pinging.assert_whole();
    to_old.assert_whole();
    // Nothing is left to do, and what is no affair of ours is still there.
    let again = scene.json(&["calico"]);
    assert_eq!(again["changes"], json!([]), "{again}");
    node.assert_settled();
    assert!(node.state().iter().any(|line| line.starts_with("10.65.9.0/26")), "{:?}", node.state());
    for program in ["iptables-nft-save", "iptables-legacy-save"] {
        let saved = node.host.command(program, &[]).ok();
        assert!(saved.contains("KUBE-FORWARD") && !saved.contains("cali"), "{saved}");
    }
    let link = node.host.link(WEB).unwrap();
    let alias = format!("manx1 {NETWORK} {} eth0", scene.old.id);
    assert_eq!(link["ifalias"], json!(alias));
    assert_eq!(scene.leases(), [OLD]);
    assert_healthy(node);
    // New pods reach old ones, and what those reach.
    let new = node.attach("new");
    assert!(new.netns.pings(OLD) && new.netns.pings(&scene.far_address()));
    let pods = scene.pods();
    assert!(pods.contains("default/web") && !pods.contains("missing"), "{pods}");
    scene.delete_old();
    assert!(node.host.link(WEB).is_none() && !scene.leases().contains(&OLD.to_owned()));
}

/// Whatever ends it half-way leaves a node that goes on, and is found as it is.
#[test]
fn what_was_begun_is_ended() {
    let scene = calico();
    let node = scene.node();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let programs = node.host.scratch().dir("programs");
    let program = programs.join("iptables-nft-restore");
    fs::write(&program, "#!/bin/sh\necho locked >&2\nexit 4\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let first = scene.adopt_by(&path, &["calico", "--apply"]);
    assert!(first.status == 1 && first.stderr.contains("locked"), "{first:?}");
    let files = node.host.scratch().path().join("root/etc/cni/net.d");
    assert!(files.join("10-calico.conflist").exists(), "pods do not come before they may");
    assert!(node.host.link(WEB).unwrap()["ifalias"].is_string());
    let lines = scene.json(&["calico"])["changes"].as_array().unwrap().len();
    assert_eq!(lines, 3, "the firewall of both backends and the file");
    scene.adopt(&["calico", "--apply"]).ok();
    assert!(files.join("10-calico.conflist.disabled").exists());
    pinging.assert_whole();
}

#[test]
fn a_running_agent_is_in_the_way() {
    let scene = calico();
    let program = scene.node().host.scratch().path().join("calico-node");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut agent = scene.node().host.enter(|| Command::new(&program).arg("60").spawn().unwrap());
    let seen = eventually(DEADLINE, || {
        scene.json(&["calico"])["checks"].to_string().contains("former-agent")
    });
    let before = scene.node().state();
    let refused = scene.adopt(&["calico", "--apply"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(seen && refused.status == 1, "{refused:?}");
    assert!(
        refused.stderr.contains("calico-node") && refused.stderr.contains("nothing was changed")
    );
    assert_eq!(scene.node().state(), before);
}

/// A node as flanneld leaves it, with one pod behind its bridge.
fn flannel() -> Scene {
    const MAC: &str = "6a:00:00:00:00:01";
    let vxlan = json!({"vni": 1, "port": 8472, "device": "flannel.1"});
    let scene = Scene::new(&json!({"mode": "vxlan", "vxlan": vxlan}));
    // The address of flannel's device is drawn, and the others are told it.
    let mut peers: Vec<Value> =
        [1, 3].map(|number| crate::cluster::entry(number, Families::Ipv4)).to_vec();
    peers[0]["tunnelMAC"] = json!(MAC);
    for node in &scene.cluster.nodes {
        node.set_peers(&peers);
    }
    scene.cluster.nodes[1].apply().ok();
    let [mac_a, mac_c] = scene.tunnels("flannel.1");
    assert_eq!(mac_a, MAC);
    let host = &scene.node().host;
    let netns = scene.old.netns.path().display().to_string();
    batch(
        host,
        &format!(
            "link add flannel.1 address {MAC} mtu 1450 type vxlan id 1 dstport 8472 \
                local 192.0.2.11 dev eth0 nolearning
             address add 10.244.1.0/32 dev flannel.1
             link set flannel.1 up
             neighbour add 10.244.3.0 lladdr {mac_c} dev flannel.1 nud permanent
             route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink
             link add cni0 mtu 1450 type bridge
             address add 10.244.1.1/24 dev cni0
             link set cni0 up
             link add veth0a1b2c3d mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}
             link set veth0a1b2c3d master cni0 up"
        ),
    );
    let fdb = ["fdb", "append", &mac_c, "dev", "flannel.1", "dst", "198.51.100.13", "self"];
    host.command("bridge", &fdb).ok();
    batch(
        &scene.old.netns,
        &format!(
            "address add {OLD}/24 dev eth0
             link set eth0 up
             route add default via 10.244.1.1"
        ),
    );
    scene.restore(
        "iptables-nft-restore",
        "*nat\n:FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN\nCOMMIT\n",
    );
    scene.note("cbr0", &["cni0", "veth0a1b2c3d"]);
    let plugin = json!({"type": "flannel", "delegate": {"isDefaultGateway": true}});
    let list = json!({"name": "cbr0", "cniVersion": "0.3.1", "plugins": [plugin]});
    scene.write("etc/cni/net.d/10-flannel.conflist", &list);
    scene
}

#[test]
fn a_node_of_flannel_becomes_ours_under_traffic() {
    let scene = flannel();
    let node = scene.node();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let to_old = Pinging::new(&scene.far.netns, OLD);
    let done = scene.adopt(&["flannel", "--apply"]);
    assert_eq!(done.status, 0, "{done:?}");
    pinging.assert_whole();
    to_old.assert_whole();
    let again = scene.json(&["flannel"]);
    assert_eq!(again["changes"], json!([]), "{again}");
    node.assert_settled();
    // The old pod stays behind its bridge, and is known.
    assert_eq!(node.host.link("veth0a1b2c3d").unwrap()["master"], "cni0");
    assert_eq!(scene.leases(), [OLD]);
    let pods = scene.pods();
    assert!(pods.contains("default/web") && pods.contains(" up "), "{pods}");
    let new = node.attach("new");
    assert!(new.netns.pings(OLD) && new.netns.pings(&scene.far_address()));
    assert!(scene.old.netns.pings(&addresses(&new)[0]), "what is not behind the bridge");
    assert_healthy(node);
    let collected = node.manx(&["gc", "--dry-run"]).stdout;
    assert!(collected.contains(": 0"), "{collected}");
    // Its rules go with the last of its pods.
    assert!(node.host.command("iptables-nft-save", &[]).ok().contains("FLANNEL"));
    scene.delete_old();
    assert!(node.host.link("veth0a1b2c3d").is_none());
    scene.adopt(&["flannel", "--apply"]).ok();
    assert!(!node.host.command("iptables-nft-save", &[]).ok().contains("FLANNEL"));
    assert!(new.netns.pings(&scene.far_address()));
}
