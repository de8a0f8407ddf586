//! Whether this node's firewall forwards pods' packets, for `plan` and
//! `validate`: what is seen in nf_tables, which iptables-nft writes as well, and
//! in the tables of the older iptables, which only its own tool reads.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Command,
};

use crate::{
    conf::Config,
    fabric::Settings,
    family::{Family, HasFamily},
    net::{Socket, forwarding, link, sysctl},
    nft::forward::{self, Barrier, Links, Maker, Way},
    node,
    pod::identity::GROUPS,
    state::{file::TEXT_BYTES_MAX, read_text},
};

/// The tables that the older iptables has in use, and its tools, by family.
const LEGACY: [(Family, &str, [&str; 2]); 2] = [
    (Family::V4, "/proc/net/ip_tables_names", ["iptables-legacy-save", "iptables-save"]),
    (Family::V6, "/proc/net/ip6_tables_names", ["ip6tables-legacy-save", "ip6tables-save"]),
];

/// Looks at the firewall as pods of a network meet it. `serves_ipv6` says that there
/// are such of IPv6.
pub(super) fn look(config: &Config, serves_ipv6: bool) -> Vec<node::Barrier> {
    let Some((names, others)) = devices(config) else { return Vec::new() };
    let prefix = config.host_prefix.as_str();
    let pods = &config.own_ranges;
    let links = Links { prefix, groups: GROUPS, others: &others, pods, names: &names };
    let mut told = Vec::new();
    let mut barriers = forward::look(&links).unwrap_or_else(|error| {
        told.extend(unread(&error));
        Vec::new()
    });
    for (family, path, tools) in LEGACY {
        // There is none without its module.
        let tables = read_text(Path::new(path), TEXT_BYTES_MAX).unwrap_or_default();
        if tables.trim().is_empty() {
            continue;
        }
        match tools.into_iter().find_map(saved) {
            Some(text) => barriers.extend(forward::of_save(&text, family, &links)),
            None => told.push(node::Barrier {
                certain: false,
                text: format!(
                    "iptables-legacy has tables ({}), and there is no {} here to read them",
                    tables.split_whitespace().collect::<Vec<_>>().join(", "),
                    tools[0]
                ),
                fix: String::new(),
            }),
        }
    }
    let serves = families(config, serves_ipv6);
    barriers.retain(|barrier| serves(barrier.packets));
    let unasked = config.fabric.peers_file.is_some();
    told.extend(said(&barriers, unasked, config));
    told
}

/// The names of all links by index, and those by which packets of other nodes
/// come.
fn devices(config: &Config) -> Option<(HashMap<u32, String>, Vec<String>)> {
    let mut socket = Socket::open().ok()?;
    let links = link::all(&mut socket).ok()?;
    let settings = Settings::of_config(config);
    let tunnels = links.iter().map(|link| &link.name).filter(|name| settings.is_tunnel(name));
    let uplink = node::uplink(&mut socket).ok().flatten();
    let others = tunnels.cloned().chain(uplink.map(|uplink| uplink.device)).collect();
    Some((links.into_iter().map(|link| (link.index, link.name)).collect(), others))
}

/// Which families a network's pods have.
fn families(config: &Config, serves_ipv6: bool) -> impl Fn(Family) -> bool {
    let has = |family| config.own_ranges.iter().any(|range| range.family() == family);
    // Where the ranges are not ours to know, a node that forwards IPv6 has pods of it.
    let unknown = config.own_ranges.is_empty();
    let forwards = || sysctl::read(forwarding::IPV6).is_ok_and(|value| value == "1");
    let serves4 = unknown || has(Family::V4);
    let serves6 = serves_ipv6 || has(Family::V6) || (unknown && forwards());
    move |family| match family {
        Family::V4 => serves4,
        Family::V6 => serves6,
    }
}

/// A kernel without nf_tables has none that drop.
fn unread(error: &crate::nft::Error) -> Option<node::Barrier> {
    use nix::errno::Errno;
    let denied = matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES));
    denied.then(|| node::Barrier {
        certain: false,
        text: "whether the firewall forwards pods' packets was not seen: that takes root".into(),
        fix: String::new(),
    })
}

/// What a tool of the older backend prints.
fn saved(tool: &str) -> Option<String> {
    let output = Command::new(tool).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !text.contains("(nf_tables)")).then_some(text)
}

fn said(barriers: &[Barrier], unasked: bool, config: &Config) -> Vec<node::Barrier> {
    // One line for a chain that sees both families.
    let mut lines: BTreeMap<(bool, String, String), Vec<String>> = BTreeMap::new();
    for barrier in barriers {
        let closed: Vec<Way> =
            barrier.closed.iter().copied().filter(|way| unasked || *way != Way::In).collect();
        let doubtful = barrier.doubtful.iter().find(|(way, _)| unasked || *way != Way::In);
        let (certain, message, fix) = match (closed.is_empty(), doubtful) {
            (false, _) => (true, loss(barrier, &closed), fix(barrier, config)),
            (true, Some((_, rule))) => {
                (false, format!("{barrier}, unless {rule} accepts pods' packets"), String::new())
            }
            (true, None) => continue,
        };
        lines.entry((!certain, message, fix)).or_default().push(barrier.packets.to_string());
    }
    let told = |((doubtful, message, fix), families): ((bool, String, String), Vec<String>)| {
        node::Barrier {
            certain: !doubtful,
            text: format!("{}: {message}", families.join(" and ")),
            fix,
        }
    };
    lines.into_iter().map(told).collect()
}

fn loss(barrier: &Barrier, closed: &[Way]) -> String {
    if Way::ALL.iter().all(|way| *way == Way::In || closed.contains(way)) {
        return format!("no packet of pods is forwarded: {barrier}");
    }
    let ways: Vec<String> = closed.iter().map(ToString::to_string).collect();
    format!("packets {} are not forwarded: {barrier}", ways.join(", "))
}

/// What lets the pods' packets pass.
fn fix(barrier: &Barrier, config: &Config) -> String {
    let Barrier { family, table, chain, packets, .. } = barrier;
    let prefix = &config.host_prefix;
    let tool = |legacy| format!("{}tables{}", packets.word(), if legacy { "-legacy" } else { "" });
    let rules = |tool: &str, chain: &str| {
        format!(
            "{tool} -I {chain} -i {prefix}+ -j ACCEPT; {tool} -I {chain} -o {prefix}+ -j ACCEPT"
        )
    };
    let of_family = config.own_ranges.iter().filter(|range| range.family() == *packets);
    let ranges: Vec<String> = of_family.map(ToString::to_string).collect();
    let pods = if ranges.is_empty() { "CIDR-OF-PODS".to_owned() } else { ranges.join(", ") };
    match barrier.maker {
        Maker::Docker { legacy } => format!(
            "{}, at each boot; or \"ip-forward-no-drop\": true in /etc/docker/daemon.json",
            rules(&tool(legacy), "DOCKER-USER")
        ),
        Maker::Ufw => {
            "DEFAULT_FORWARD_POLICY=\"ACCEPT\" in /etc/default/ufw, then ufw reload".to_owned()
        }
        Maker::Firewalld => format!(
            "firewall-cmd --permanent --zone=trusted --add-source=NETWORK for the pods of each node \
             (here {pods}), then firewall-cmd --reload"
        ),
        Maker::Iptables { legacy } => {
            format!("{}, after what set the policy, at each boot", rules(&tool(legacy), chain))
        }
        Maker::Nft => format!(
            "nft 'insert rule {family} {table} {chain} iifname \"{prefix}*\" accept', the same with \
             oifname, and both where that table is made (/etc/nftables.conf)"
        ),
    }
}
