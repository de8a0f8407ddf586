// SPDX-License-Identifier: Apache-2.0
//! Files for the daemons of a node that look after links: which links and routes
//! they leave alone. The shipped ones hold the default names; what is installed
//! holds those of the node's configurations.

use std::path::Path;

use sha1_smol::Sha1;

use crate::{
    cli::conflist,
    conf::{Config, HOST_PREFIX, Mode},
    fabric::{Settings, encapsulation},
    family::Family,
    list::Gather,
    node::{Daemon, fabric::resolved},
    state::Root,
};

/// A file for a daemon.
pub(in crate::cli) struct DropIn {
    /// The directory by which the daemon is recognised.
    pub(in crate::cli) daemon: &'static str,
    /// Where the file goes.
    pub(in crate::cli) path: &'static str,
    /// What it says of the default names.
    pub(in crate::cli) text: &'static str,
    /// How the daemon is told to read it.
    pub(in crate::cli) reload: &'static str,
}

pub(in crate::cli) const DROP_INS: [DropIn; 5] = [
    DropIn {
        daemon: "/etc/systemd/network",
        path: "/etc/systemd/network/10-manx.network",
        text: include_str!("../../../conf/systemd/network/10-manx.network"),
        reload: "systemctl try-restart systemd-networkd",
    },
    DropIn {
        daemon: "/etc/systemd/network",
        path: "/etc/systemd/networkd.conf.d/10-manx.conf",
        text: include_str!("../../../conf/systemd/networkd.conf.d/10-manx.conf"),
        reload: "systemctl try-restart systemd-networkd",
    },
    DropIn {
        daemon: "/etc/systemd/network",
        path: "/etc/systemd/network/10-manx.link",
        text: include_str!("../../../conf/systemd/network/10-manx.link"),
        reload: "udevadm control --reload",
    },
    DropIn {
        daemon: "/etc/NetworkManager",
        path: "/etc/NetworkManager/conf.d/10-manx.conf",
        text: include_str!("../../../conf/NetworkManager/10-manx.conf"),
        reload: "nmcli general reload conf",
    },
    DropIn {
        daemon: "/etc/sysctl.d",
        path: "/etc/sysctl.d/90-manx.conf",
        text: include_str!("../../../conf/sysctl.d/90-manx.conf"),
        reload: "sysctl --system",
    },
];

/// Digests of what 0.1 installed, which had no mark yet.
const FORMER: [&str; 4] = [
    "c2f02559a03f412a7e0d622b75afb42392635c32",
    "eb9363c04e9a208b9bda7b73a7087e83abefef7c",
    "70390dac7b942ad395adc1fec146cee7812d5526",
    "95b12a5e7e3b61b5edc0da24c3ca2624d1730efc",
];

/// Begins the last line of an installed file: with the digest of the lines above
/// it tells whether somebody has edited them since.
const MARK: &str = "# written by manx install; an edited file is kept: ";

/// The first letters of links that nodes have of their own: a pattern of such
/// letters and a star would take them from their daemon.
const OTHERS: [&str; 20] = [
    "eth", "en", "wl", "ww", "ib", "sl", "usb", "lo", "br", "bond", "team", "vlan", "docker",
    "virbr", "veth", "tun", "tap", "wg", "dummy", "vmbr",
];

/// As many characters of a host link's name follow its prefix.
const DIGEST_CHARS: usize = 11;

/// The names of links that are manx's.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Names {
    /// Patterns of host links.
    host_links: Vec<String>,
    tunnels: Vec<String>,
}

impl Names {
    /// The names that the configurations of a directory give.
    pub(super) fn of_directory(directory: &Path, root: &Root) -> Self {
        Self::of(configs(directory, root))
    }

    fn of(configs: impl Iterator<Item = Config>) -> Self {
        let mut names = Self { host_links: Vec::new(), tunnels: Vec::new() };
        for config in configs {
            names.add(&config.host_prefix, &Settings::of_config(&config));
        }
        if names.host_links.is_empty() {
            names.add(HOST_PREFIX, &Settings::of_mode(Mode::Direct));
        }
        names
    }

    fn add(&mut self, prefix: &str, settings: &Settings) {
        insert(&mut self.host_links, pattern(prefix));
        for encapsulation in encapsulation::ALL {
            let device = |family| encapsulation.device(family, &settings.keys).ok();
            let devices = Family::BOTH.into_iter().filter_map(device);
            devices.for_each(|device| insert(&mut self.tunnels, device));
        }
    }

    fn all(&self) -> Vec<&str> {
        self.host_links.iter().chain(&self.tunnels).map(String::as_str).gather()
    }
}

/// What the configurations of a directory that name this plugin say.
pub(super) fn configs<'a>(
    directory: &Path,
    root: &'a Root,
) -> impl Iterator<Item = Config> + use<'a> {
    let files = conflist::files(directory).unwrap_or_default().into_iter();
    let found = files.filter_map(|path| conflist::plugin(&path).ok());
    found.map(|(_, config)| resolved(config, root))
}

fn insert(names: &mut Vec<String>, name: String) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// What a host link's name looks like.
fn pattern(prefix: &str) -> String {
    let others = OTHERS.iter().any(|name| name.starts_with(prefix) || prefix.starts_with(name));
    let rest = if others { "?".repeat(DIGEST_CHARS) } else { "*".to_owned() };
    format!("{prefix}{rest}")
}

impl DropIn {
    /// Whether a file that is there may be replaced unasked: as an install wrote
    /// it, or as somebody copied it.
    pub(in crate::cli) fn may_replace(&self, bytes: &[u8]) -> bool {
        bytes == self.text.as_bytes() || is_unedited(bytes)
    }

    /// The file for these names, with its mark.
    pub(super) fn render(&self, names: &Names) -> String {
        let mut text = String::new();
        for line in self.text.lines() {
            match line.split_once('=').filter(|_| !line.starts_with('#')) {
                Some((key @ ("Name" | "OriginalName"), _)) => {
                    text += &format!("{key}={}\n", names.all().join(" "));
                }
                Some((key @ "unmanaged-devices+", _)) => {
                    let listed = names.all().into_iter();
                    let listed = listed.map(|name| format!("interface-name:{name}"));
                    text += &format!("{key}={}\n", listed.gather().join(";"));
                }
                Some((key, _)) if key.contains("cali*") => {
                    for pattern in &names.host_links {
                        text += &line.replace("cali*", pattern);
                        text.push('\n');
                    }
                }
                _ => {
                    text += line;
                    text.push('\n');
                }
            }
        }
        marked(text)
    }
}

/// A file with its last line.
pub(super) fn marked(mut text: String) -> String {
    let digest = Sha1::from(&text).digest();
    text += &format!("{MARK}{digest}\n");
    text
}

/// How a running daemon is told by, what it is called, and where its files go.
const DAEMONS: [(&str, &str, &str); 2] = [
    ("/run/systemd/netif", "systemd-networkd", "/etc/systemd/network"),
    ("/run/NetworkManager", "NetworkManager", "/etc/NetworkManager"),
];

/// Whether a daemon runs here whose files are in a directory: it may have none of its own yet.
pub(super) fn runs(directory: &str, root: &Root) -> bool {
    DAEMONS.iter().any(|(run, _, files)| *files == directory && root.path(run).is_dir())
}

/// The daemons that look after this node's links, with the files of ours that they
/// lack.
pub(in crate::cli) fn lacking(root: &Root) -> Vec<Daemon> {
    let running = DAEMONS.into_iter().filter(|(run, ..)| root.path(run).is_dir());
    let daemon = |(_, name, directory): (&str, &str, &str)| {
        let of_daemon = || DROP_INS.iter().filter(|drop_in| drop_in.daemon == directory);
        let missing = of_daemon().map(|drop_in| root.path(drop_in.path));
        let reload = of_daemon().next().map(|drop_in| drop_in.reload.to_owned());
        Daemon {
            name: name.to_owned(),
            missing: missing.filter(|path| !path.exists()).gather(),
            reload: reload.unwrap_or_default(),
        }
    };
    running.map(daemon).gather()
}

/// Whether a file is as an install wrote it, this one or an earlier one.
fn is_unedited(bytes: &[u8]) -> bool {
    let digest = |text: &str| Sha1::from(text).digest().to_string();
    let Ok(text) = str::from_utf8(bytes) else { return false };
    if FORMER.contains(&&*digest(text)) {
        return true;
    }
    let marked = text.split_once(MARK);
    marked.is_some_and(|(above, told)| digest(above) == told.trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cni::{Document, Version};

    fn names(configs: &[Value]) -> Names {
        let read = |keys: &Value| {
            let mut object = json!({"name": "n", "type": "manx", "ipam": {"type": "static"}});
            object.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            let document = Document::parse(object.to_string().into_bytes()).unwrap();
            Config::read(&document, Version::NEWEST).0
        };
        Names::of(configs.iter().map(read))
    }

    #[test]
    fn the_shipped_files_have_the_names_of_the_default_configuration() {
        for names in [names(&[]), names(&[json!({})])] {
            for drop_in in &DROP_INS {
                let text = drop_in.render(&names);
                assert!(text.starts_with(drop_in.text), "{}: {text}", drop_in.path);
                assert!(is_unedited(text.as_bytes()), "{text}");
                assert!(!is_unedited(text.replacen('#', "##", 1).as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn the_names_are_those_of_all_configurations() {
        let vxlan = json!({"hostPrefix": "pod", "vxlan": {"device": "flannel.1"}});
        let names = names(&[json!({}), vxlan, json!({"hostPrefix": "pod"})]);
        let [network, _, link, manager, sysctl] = DROP_INS.map(|drop_in| drop_in.render(&names));
        let all = "cali* pod* tunl0 vxlan.calico vxlan-v6.calico flannel.1 flannel-v6.1\n";
        assert!(network.contains(&format!("\nName={all}")), "{network}");
        assert!(link.contains(&format!("\nOriginalName={all}")), "{link}");
        for name in all.split_whitespace() {
            assert!(manager.contains(&format!("interface-name:{name}")), "{manager}");
        }
        for pattern in ["cali*", "pod*"] {
            assert!(sysctl.contains(&format!("-net.ipv4.conf.{pattern}.proxy_arp = 1")));
        }
    }

    #[test]
    fn a_prefix_takes_no_link_of_the_node() {
        for (prefix, expected) in [
            ("cali", "cali*"),
            ("pod", "pod*"),
            ("e", "e???????????"),
            ("eth", "eth???????????"),
            ("enp", "enp???????????"),
            ("veth", "veth???????????"),
        ] {
            assert_eq!(pattern(prefix), expected);
        }
    }
}
