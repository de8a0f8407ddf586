// SPDX-License-Identifier: Apache-2.0
//! The agent: what a cluster's API server knows of its nodes, as a peers file.
//!
//! It watches the Nodes ([`nodes`]), decides which of them are served ([`crate::fabric::nodes`]) and
//! whether a list of them may be believed at all ([`belief`]), keeps the peers file
//! ([`keep`]) and this node ([`node`]) true to that, and lets pods come when they can be
//! served ([`gate`]). Belief is pure, as that is: it knows no Kubernetes types, no file,
//! and no clock but the time that it is given.
//!
//! What speaks to the API server runs in a thread of its own and tells of complete lists
//! of nodes ([`source`]). All others block, as the rest of manx does. Nothing of the node
//! is taken back when the agent ends, and it never ends by itself: what is wrong with its
//! configuration or the cluster is waited for.

mod backoff;
mod belief;
mod calico;
mod change;
mod common;
mod condition;
mod config;
mod connect;
mod gate;
mod keep;
mod metrics;
mod node;
mod nodes;
mod noted;
mod operations;
mod options;
mod own;
mod plugin;
mod policy;
mod reach;
mod reread;
mod serve;
#[cfg(test)]
#[path = "../../integration/agent/server.rs"]
mod server;
mod skew;
mod slip;
mod source;
mod standin;
mod status;
mod watched;

use std::{
    convert::Infallible,
    ffi::CStr,
    ffi::OsString,
    future::pending,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use futures::future::join3;
use log::LevelFilter;
use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
};
use tokio::sync::watch;

use calico::{Calico, Credentials, Delegate, Wish};
use config::{Config, Ipam};
use connect::Access;
use gate::Gate;
use keep::Keeper;
use nodes::Nodes;
use options::{Options, USAGE};
use plugin::Installed;
use serve::serve;
use source::source;
use status::Status;
use watched::{Limits, Watched};

use crate::{
    fabric::nodes::{Settings, form_of},
    net::sysctl,
    node::{sandbox, version},
    state::{file::PEERS_BYTES_MAX, read},
    verb::logger,
};

/// How soon a configuration that cannot be used is read again.
const AGAIN: Duration = Duration::from_secs(10);
/// What a cluster risks that does not say where its pods are.
const UNBOUNDED: &str = "agent.json does not say where all pods are (clusterCIDRs, the cluster's --cluster-cidr): a \
     compromised node can claim other addresses for its pods";
/// The agents of so many nodes may ask at once when they are started together.
const FEW: usize = 32;

/// Runs the agent until it is told to end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let node_name = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let root = std::env::var_os("MANX_ROOT").filter(|root| !root.is_empty());
    let root = root.into_iter().flat_map(|root| ["--root".into(), root]);
    let options = match Options::read(root.chain(arguments), node_name) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(words) => {
            let _ = io::stderr().write_all(format!("manx-agent: {words}\n{USAGE}").as_bytes());
            return ExitCode::from(2);
        }
    };
    logger::start(LevelFilter::Info, None, &options.root);
    // The first process of a container gets no signal that it does not ask for.
    let ending = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    let _ = ending.thread_block();
    if let Some(directory) = &options.sysctl_dir {
        sysctl::set_directory(directory.clone());
    }
    version::look_in(options.plugin_dir.clone());
    sandbox::stay_out();
    log::info!("manx-agent {} on node {}", env!("CARGO_PKG_VERSION"), options.node);
    start(c"peers", move || begin(&options));
    let signal = ending.wait();
    log::info!(
        "{}: the agent ends, and the node stays as it is",
        signal.map_or("?", Signal::as_str)
    );
    ExitCode::SUCCESS
}

/// Starts a thread that has a name where threads are listed (`ps -T`), of 15 bytes at most.
fn start<T: Send + 'static>(name: &'static CStr, run: impl FnOnce() -> T + Send + 'static) {
    thread::spawn(move || {
        let _ = prctl::set_name(name);
        run()
    });
}

/// Starts all threads, and is that which keeps the peers file.
fn begin(options: &Options) -> Infallible {
    let status = Status::of(&options.root);
    let status = Arc::new(if options.network_policy { status.enforcing() } else { status });
    // Before there is a configuration: one that is no good is waited for, and is no reason
    // to start the agent again.
    if let Some(address) = options.listen {
        let of_askers = Arc::clone(&status);
        start(c"listen", move || run_alone(serve(address, of_askers)));
    }
    let config = configuration(options, &status);
    let (begun, of_agent) = (config.clone(), options.clone());
    start(c"reread", move || reread::follow(&of_agent, &begun));
    let peers_file = options.root.path(&options.peers_file);
    let wish = Arc::new(Wish::new(status.bell().cloned()));
    let in_blocks = config.calico == Some(Ipam::CalicoIpam);
    let delegate = in_blocks.then(|| delegate(options, &wish));
    let (uid, of_own) = watch::channel(Box::default());
    let plugin = Arc::new(Installed::in_directory(&options.root, &options.plugin_dir));
    // Before anybody asks what it reads.
    plugin.has_read(form_of(&read(&peers_file, PEERS_BYTES_MAX).unwrap_or_default()));
    plugin.known();
    let gate = Gate::new(options, config.conflist, delegate, Arc::clone(&plugin));
    let gate = if options.network_policy { gate.enforcing(&status) } else { gate };
    // What is there is applied before anybody is asked.
    let (root, of_node) = (options.root.clone(), Arc::clone(&status));
    start(c"node", move || node::look_after(&root, &gate, &of_node));
    let (root, of_plugin) = (options.root.clone(), Arc::clone(&status));
    start(c"operations", move || operations::count(&root, &of_plugin));
    if !options.network_policy {
        let root = options.root.clone();
        start(c"relinquish", move || policy::relinquish(&root));
    }
    let (teller, listener) = source();
    let access = Access { kubeconfig: options.kubeconfig.clone() };
    if config.cluster_cidrs.is_none() && config.calico.is_none() {
        log::warn!("{UNBOUNDED}");
    }
    let settings = Settings {
        node: options.node.clone(),
        fabric: config.fabric,
        cluster_cidrs: config.cluster_cidrs,
        in_blocks,
        spared: access.addresses(),
    };
    let mut keeper =
        Keeper::new(listener, settings, &options.root, peers_file, Arc::clone(&status))
            .accepting_for(options.accept_former, config.calico.is_some())
            .for_plugin(Arc::clone(&plugin));
    let limits = Limits { spread: spread(keeper.nodes()), ..Limits::default() };
    let condition = options.condition.then(|| (access.clone(), options.node.clone()));
    let policies =
        options.network_policy.then(|| enforce_policies(options, &access, &limits, &status));
    let (own, api) = (options.node.clone(), status.api());
    if in_blocks && options.kubeconfig.is_none() {
        let credentials = Credentials::new(options, &access, of_own, &status);
        // It waits for disks, and nobody else has to.
        start(c"credentials", move || run_alone(credentials.keep()));
    }
    let held = keeper.own().to_vec();
    start(c"api", move || {
        let nodes = async {
            let mut limits = limits;
            // Blocks are not in Nodes.
            let may_have_moved = !in_blocks && !limits.spread.is_zero();
            if may_have_moved && own::has_moved(&access, &own, &held, &api).await {
                limits.spread = Duration::ZERO;
            }
            match config.calico {
                None => {
                    let path = nodes::PATH.to_owned();
                    Watched::<Nodes, _>::new(access, limits, path, teller).counted(api).run().await
                }
                Some(_) => {
                    let calico =
                        Calico { own, access, limits, in_blocks, teller, wish, plugin, uid, api };
                    calico.run().await
                }
            }
        };
        talk(nodes, policies, condition, status);
    });
    loop {
        keeper.step();
    }
}

/// Keeps the table of network policies in a thread of its own, and returns what asks the API
/// server for them.
fn enforce_policies(
    options: &Options,
    access: &Access,
    limits: &Limits,
    status: &Arc<Status>,
) -> impl Future<Output = Infallible> + use<> {
    let (node, root, of_table) = (options.node.clone(), options.root.clone(), Arc::clone(status));
    let (access, limits, api) = (access.clone(), limits.clone(), status.api().apart());
    let denial = options.denial;
    async move {
        let board = policy::board().await;
        let of_lists = Arc::clone(&board);
        start(c"policy", move || policy::keep(&board, &node, denial, &root, &of_table));
        policy::watch(access, limits, of_lists, api).await
    }
}

/// What Calico's IPAM plugin needs on this node.
fn delegate(options: &Options, wish: &Arc<Wish>) -> Delegate {
    let kubeconfig = options.kubeconfig.clone().unwrap_or_else(calico::kubeconfig);
    let token = options.kubeconfig.is_none().then(|| options.root.path(calico::token()));
    let Options { node, plugin_dir, .. } = options;
    let (node, plugin_dir) = (node.clone(), plugin_dir.clone());
    Delegate { node, plugin_dir, kubeconfig, token, wish: Arc::clone(wish) }
}

/// Reads the configuration as soon as it can be used.
fn configuration(options: &Options, status: &Status) -> Config {
    let mut told = String::new();
    loop {
        match Config::read(options) {
            Ok(config) => return config,
            Err(words) if words != told => {
                log::error!("{words}; trying again every {} s", AGAIN.as_secs());
                status.gate(Some(words.clone()));
                told = words;
            }
            Err(_) => {}
        }
        status.alive();
        thread::sleep(AGAIN);
    }
}

/// Over which time the agents of so many nodes ask for their first list.
fn spread(nodes: usize) -> Duration {
    let doublings = nodes.checked_ilog2().filter(|_| nodes > FEW).unwrap_or_default();
    Duration::from_secs(2) * doublings
}

/// What asks the API server.
fn talk(
    nodes: impl Future<Output = Infallible>,
    policies: Option<impl Future<Output = Infallible>>,
    condition: Option<(Access, String)>,
    status: Arc<Status>,
) {
    let condition = async {
        match condition {
            Some((access, node)) => condition::keep(access, node, status).await,
            None => pending().await,
        }
    };
    let policies = async {
        match policies {
            Some(policies) => policies.await,
            None => pending().await,
        }
    };
    run_alone(join3(nodes, policies, condition));
}

/// Runs what comes to no end in a thread that has nothing else to do.
fn run_alone<T>(endless: impl Future<Output = T>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Err(error) = runtime.map(|runtime| runtime.block_on(endless)) {
        log::error!("no way to wait for the network: {error}");
    }
}
