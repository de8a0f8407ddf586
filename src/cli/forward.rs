// SPDX-License-Identifier: Apache-2.0
//! Whether this node's firewall forwards pods' packets, for `plan` and
//! `validate`: what is seen in nf_tables, which iptables-nft writes as well, and
//! in the tables of the older iptables, which only its own tool reads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    process::Command,
    time::Duration,
};

use ipnetwork::IpNetwork;

use crate::{
    cni::printed,
    conf::Config,
    fabric::{Settings, list},
    family::{Family, HasFamily},
    list::{Gather, Ordered, PushAll, distinct},
    net::{Socket, Tables, forwarding, link, sysctl},
    nft::{
        self,
        forward::{self, Barrier, Length, Links, Maker, Point, Ruleset, Way},
    },
    node::{self, ClosedLink, Direction, tables},
    pod::identity::GROUPS,
    policy,
    state::{
        file::{PEERS_BYTES_MAX, TEXT_BYTES_MAX},
        read, read_text,
    },
    text::{few::some_of, shell::quoted},
};

/// The tables that the older iptables has in use, and its tools, by family.
const LEGACY: [(Family, &str, [&str; 2]); 2] = [
    (Family::V4, "/proc/net/ip_tables_names", ["iptables-legacy-save", "iptables-save"]),
    (Family::V6, "/proc/net/ip6_tables_names", ["ip6tables-legacy-save", "ip6tables-save"]),
];

/// What the names of its chains begin with, and the table that it makes where it does
/// without iptables.
const CALICO: &str = "cali-";
const CALICOS: &str = "calico";

/// What the names of those begin with that hold policies and profiles.
pub(super) const POLICIES: [&str; 4] = ["cali-pi-", "cali-po-", "cali-pri-", "cali-pro-"];

/// One that takes longer hangs.
const TOOL_LIMIT: Duration = Duration::from_secs(5);

/// By what the rules are found again that a fix makes.
const ACCEPTED: &str = "pods of manx";

/// Fewer rules than these are not noted.
const RULES_MANY: u64 = 200;

/// Tunnels with the families that they carry, and devices by their names.
type Others = (Vec<(String, Family)>, Vec<String>);

/// The firewall of this node, read once for all networks.
pub(super) struct Firewall<'a> {
    tables: Option<&'a Tables>,
    /// The names of all links by index.
    names: HashMap<u32, String>,
    ruleset: Result<Ruleset, nft::Error>,
    /// Of each family what the older iptables has: its text, or what there is to say.
    legacy: Vec<(Family, Result<String, node::Barrier>)>,
}

impl<'a> Firewall<'a> {
    /// Reads it; the kernel's links are asked for where its `tables` are not known.
    pub(super) fn read(tables: Option<&'a Tables>) -> Self {
        let links = match tables {
            Some(tables) => tables.links.clone(),
            None => {
                Socket::open().and_then(|mut socket| link::all(&mut socket)).unwrap_or_default()
            }
        };
        let names = links.into_iter().map(|link| (link.index, link.name)).collect();
        let legacy = LEGACY.into_iter().filter_map(|(family, path, tools)| {
            // There is none without its module.
            let tables = read_text(Path::new(path), TEXT_BYTES_MAX).unwrap_or_default();
            let used = !tables.trim().is_empty();
            let [tool, _] = tools;
            used.then(|| {
                let text = tools.into_iter().find_map(saved);
                (family, text.ok_or_else(|| no_tool(&tables, tool)))
            })
        });
        Self { tables, names, ruleset: Ruleset::read(), legacy: legacy.collect() }
    }

    /// Whether this process may not read nf_tables.
    pub(super) fn is_denied(&self) -> bool {
        self.ruleset.as_ref().err().is_some_and(is_denied)
    }

    /// As pods of a network meet it. `serves_ipv6` says that there are such of IPv6.
    pub(super) fn look(&mut self, config: &Config, serves_ipv6: bool) -> Vec<node::Barrier> {
        let Some((tunnels, others)) = self.others(config) else { return Vec::new() };
        let (prefix, pods) = (config.host_prefix.as_str(), config.own_ranges.as_slice());
        let (names, is_ours) = (&self.names, tables::is_ours as fn(&str) -> bool);
        let (tunnels, others) = (tunnels.as_slice(), others.as_slice());
        let links = Links { prefix, groups: GROUPS, others, tunnels, pods, names, is_ours };
        let mut told = Vec::new();
        let seen = match &mut self.ruleset {
            Ok(ruleset) => ruleset.look(&links),
            Err(error) => Err(error.clone()),
        };
        let mut barriers = seen.unwrap_or_else(|error| {
            told.push_all(unread(&error));
            Vec::new()
        });
        for (family, text) in &self.legacy {
            match text {
                Ok(text) => barriers.push_all(forward::of_save(text, *family, &links)),
                Err(unseen) => told.push(unseen.clone()),
            }
        }
        let serves = families(config, serves_ipv6);
        barriers.retain(|barrier| serves(barrier.packets));
        told.push_all(said(&barriers, config, &listed(&barriers, config)));
        told
    }

    /// What pods of a network would meet where one backend of iptables had this text, by
    /// the tool that saves it.
    pub(super) fn judge(
        &self,
        (text, family, legacy): (&str, Family, bool),
        config: &Config,
    ) -> Vec<node::Barrier> {
        let Some((tunnels, others)) = self.others(config) else { return Vec::new() };
        let (prefix, pods) = (config.host_prefix.as_str(), config.own_ranges.as_slice());
        let (names, is_ours) = (&self.names, tables::is_ours as fn(&str) -> bool);
        let (tunnels, others) = (tunnels.as_slice(), others.as_slice());
        let links = Links { prefix, groups: GROUPS, others, tunnels, pods, names, is_ours };
        let mut barriers = forward::of_save(text, family, &links);
        for barrier in barriers.iter_mut().filter(|_| !legacy) {
            barrier.maker = match barrier.maker {
                Maker::Docker { .. } => Maker::Docker { legacy },
                Maker::Iptables { .. } => Maker::Iptables { legacy },
                other => other,
            };
        }
        said(&barriers, config, &listed(&barriers, config))
    }

    /// Whether network policies are enforced.
    pub(super) fn enforces_policy(&self) -> bool {
        self.ruleset.iter().flat_map(Ruleset::names).any(|(_, table, _)| table == policy::TABLE)
    }

    /// The tables with chains of Calico's agent, of iptables or its own.
    pub(super) fn of_calico(&self) -> Vec<String> {
        let names = self.ruleset.iter().flat_map(Ruleset::names);
        let own = names.filter(|(_, table, chain)| chain.starts_with(CALICO) || table == CALICOS);
        let mut tables: BTreeSet<String> =
            own.map(|(family, table, _)| format!("table {family} {table}")).gather_set();
        let is_one =
            |text: &&String| text.lines().any(|line| line.starts_with(&format!(":{CALICO}")));
        for (family, text) in &self.legacy {
            let text = text.as_ref().ok().filter(is_one);
            tables.extend(text.map(|_| format!("iptables-legacy {}", family.word())));
        }
        tables.into_iter().gather()
    }

    /// How many chains of Calico's agent hold policies.
    pub(super) fn policies(&self) -> usize {
        let is_one = |chain: &str| POLICIES.iter().any(|prefix| chain.starts_with(prefix));
        let names = self.ruleset.iter().flat_map(Ruleset::names);
        let texts = self.legacy.iter().filter_map(|(_, text)| text.as_ref().ok());
        let chains = texts.flat_map(|text| text.lines().filter_map(|line| line.strip_prefix(':')));
        names.filter(|(_, _, chain)| is_one(chain)).count() + chains.filter(|it| is_one(it)).count()
    }

    /// Base chains from which a packet may meet many rules.
    pub(super) fn walks(&mut self) -> Vec<node::Walk> {
        let of_kernel = match &mut self.ruleset {
            Ok(ruleset) => ruleset.lengths(tables::is_ours, &self.names).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let texts =
            self.legacy.iter().filter_map(|(family, text)| Some((family, text.as_ref().ok()?)));
        let legacy = texts.flat_map(|(family, text)| forward::lengths_of_save(text, *family));
        let many = of_kernel.into_iter().chain(legacy).filter(|one| one.rules >= RULES_MANY);
        many.map(|Length { chain, rules, longest, of_longest }| node::Walk {
            chain,
            rules,
            longest,
            of_longest,
        })
        .gather()
    }

    /// The tunnels with the families that they carry, and all devices by which packets of
    /// other nodes come.
    fn others(&self, config: &Config) -> Option<Others> {
        let mut socket = Socket::open().ok()?;
        let settings = Settings::of_config(config);
        let mut tunnels = Vec::new();
        for family in Family::BOTH {
            let names = self.names.values().filter(|name| settings.is_tunnel_of(name, family));
            tunnels.push_all(names.map(|name| (name.clone(), family)));
        }
        tunnels.order();
        let uplink = node::uplink(&mut socket, self.tables).ok().flatten();
        let mut others: Vec<String> = tunnels.iter().map(|(name, _)| name.clone()).gather();
        others.push_all(uplink.map(|uplink| uplink.device));
        let others = distinct(others);
        Some((tunnels, others))
    }
}

/// Tables of nf_tables with rules that give packets another destination.
pub(super) fn translations() -> Vec<node::Translation> {
    let found = Ruleset::read().and_then(|mut ruleset| ruleset.translations());
    let told = found.unwrap_or_default().into_iter().map(|(family, table, rules)| {
        node::Translation { table: format!("{family} {table}"), rules }
    });
    told.gather()
}

fn no_tool(tables: &str, tool: &str) -> node::Barrier {
    node::Barrier {
        text: format!(
            "iptables-legacy has tables ({}), and there is no {tool} here to read them",
            tables.split_whitespace().gather().join(", ")
        ),
        ..node::Barrier::default()
    }
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

/// Whether it is that this process may not ask.
fn is_denied(error: &nft::Error) -> bool {
    use nix::errno::Errno;
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES))
}

/// A kernel without nf_tables has none that drop.
fn unread(error: &nft::Error) -> Option<node::Barrier> {
    is_denied(error).then(|| node::Barrier {
        text: "whether the firewall forwards pods' packets was not seen: that takes root".into(),
        ..node::Barrier::default()
    })
}

/// What a tool of the older backend prints.
fn saved(tool: &str) -> Option<String> {
    let text = printed(&mut Command::new(tool), TOOL_LIMIT)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    (!text.contains("(nf_tables)")).then_some(text)
}

/// The pods of all nodes of the list, where what is to be done is told by addresses.
fn listed(barriers: &[Barrier], config: &Config) -> Vec<IpNetwork> {
    let is_asked = barriers.iter().any(|barrier| barrier.maker == Maker::Firewalld);
    let path = config.fabric.peers_file.as_ref().filter(|_| is_asked);
    let bytes = path.and_then(|path| read(Path::new(path), PEERS_BYTES_MAX).ok());
    let nodes = bytes.map(|bytes| list::pods(&bytes)).unwrap_or_default();
    nodes.into_iter().flat_map(|(_, cidrs)| cidrs).gather()
}

/// A line: whether it is in doubt, the hook, what is told, what to do and what takes that
/// back, what is closed by any link, and what by single ones.
type Line = (bool, Point, String, [String; 2], Vec<Direction>, Vec<ClosedLink>);

/// Ways that are closed, to one device or to all.
type Closed = (Option<String>, Vec<Way>);

/// `listed` are the pods of all nodes, as far as they are known.
fn said(barriers: &[Barrier], config: &Config, listed: &[IpNetwork]) -> Vec<node::Barrier> {
    let unasked = config.fabric.peers_file.is_some();
    let is_told = |way: &Way| unasked || *way != Way::In;
    // One line for a chain that sees both families.
    let mut lines: BTreeMap<Line, Vec<Family>> = BTreeMap::new();
    // What one rule does to several links is one thing.
    let mut causes: Vec<(Barrier, Vec<Closed>)> = Vec::new();
    for barrier in barriers {
        let closed: Vec<Way> = barrier.closed.iter().copied().filter(is_told).gather();
        if closed.is_empty() {
            let doubtful = barrier.doubtful.iter().find(|(way, _)| is_told(way));
            let Some((_, rule)) = doubtful else { continue };
            let message = format!("{barrier}, unless {rule} accepts pods' packets");
            let none = Default::default();
            let line = (true, barrier.point, message, none, Vec::new(), Vec::new());
            lines.entry(line).or_default().push(barrier.packets);
            continue;
        }
        let device = barrier.device.clone();
        let mut cause = Barrier { device: None, ..barrier.clone() };
        cause.closed.clear();
        cause.doubtful.clear();
        match causes.iter_mut().find(|(one, _)| *one == cause) {
            Some((_, all)) => all.push((device, closed)),
            None => causes.push((cause, vec![(device, closed)])),
        }
    }
    for (cause, all) in &causes {
        let (mut closed, mut links) = (Vec::new(), Vec::new());
        for (device, ways) in all {
            let ways = ways.iter().copied().map(direction);
            match device.clone() {
                None => closed.push_all(ways),
                Some(device) => links.push(ClosedLink { device, closed: ways.gather() }),
            }
        }
        let (message, fix) = (loss(cause, all), fix(cause, config, listed));
        let line = (false, cause.point, message, fix, closed, links);
        lines.entry(line).or_default().push(cause.packets);
    }
    let told = lines.into_iter().map(|(line, families)| {
        let (doubtful, point, message, [fix, undo], closed, links) = line;
        let names: Vec<String> = families.iter().map(ToString::to_string).gather();
        let (certain, hook) = (!doubtful, point.to_string());
        let text = format!("{}: {message}", names.join(" and "));
        node::Barrier { certain, hook, text, fix, undo, families, closed, links }
    });
    told.gather()
}

fn direction(way: Way) -> Direction {
    match way {
        Way::Between => Direction::Between,
        Way::Out => Direction::Out,
        Way::Answers => Direction::Answers,
        Way::In => Direction::In,
    }
}

fn loss(barrier: &Barrier, closed: &[Closed]) -> String {
    let to_all = closed.iter().find(|(device, _)| device.is_none());
    let is_lost = |way: &Way| to_all.is_some_and(|(_, ways)| ways.contains(way));
    if Way::ALL.iter().all(|way| *way == Way::In || is_lost(way)) {
        return format!("no packet of pods is forwarded: {barrier}");
    }
    // Links to which the same is closed are named together.
    let mut by: Vec<(&[Way], Vec<&String>)> = Vec::new();
    for (device, ways) in closed {
        match by.iter_mut().find(|(one, names)| one == ways && !names.is_empty()) {
            Some((_, names)) => names.push_all(device),
            None => by.push((ways, device.iter().gather())),
        }
    }
    let parts = by.into_iter().map(|(ways, names)| {
        let ways: Vec<String> = ways.iter().map(ToString::to_string).gather();
        let by = if names.is_empty() { String::new() } else { format!(" by {}", some_of(&names)) };
        format!("{}{by}", ways.join(", "))
    });
    let parts: Vec<String> = parts.gather();
    format!("packets {} are not forwarded: {barrier}", parts.join("; and "))
}

/// The sources that are to be trusted for packets of pods of all nodes to pass, and what
/// is to be said of them.
fn sources(
    family: Family,
    config: &Config,
    listed: &[IpNetwork],
) -> (Vec<IpNetwork>, &'static str) {
    let is_of_family = |cidr: &IpNetwork| cidr.family() == family;
    let of = |cidrs: &[IpNetwork]| cidrs.iter().copied().filter(is_of_family).gather();
    // In these all pods are, those of nodes to come as well.
    let cluster = of(config.fabric.cluster_cidrs.as_deref().unwrap_or_default());
    if !cluster.is_empty() {
        return (cluster, "");
    }
    let mut all = of(&config.own_ranges);
    let listed = of(listed);
    let note = match listed.is_empty() {
        true => "and the same of the pods of each other node",
        false => "and the same of the pods of each node that is added",
    };
    for cidr in listed {
        if !all.contains(&cidr) {
            all.push(cidr);
        }
    }
    (all, note)
}

/// What lets the pods' packets pass, and what takes that back; neither where that is for a
/// person to find.
fn fix(barrier: &Barrier, config: &Config, listed: &[IpNetwork]) -> [String; 2] {
    let Barrier { family, table, chain, packets, point, .. } = barrier;
    let prefix = &config.host_prefix;
    let tool = |legacy| format!("{}tables{}", packets.word(), if legacy { "-legacy" } else { "" });
    // Each of both ends, inserted or deleted.
    let both = |tool: &str, chain: &str, ends: [String; 2]| {
        ["-I", "-D"].map(|verb| {
            let each = ends.each_ref().map(|end| format!("{tool} {verb} {chain} {end} -j ACCEPT"));
            each.join("; ")
        })
    };
    let links = || ["-i", "-o"].map(|end| format!("{end} {prefix}+"));
    let of_family = config.own_ranges.iter().filter(|range| range.family() == *packets);
    let ranges: Vec<String> = of_family.map(ToString::to_string).gather();
    let ranges = if ranges.is_empty() { vec!["CIDR-OF-PODS".to_owned()] } else { ranges };
    let noted = |[fix, undo]: [String; 2], note: &str| [format!("{fix} # {note}"), undo];
    match barrier.maker {
        // There one end of them is not known, or not any more.
        Maker::Docker { legacy } | Maker::Iptables { legacy } if *point != Point::Forward => {
            let pods = ranges.join(",");
            let tool = format!("{} -t {table}", tool(legacy));
            let ends = ["-s", "-d"].map(|end| format!("{end} {pods}"));
            noted(both(&tool, &quoted(chain), ends), "at each boot")
        }
        Maker::Nft if *point != Point::Forward => {
            let fix = format!(
                "accept what pods send and get before the rule that drops it; nft list chain {family} \
                 {table} {chain} shows it"
            );
            [fix, String::new()]
        }
        Maker::Docker { legacy } => noted(
            both(&tool(legacy), "DOCKER-USER", links()),
            "at each boot; or \"ip-forward-no-drop\": true in /etc/docker/daemon.json",
        ),
        Maker::Ufw => ["ACCEPT", "DROP"].map(|policy| {
            format!(
                "sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY=\"{policy}\"/' \
                 /etc/default/ufw; ufw reload"
            )
        }),
        Maker::Firewalld => {
            let (sources, note) = sources(*packets, config, listed);
            let sources: Vec<String> = sources.iter().map(ToString::to_string).gather();
            let sources = if sources.is_empty() { ranges } else { sources };
            let commands = ["add", "remove"].map(|verb| {
                let sources = sources.iter().map(|range| format!(" --{verb}-source={range}"));
                let sources = sources.collect::<String>();
                format!("firewall-cmd --permanent --zone=trusted{sources}; firewall-cmd --reload")
            });
            if note.is_empty() { commands } else { noted(commands, note) }
        }
        Maker::Iptables { legacy } => {
            let of_table = if table == "filter" { String::new() } else { format!(" -t {table}") };
            let tool = format!("{}{of_table}", tool(legacy));
            let fix = both(&tool, &quoted(chain), links());
            noted(fix, "after what set the policy, at each boot")
        }
        Maker::Nft => {
            let rule = |end: &str| {
                let accept = format!("{end} \"{prefix}*\" accept comment \"{ACCEPTED}\"");
                format!("nft 'insert rule {family} {table} {chain} {accept}'")
            };
            let fix = format!(
                "{}; {} # and where that table is made (/etc/nftables.conf)",
                rule("iifname"),
                rule("oifname")
            );
            // A rule is deleted by its handle alone.
            let undo = format!(
                "nft -a list chain {family} {table} {chain} | sed -n 's/.*comment \"{ACCEPTED}\" # \
                 handle //p' | while read handle; do nft delete rule {family} {table} {chain} handle \
                 $handle; done"
            );
            [fix, undo]
        }
    }
}

#[cfg(test)]
mod tests;
