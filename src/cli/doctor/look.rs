// SPDX-License-Identifier: Apache-2.0
//! Takes the [`Snapshot`] of this node.

use std::{
    ffi::OsStr,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    cli::{
        Args, Failure, Subcommand, conflist,
        forward::{Firewall, translations},
        install::lacking,
    },
    cni::{Document, json::field},
    conf::{Config, has_store},
    doctor::{BUDGET, MODULES_DISABLED, NO_IPV6, RELEASE, tune},
    fabric::{self, Answers, Settings, list},
    ipam::Lease,
    list::{Gather, PushAll},
    net::{Socket, Tables, devconf, forwarding, sysctl},
    node::{self, Compared, Kernel, Misfit, Network, Pool, Snapshot},
    node::{
        changes::{Changes, Source, compare_by},
        configured::{Configured, Networks},
        fabric::{FabricState, Pass, last_applied, read_peers_by},
        link_mtus, policy, version,
    },
    object::reverse_path,
    pod::identity::GROUPS,
    state::{
        Journal, Root,
        file::{BUNDLE_BYTES_MAX, PEERS_BYTES_MAX, TEXT_BYTES_MAX, read_stream},
        journal, read,
    },
    verb::stock,
};

use super::{
    agent, assignments, machine,
    plugins::{asked, plugins},
    samples::{Samples, memory_bytes},
};

/// What is asked for.
struct Request<'a> {
    root: &'a Root,
    /// One configuration, instead of all of the directory.
    conf: Option<PathBuf>,
    /// Where plugins are.
    plugin_path: Vec<PathBuf>,
}

/// Parameters of the whole node that checks ask for.
const SYSCTLS: [&str; 6] =
    [forwarding::IPV4, forwarding::IPV6, NO_IPV6, RELEASE, MODULES_DISABLED, BUDGET];

/// That the options name a node or a bundle, and not both.
pub(in crate::cli) fn require_one_node(
    args: &Args,
    subcommand: &Subcommand,
) -> Result<(), Failure> {
    let of_node = ["conf", "bin", "root"].into_iter().find(|name| args.value(name).is_some());
    match (of_node, args.value("bundle")) {
        (Some(name), Some(_)) => {
            Err(subcommand.usage(&format!("--{name} is of a node, not of a bundle")))
        }
        _ => Ok(()),
    }
}

/// This node as it is now, or as the bundle has it that the options name.
pub(in crate::cli) fn snapshot(args: &Args) -> Result<Snapshot, Failure> {
    args.value("bundle").map_or_else(|| taken(args), bundled)
}

/// What explain is made of: this node as it is now, with what translates addresses and what
/// policies allow, or as a bundle has it.
pub(in crate::cli) fn for_packets(args: &Args) -> Result<Snapshot, Failure> {
    args.value("bundle").map_or_else(|| with_translations(args), bundled)
}

/// What a bundle holds: all of it.
pub(in crate::cli) fn with_translations(args: &Args) -> Result<Snapshot, Failure> {
    let mut snapshot = taken(args)?;
    snapshot.surroundings.translations = translations();
    // What cannot be read is said where it is looked for.
    if let Ok(Some(held)) = policy::in_force(&args.root()) {
        // It may be in force without a network of ours.
        snapshot.surroundings.enforces_policy = true;
        snapshot.surroundings.policies = Some(held);
    }
    Ok(snapshot)
}

/// A node as a bundle has it.
pub(in crate::cli) fn bundled(file: &OsStr) -> Result<Snapshot, Failure> {
    let file = PathBuf::from(file);
    let file = if file == Path::new("-") { "/dev/stdin".into() } else { file };
    let bytes = read_stream(&file, BUNDLE_BYTES_MAX as u64);
    let bytes = bytes.map_err(|error| crate::node::unreadable(&file, &error))?;
    Snapshot::decode(&bytes)
        .map_err(|problem| Failure::Failed(format!("{}: {problem}", file.display())))
}

pub(in crate::cli) fn taken(args: &Args) -> Result<Snapshot, Failure> {
    let root = args.root();
    crate::node::require_readable(&root)?;
    let samples = Samples::begin();
    let mut snapshot = look(&Request {
        conf: args.value("conf").map(PathBuf::from),
        plugin_path: args.plugin_path(&root),
        root: &root,
    })?;
    let own = snapshot.kernel.addresses.iter().map(|(_, address)| address.ip());
    snapshot.surroundings.agent = agent::ask(&root, own);
    snapshot.surroundings.assignments = assignments(&root);
    snapshot.surroundings.memory_bytes = memory_bytes();
    samples.end(&mut snapshot.surroundings);
    Ok(snapshot)
}

/// What plan is made of: no plugin is asked anything.
///
/// # Errors
/// Where nothing could be compared.
pub(in crate::cli) fn planned(args: &Args) -> Result<Snapshot, Failure> {
    let conf = args.value("conf").map(Path::new);
    let networks = Networks::read(&args.root(), conf)?;
    let mut socket = Socket::open()?;
    let tables = Tables::of_kernel(&mut socket)?;
    let changes =
        compare_by(&networks, &mut socket, Some(&tables), Source::File, &mut Answers::default())?;
    changes.failures(&networks)?;
    let mut snapshot = of_kernel(&networks.root, &tables);
    let mut firewall = Firewall::read(Some(&tables));
    for network in &networks.all {
        snapshot.add_barriers(
            firewall.look(&with_ranges(&network.config, &tables), changes.serve_ipv6()),
        );
    }
    snapshot.compared = Compared::of(&changes, &networks, &tables);
    Ok(snapshot)
}

/// A configuration with the ranges of this node's pods: where it leaves them to the list of
/// nodes (`usePodCidr`), those.
fn with_ranges(config: &Config, tables: &Tables) -> Config {
    let mut config = config.clone();
    if let (true, Some(path)) = (config.own_ranges.is_empty(), config.fabric.peers_file.clone())
        && let Ok((peers, _)) = read_peers_by(Path::new(&path), &config, tables)
    {
        config.own_ranges = peers.me.given_pod_cidrs();
    }
    config
}

/// The node with one network, or with none.
///
/// # Errors
/// Of the kernel's answers.
pub(in crate::cli) fn of_network(args: &Args, conf: Option<&Path>) -> Result<Snapshot, Failure> {
    let root = &args.root();
    match conf {
        Some(conf) => {
            let plugin_path = args.plugin_path(root);
            look(&Request { root, conf: Some(conf.to_owned()), plugin_path })
        }
        None => Ok(of_kernel(root, &Tables::of_kernel(&mut Socket::open()?)?)),
    }
}

/// A file of configurations.
pub(in crate::cli) fn file_at(path: &Path) -> node::File {
    file(path, object(path).as_ref())
}

/// Looks at this node, and changes nothing.
///
/// # Errors
/// Of the kernel's answers.
fn look(request: &Request<'_>) -> Result<Snapshot, Failure> {
    let root = request.root;
    let mut socket = Socket::open()?;
    let tables = Tables::of_kernel(&mut socket)?;
    let mut snapshot = of_kernel(root, &tables);
    let paths = match &request.conf {
        Some(path) => vec![path.clone()],
        None => conflist::files(&root.path(conflist::DIRECTORY)).unwrap_or_default(),
    };
    let mut named = Vec::new();
    for path in &paths {
        let object = object(path);
        snapshot.files.push(file(path, object.as_ref()));
        if let Err(error) = conflist::plugin(path) {
            // Of a file that is not ours there is nothing to say.
            if let Some(file) = snapshot.files.last_mut().filter(|file| file.ours) {
                file.problem.get_or_insert(error.to_string());
            }
            continue;
        }
        named.push_all(object.ok().into_iter().flat_map(|object| plugins(path, &object)));
    }
    snapshot.surroundings.plugins = asked(named, &request.plugin_path);
    // That there is none is told by its files.
    if let Ok(networks) = Networks::read(root, request.conf.as_deref()) {
        let changes = compare_by(
            &networks,
            &mut socket,
            Some(&tables),
            Source::File,
            &mut Answers::default(),
        )?;
        let mut firewall = Firewall::read(Some(&tables));
        for one in &networks.all {
            let seen = (&mut socket, &tables);
            let network = network(one, root, &changes, seen, firewall.is_denied());
            snapshot.networks.push(network);
            snapshot.add_barriers(
                firewall.look(&with_ranges(&one.config, &tables), changes.serve_ipv6()),
            );
        }
        snapshot.surroundings.calico_chains = firewall.of_calico();
        snapshot.surroundings.policy_chains = firewall.policies();
        snapshot.surroundings.walks = firewall.walks();
        snapshot.surroundings.enforces_policy = firewall.enforces_policy();
        let said = policy::is_said(root).filter(|_| !firewall.is_denied());
        snapshot.surroundings.policies_said = said;
        snapshot.surroundings.policies_kept = policy::is_kept(root);
        snapshot.compared = Compared::of(&changes, &networks, &tables);
    }
    snapshot.surroundings.daemons = lacking(root);
    snapshot.surroundings.exchanged = exchanged(root, &request.plugin_path);
    machine::look(root, &mut snapshot);
    Ok(snapshot.concluded())
}

/// The installed plugin, where another one noted its version: that.
fn exchanged(root: &Root, directories: &[PathBuf]) -> Option<(PathBuf, String)> {
    let noted = version::noted(root)?;
    let mut all = directories.iter().map(|directory| version::installed(directory));
    let installed = all.find(|installed| !installed.is_empty())?;
    let is_gone = noted.is_gone_from(&installed);
    let (path, _) = installed.into_iter().next().filter(|_| is_gone)?;
    Some((path, noted.version))
}

/// What the kernel and our own files say.
fn of_kernel(root: &Root, tables: &Tables) -> Snapshot {
    let mut kernel = Kernel::of(tables);
    let of_links = kernel.links.iter().map(|link| format!("net/ipv6/conf/{}/accept_ra", link.name));
    let others = kernel.links.iter().filter(|link| !GROUPS.contains(&link.group));
    let filters = others.map(|link| link.name.as_str()).chain(["all"]).map(reverse_path);
    let forwards = kernel.links.iter().map(|link| devconf::forwarding(&link.name));
    let of_links = of_links.chain(forwards).chain(filters);
    let keys = SYSCTLS.into_iter().chain(tune::KEYS).map(str::to_owned).chain(of_links);
    kernel.sysctls =
        keys.filter_map(|key| Some((key.clone(), sysctl::read(&key).ok()?))).gather_map();
    let unreadable = journal::networks(root).into_iter();
    Snapshot {
        version: node::VERSION,
        taken_by: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        applied: FabricState::all_applied(root),
        journal: journal::all(root),
        unreadable: unreadable
            .flat_map(|name| Journal::new(root, &name).all().1)
            .chain(FabricState::unreadable(root))
            .chain(policy::unreadable_files(root))
            .gather(),
        ..Snapshot::default()
    }
}

fn object(path: &Path) -> Result<Map<String, Value>, String> {
    let bytes = read(path, TEXT_BYTES_MAX).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn file(path: &Path, object: Result<&Map<String, Value>, &String>) -> node::File {
    let mut file = node::File { path: path.to_owned(), ..node::File::default() };
    match object {
        Err(problem) => file.problem = Some(problem.clone()),
        Ok(object) => {
            file.network = field(object, "name").and_then(Value::as_str).map(str::to_owned);
            let kinds = conflist::objects(object)
                .into_iter()
                .filter_map(|one| field(one, "type")?.as_str());
            file.plugins = kinds.map(str::to_owned).gather();
            let mut ours = conflist::objects(object).into_iter().filter(|it| conflist::is_ours(it));
            file.ours = ours.clone().next().is_some();
            file.policy = ours.any(|one| field(one, "policy").is_some());
        }
    }
    file
}

fn network(
    configured: &Configured,
    root: &Root,
    changes: &Changes,
    (socket, tables): (&mut Socket, &Tables),
    is_denied: bool,
) -> Network {
    let config = &configured.config;
    let mut network = Network {
        name: config.name.clone(),
        file: configured.path.clone(),
        host_prefix: config.host_prefix.clone(),
        manages_forwarding: config.manage_forwarding,
        masquerades: config.masquerade,
        checks_sources: config.source_check,
        enforces_policy: config.enforces_policy,
        never_masqueraded: config.never_masqueraded.clone(),
        configured_mtu: config.mtu,
        ..Network::default()
    };
    let pass = changes.pass_of(configured);
    let refusal = changes.refusal_of(&config.name);
    if let Some(peers_file) = &configured.peers_file {
        network.fabric = Some(fabric_of(peers_file, config, root, (tables, pass, refusal)));
    }
    let noted = last_applied(config, root);
    let applied = pass.map(|pass| &pass.applied).or(noted.as_ref());
    let unsized_config = Config { mtu: None, ..config.clone() };
    network.mtu = link_mtus(socket, &unsized_config, root, applied, tables).ok();
    let unknown = changes.unknown_table_of(&config.name).map(ToString::to_string);
    match is_denied {
        true => network.table_unseen = unknown,
        false => network.table.push_all(unknown),
    }
    if has_store(&config.ipam_type) {
        let state = FabricState::new(root, config.fabric.protocol);
        let misfits = pass.map(|pass| pass.misfits(&state, &configured.document, config));
        let mut document = configured.document.clone();
        network.pool = Some(pool(root, &mut document, config, misfits.unwrap_or_default()));
    }
    network
}

/// What there is to say of a fabric beside what was compared.
fn fabric_of(
    path: &Path,
    config: &Config,
    root: &Root,
    (tables, pass, refusal): (&Tables, Option<&Pass>, Option<&node::Error>),
) -> node::Fabric {
    let protocol = config.fabric.protocol;
    let noted = FabricState::new(root, protocol).applied();
    let mut fabric = node::Fabric {
        peers_file: path.to_owned(),
        protocol,
        applied: noted.as_ref().is_some_and(|applied| applied.was_applied()),
        is_current: pass.is_some_and(Pass::is_of_applied_file),
        ..node::Fabric::default()
    };
    let settings = Settings::of_config(pass.map_or(config, Pass::config));
    fabric.module = settings.encapsulation().map(|carrier| carrier.needs().module.to_owned());
    match read_peers_by(path, config, tables) {
        Ok((peers, _)) => {
            fabric.node = peers.me.name.clone();
            fabric.addresses = peers.me.addresses.clone();
            fabric.own_cidrs = peers.me.given_pod_cidrs();
            let others = peers.others.iter().chain(&peers.left_out);
            fabric.remote_cidrs = others.flat_map(|node| node.pod_cidrs.clone()).gather();
            fabric.accepts = accepted(path);
            fabric.unread = peers.unread;
            fabric.left_out = [peers.excluded, peers.here].concat();
            fabric.failure = refusal.map(|error| {
                let of_network = error.object == node::Object::network(&config.name);
                node::Failure {
                    of_configuration: error.kind == node::Kind::Configuration,
                    text: if of_network { error.cause.clone() } else { error.message() },
                    fix: error.next.clone(),
                }
            });
        }
        Err(error) => {
            fabric.problem = Some(error.message());
            let is_local =
                |address: IpAddr| tables.addresses.iter().any(|(_, own)| own.ip() == address);
            let own = noted.map(|applied| applied.own_cidrs).unwrap_or_default();
            let heir = read(path, PEERS_BYTES_MAX).ok();
            let heir = heir.and_then(|bytes| fabric::heir(&bytes, &own, &is_local));
            fabric.heir = heir.map(|node| (node.name, node.addresses));
        }
    }
    fabric
}

/// The mode that a peers file accepts besides, by its word.
fn accepted(path: &Path) -> Option<String> {
    let fabric = list::fabric(&read(path, PEERS_BYTES_MAX).ok()?).ok()?;
    Some(fabric.accepts()?.encode().get("mode")?.as_str()?.to_owned())
}

fn pool(
    root: &Root,
    document: &mut Document,
    config: &Config,
    misfits: Vec<fabric::pools::Misfit>,
) -> Pool {
    let stock = match stock(root, document, config) {
        Ok(stock) => stock,
        Err(error) => return Pool { problem: Some(error.to_string()), ..Pool::default() },
    };
    let ranges = stock.sets.iter().enumerate().flat_map(|(set, ranges)| {
        ranges.ranges().iter().map(move |range| {
            let (first, last) = range.ends();
            let size = range.size().to_string();
            node::Range { path: String::new(), set, first, last, size }
        })
    });
    let lease = |lease: &Lease| node::Lease {
        address: lease.address,
        container_id: lease.owner.container_id.clone(),
        ifname: lease.owner.ifname.clone(),
    };
    Pool {
        ranges: ranges.gather(),
        leases: stock.leases.iter().map(lease).gather(),
        shared: stock.shared,
        misfits: misfits.iter().map(Misfit::from).gather(),
        problem: None,
        directory: stock.directory,
    }
}
