// SPDX-License-Identifier: Apache-2.0
//! What the container runtime gets where Calico gives out the addresses.

use super::*;
use crate::{
    agent::common::Common,
    cni::{Document, Version},
    conf::{Config, Mode},
};

struct Node {
    directory: PathBuf,
    delegate: Delegate,
}

impl Node {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("manx-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let delegate = Delegate {
            node: "here".to_owned(),
            plugin_dir: directory.clone(),
            kubeconfig: "/k".into(),
            token: None,
            wish: Arc::default(),
        };
        Self { directory, delegate }
    }

    fn complete(&self, given: Option<&Value>) -> Result<Value, String> {
        let held = self.directory.join("held");
        self.delegate.complete(given, Path::new("/p"), &held)
    }

    fn want(&self, masquerade: bool, trouble: Option<&str>) {
        let (families, trouble) = (vec![Family::V4], trouble.map(str::to_owned));
        self.delegate.wish.put(Wanted { masquerade, families, trouble });
    }

    fn install(&self) {
        let path = self.directory.join(PLUGIN);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn no_pods_come_without_calicos_ipam_plugin() {
    let node = Node::new("no-plugin");
    assert!(node.complete(None).unwrap_err().contains("not known yet"));
    node.want(true, Some("it lacks a tunnel address"));
    assert_eq!(node.complete(None).unwrap_err(), "it lacks a tunnel address");
    node.want(true, None);
    let said = node.complete(None).unwrap_err();
    assert!(said.contains("calico-ipam") && said.contains("install-cni"), "{said}");
    // A file that is no program.
    fs::write(node.directory.join(PLUGIN), "").unwrap();
    assert!(node.complete(None).is_err());
    node.install();
    assert!(node.complete(None).is_ok());
}

#[test]
fn no_pods_come_without_a_token() {
    let mut node = Node::new("no-token");
    node.install();
    node.want(true, None);
    let token = node.directory.join("token");
    node.delegate.token = Some(token.clone());
    let said = node.complete(None).unwrap_err();
    assert!(said.contains("no token") && said.contains("asks the API server"), "{said}");
    fs::write(token, "t").unwrap();
    assert!(node.complete(None).is_ok());
}

/// As while a pool of another mode takes the place of one that is disabled.
#[test]
fn a_configuration_gives_addresses_of_some_family() {
    let node = Node::new("no-family");
    node.install();
    let mut common = Common {
        mode: Mode::Ipip,
        plain: Vec::new(),
        cross_subnet: false,
        masquerade: true,
        families: Vec::new(),
        findings: Vec::new(),
        trouble: None,
    };
    node.delegate.wish.set(&common);
    let said = node.complete(None).unwrap_err();
    assert!(said.contains("no IPPool of mode ipip") && said.contains("disabled: false"), "{said}");
    common.families.push(Family::V6);
    node.delegate.wish.set(&common);
    let ipam = node.complete(None).unwrap()["plugins"][0]["ipam"].clone();
    assert_eq!((&ipam["assign_ipv4"], &ipam["assign_ipv6"]), (&json!("false"), &json!("true")));
}

#[test]
fn a_configuration_is_made_whole() {
    let node = Node::new("whole");
    node.install();
    node.want(true, None);
    let made = node.complete(None).unwrap();
    assert_eq!((&made["name"], &made["cniVersion"]), (&json!("k8s-pod-network"), &json!("1.0.0")));
    let annotations = json!({"io.kubernetes.cri.pod-annotations": true});
    let expected = json!({"type": "manx", "peersFile": "/p", "capabilities": annotations, "ipMasq": true, "nodename": "here",
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "false"},
        "datastore_type": "kubernetes", "kubernetes": {"kubeconfig": "/k"}});
    assert_eq!(made["plugins"][0], expected);
    // What somebody has written stays.
    let given = json!({"name": "n", "plugins": [{"type": "bandwidth"}, {"type": "manx",
        "ipMasq": false, "kubernetes": {"kubeconfig": "/own"}}]});
    let made = node.complete(Some(&given)).unwrap();
    assert_eq!(made["plugins"][0], json!({"type": "bandwidth"}));
    let (plugin, own) = (&made["plugins"][1], json!({"kubeconfig": "/own"}));
    assert_eq!((&plugin["ipMasq"], &plugin["kubernetes"]), (&json!(false), &own));
    assert_eq!(plugin["nodename"], json!("here"));
}

/// As far as they are not for who gives out the addresses, which is Calico's plugin.
#[test]
fn pods_have_what_their_annotations_ask_for() {
    let node = Node::new("annotations");
    node.install();
    node.want(true, None);
    let mut plugin = node.complete(None).unwrap()["plugins"][0].clone();
    plugin["name"] = json!("k8s-pod-network");
    let capabilities = plugin["capabilities"].as_object().unwrap();
    let (capability, _) = capabilities.iter().find(|(_, is_asked)| **is_asked == true).unwrap();
    plugin["runtimeConfig"] = json!({
        capability: {"cni.projectcalico.org/hwAddr": "02:00:00:00:00:07"}});
    let document = Document::parse(plugin.to_string().into_bytes()).unwrap();
    let (config, complaints) = Config::read(&document, Version::NEWEST);
    assert_eq!(complaints, []);
    assert_eq!(config.annotations.mac.as_deref(), Some("02:00:00:00:00:07"));
}

/// The API server is away, and the node has been started again.
#[test]
fn what_is_in_place_holds_until_more_is_known() {
    let node = Node::new("held");
    node.install();
    node.want(true, None);
    let made = node.complete(None).unwrap();
    fs::write(node.directory.join("held"), made.to_string()).unwrap();
    let Delegate { node: name, plugin_dir, kubeconfig, .. } = &node.delegate;
    let (name, plugin_dir, kubeconfig) = (name.clone(), plugin_dir.clone(), kubeconfig.clone());
    let (token, wish) = (None, Arc::default());
    let delegate = Delegate { node: name, plugin_dir, kubeconfig, token, wish };
    let again = delegate.complete(None, Path::new("/p"), &node.directory.join("held"));
    assert_eq!(again.unwrap(), made);
}
