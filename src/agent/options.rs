// SPDX-License-Identifier: Apache-2.0
//! What the agent is told when it is started.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use lexopt::{Arg, Parser, ValueExt};
use nix::unistd::gethostname;

use super::change::ACCEPTED;
use crate::{policy::Denial, state::Root};

pub(crate) const USAGE: &str = "\
Usage: manx-agent [--mode MODE] [--config FILE] [--node NAME] [--kubeconfig FILE]
                  [--peers-file FILE] [--conflist-name NAME] [--plugin-dir DIR]
                  [--sysctl-dir DIR] [--accept-former SECONDS] [--listen ADDRESS:PORT]
                  [--condition] [--network-policy] [--policy-reject]
                  [--policy-log GROUP] [--root DIR]

Watches a cluster's Nodes, keeps the peers file and this node's routes true to them, and
puts the configuration of the container runtime in place when pods may come.

  --mode MODE           direct, ipip or vxlan: fabric.mode, whatever the configuration says
  --config FILE         JSON: fabric, as the peers file is to have it; clusterCIDRs, where
                        all pods are; conflist, what is put in place instead of one by which
                        pods get addresses of the node's podCIDRs; calico, where other
                        nodes run Calico: calico-ipam or host-local, whichever gives out
                        addresses there (default: /etc/manx/agent.json, if it is there)
  --node NAME           this node's Node (default: $NODE_NAME, else the host's name)
  --kubeconfig FILE     how to reach the API server (default: as a pod does)
  --peers-file FILE     what is written (default: /var/lib/manx/peers.json)
  --conflist-name NAME  in /etc/cni/net.d (default: 10-manx.conflist)
  --plugin-dir DIR      where the container runtime finds plugins (default: /opt/cni/bin)
  --sysctl-dir DIR      where /proc/sys can be written to, if not there
  --accept-former SECONDS
                        for how long packets by a former mode are accepted, and the new one
                        is not used for the first half, so that all nodes have it (default:
                        600)
  --listen ADDRESS:PORT /metrics, /healthz and /readyz; 0: none (default: 127.0.0.1:9641)
  --condition           set NetworkUnavailable of this Node to False when pods may come
  --network-policy      enforce NetworkPolicies: watch Namespaces, Pods and NetworkPolicies
                        as well, and let pods come with networkPolicy enforce
  --policy-reject       tell the sender of what no policy allows, by a reset of TCP or by
                        ICMP, instead of dropping it in silence
  --policy-log GROUP    send what no policy allows, ten packets a second, to this group of
                        NFLOG (0 to 65535)
  --root DIR            read files and state below DIR (default: $MANX_ROOT, else /)
";

/// Where the configuration is, if nobody says so.
const USUAL: &str = "/etc/manx/agent.json";

/// What the agent is told.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Else the usual one, if it is there.
    pub(crate) config: Option<PathBuf>,
    pub(crate) mode: Option<String>,
    pub(crate) node: String,
    pub(crate) kubeconfig: Option<PathBuf>,
    /// As plugins have it in their configuration.
    pub(crate) peers_file: PathBuf,
    pub(crate) conflist_name: String,
    pub(crate) plugin_dir: PathBuf,
    pub(crate) sysctl_dir: Option<PathBuf>,
    pub(crate) accept_former: Duration,
    pub(crate) listen: Option<SocketAddr>,
    /// Whether the Node is told that pods may come.
    pub(crate) condition: bool,
    /// Whether network policies are enforced.
    pub(crate) network_policy: bool,
    /// What becomes of packets that none allows.
    pub(crate) denial: Denial,
    pub(crate) root: Root,
}

impl Options {
    /// Reads the arguments behind the program's name; none if help is asked for.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence.
    pub(crate) fn read(
        arguments: impl IntoIterator<Item = OsString>,
        node_name: Option<String>,
    ) -> Result<Option<Self>, String> {
        let mut options = Self {
            config: None,
            mode: None,
            node: node_name.unwrap_or_default(),
            kubeconfig: None,
            peers_file: "/var/lib/manx/peers.json".into(),
            conflist_name: "10-manx.conflist".to_owned(),
            plugin_dir: "/opt/cni/bin".into(),
            sysctl_dir: None,
            accept_former: ACCEPTED,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9641))),
            condition: false,
            network_policy: false,
            denial: Denial::default(),
            root: Root::default(),
        };
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let name = match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Long("condition") => {
                    options.condition = true;
                    continue;
                }
                Arg::Long("network-policy") => {
                    options.network_policy = true;
                    continue;
                }
                Arg::Long("policy-reject") => {
                    options.denial.rejects = true;
                    continue;
                }
                Arg::Long(name) => name.to_owned(),
                other => return Err(other.unexpected().to_string()),
            };
            let given = parser.value().map_err(|error| error.to_string())?;
            options.take(&name, given)?;
        }
        if options.node.is_empty() {
            let host = gethostname().map_err(|errno| format!("host's name: {}", errno.desc()))?;
            // As a kubelet does.
            options.node = host.to_string_lossy().trim().to_ascii_lowercase();
        }
        Ok(Some(options))
    }

    /// Where the configuration is.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.root.path(USUAL))
    }

    fn take(&mut self, name: &str, given: OsString) -> Result<(), String> {
        match name {
            "config" => self.config = Some(given.into()),
            "mode" => self.mode = Some(text(given)?),
            "node" => self.node = text(given)?,
            "kubeconfig" => self.kubeconfig = Some(given.into()),
            "peers-file" => self.peers_file = given.into(),
            "conflist-name" => {
                self.conflist_name = text(given)?;
                if !self.conflist_name.ends_with(".conflist") || self.conflist_name.contains('/') {
                    return Err("--conflist-name is a name that ends with .conflist".to_owned());
                }
            }
            "plugin-dir" => self.plugin_dir = given.into(),
            "sysctl-dir" => self.sysctl_dir = Some(given.into()),
            "accept-former" => {
                let given = text(given)?;
                let wrong = |_| format!("--accept-former {given:?} is no number of seconds");
                self.accept_former =
                    Duration::from_secs(given.parse::<u32>().map_err(wrong)?.into());
            }
            "listen" => {
                let given = text(given)?;
                let wrong = || format!("--listen {given:?} is no address with a port");
                self.listen = match given.as_str() {
                    "0" => None,
                    _ => Some(listener(&given).ok_or_else(wrong)?),
                };
            }
            "policy-log" => {
                let given = text(given)?;
                let wrong = |_| format!("--policy-log {given:?} is no group from 0 to 65535");
                self.denial.log = Some(given.parse().map_err(wrong)?);
            }
            "root" => self.root = Root::new(given),
            other => return Err(format!("there is no --{other}")),
        }
        Ok(())
    }
}

/// An address with a port. IPv6 needs no brackets, which nobody puts around the address of
/// a node that Kubernetes fills in.
fn listener(given: &str) -> Option<SocketAddr> {
    let bare = || {
        let (host, port) = given.rsplit_once(':')?;
        Some(SocketAddr::new(host.parse().ok()?, port.parse().ok()?))
    };
    given.parse().ok().or_else(bare)
}

fn text(given: OsString) -> Result<String, String> {
    given.string().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Options>, String> {
        Options::read(arguments.iter().map(OsString::from), Some("n1".to_owned()))
    }

    #[test]
    fn options_have_defaults_and_are_taken() {
        let options = read(&[]).unwrap().unwrap();
        assert_eq!(options.node, "n1");
        assert_eq!(options.listen, Some("127.0.0.1:9641".parse().unwrap()));
        assert!(!options.condition && !options.network_policy);
        assert_eq!(options.denial, Denial::default());
        let arguments =
            ["--node", "n2", "--listen=0", "--condition", "--network-policy", "--root", "/r"];
        let options = read(&arguments).unwrap().unwrap();
        assert!(options.condition && options.network_policy);
        assert_eq!((options.node.as_str(), options.listen), ("n2", None));
        assert_eq!(options.root, Root::new("/r"));
        let options = read(&["--policy-reject", "--policy-log", "5"]).unwrap().unwrap();
        let denial = Denial { rejects: true, log: Some(5), ..Denial::default() };
        assert_eq!(options.denial, denial);
        for group in ["-1", "65536", "x"] {
            assert!(read(&["--policy-log", group]).unwrap_err().contains(group));
        }
        assert!(read(&["--help"]).unwrap().is_none());
        let hosts = Options::read([], None).unwrap().unwrap();
        assert!(!hosts.node.is_empty());
    }

    #[test]
    fn a_nodes_address_may_be_of_either_family() {
        for (given, expected) in [
            ("192.0.2.1:9641", "192.0.2.1:9641"),
            ("[fd00::1]:9641", "[fd00::1]:9641"),
            ("fd00::1:9641", "[fd00::1]:9641"),
        ] {
            let options = read(&["--listen", given]).unwrap().unwrap();
            assert_eq!(options.listen, Some(expected.parse().unwrap()), "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, words) in [
            (&["--nod", "x"][..], "there is no --nod"),
            (&["x"], "unexpected argument"),
            (&["--node"], "missing argument"),
            (&["--accept-former", "soon"], "no number of seconds"),
            (&["--listen", "9641"], "no address with a port"),
            (&["--listen", "fd00::1"], "no address with a port"),
            (&["--conflist-name", "10-manx.conf"], "ends with .conflist"),
            (&["--conflist-name", "../10.conflist"], "is a name"),
        ] {
            let said = read(arguments).unwrap_err();
            assert!(said.contains(words), "{arguments:?}: {said}");
        }
        assert!(USAGE.contains("127.0.0.1:9641"));
    }
}
