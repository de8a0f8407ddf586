// SPDX-License-Identifier: Apache-2.0
//! The CNI verbs: where the protocol, the kernel and the journal meet.
//!
//! Each verb is a file that reads from top to bottom. [`run`] keeps the order
//! of errors that the reference library has (environment, stdin, document,
//! syntax, version, values), so that a runtime is told the same first thing by
//! every plugin.

mod add;
mod call;
mod check;
mod conditions;
mod del;
mod error;
mod gc;
mod ipam;
pub mod logger;
mod pools;
mod reclaim;
mod several;
mod status;
mod usable;
mod version;

use std::{ffi::OsString, io, mem::ManuallyDrop, path::Path, time::Instant};

use call::{Call, Emit};
use error::{file, kernel};

pub use facts::{link_mtus, uplink};
pub use gc::{Collected, collect_dead};
pub use ipam::{
    audit::{Audit, CHECKS, RangeUse, Stock, audit, stock},
    give_back, lease, leases_of, own_cidrs_fit, range_sets, resolver,
};

use crate::{
    cni::{Code, Command, Document, Environment, Error, Version, delegate::DELEGATED},
    conf::{BUILT_IN, Complaint, Config, has_placeholder},
    list::{Gather, PushAll},
    node::{
        allowed, fabric, facts, former, lasting, liveness, ownership, pod_side, policy, repair,
        sandbox, side, tables,
    },
    state::{
        Journal, Root,
        operations::{self, Operation},
    },
};

/// What this binary is called for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// A plugin that makes attachments.
    Main,
    /// `manx-ipam`: addresses alone.
    Ipam,
}

impl Role {
    /// The role that goes with the name of the program.
    pub fn of_program(name: &Path) -> Self {
        if name.file_name().is_some_and(|name| name == BUILT_IN) { Self::Ipam } else { Self::Main }
    }
}

/// Carries out the verb that the environment names.
///
/// # Errors
/// What to tell the runtime, and in which version.
pub fn run(
    role: Role,
    lookup: impl Fn(&str) -> Option<OsString>,
    stdin: impl FnOnce() -> io::Result<Vec<u8>>,
    emit: Emit<'_>,
) -> Result<(), (Error, Version)> {
    let started = Instant::now();
    let newest = |error| (error, Version::NEWEST);
    let root = lookup("MANX_ROOT").map(Root::new).unwrap_or_default();
    let delegated = lookup(DELEGATED).is_some_and(|value| !value.is_empty());
    let environment = Environment::from_vars(lookup).map_err(newest)?;
    if environment.command == Command::Version {
        return version::version(emit).map_err(newest);
    }
    if role == Role::Main && delegated {
        let msg = "this plugin was called by itself, as an IPAM plugin";
        return Err(newest(ipam::itself(msg)));
    }
    let command = environment.command.clone();
    let outcome = answer(role, environment, &root, stdin, emit);
    if role == Role::Main && !matches!(command, Command::Unknown(_)) {
        let code = outcome.as_ref().map_or_else(|(error, _)| error.code.0, |()| 0);
        let (verb, took) = (command.as_str().to_owned(), started.elapsed());
        operations::note(&root, &Operation { verb, code, took });
    }
    outcome
}

/// Carries out a verb that is about a configuration.
fn answer(
    role: Role,
    environment: Environment,
    root: &Root,
    stdin: impl FnOnce() -> io::Result<Vec<u8>>,
    emit: Emit<'_>,
) -> Result<(), (Error, Version)> {
    let newest = |error| (error, Version::NEWEST);
    let bytes = stdin().map_err(|error| {
        let msg = format!("read the configuration from stdin: {error}");
        newest(
            Error::new(Code::IO, msg).details("the runtime writes it there: call the plugin again"),
        )
    })?;
    let mut document = Document::parse(bytes).map_err(newest)?;
    let version = document.version();
    let spoken = *version.as_ref().unwrap_or(&Version::NEWEST);
    let tell = |error| (error, spoken);
    environment.validate_syntax().map_err(tell)?;
    let version =
        version.and_then(|version| speaks(&environment.command, version)).map_err(tell)?;
    let (config, mut complaints) = Config::read(&document, version);
    logger::start(config.log_level, config.log_file.as_deref(), root);
    let (mut config, contradiction) = beside_peers(config, &environment.command, root);
    let looks_up = has_placeholder(document.ipam());
    match role {
        Role::Main => complaints.push_all(contradiction),
        // The keys are those of the plugin that delegates, but for what is looked up by them.
        Role::Ipam => {
            complaints = contradiction.into_iter().filter(|_| looks_up).gather();
            complaints.first().map_or(Ok(()), |one| Err(tell(one.error.clone())))?;
        }
    }
    if looks_up {
        fill_placeholders(role, &environment, &mut document, &config, &complaints, root)
            .map_err(tell)?;
        // What is wrong already is told first, and was not of the ranges.
        if complaints.is_empty() {
            let said = config.fabric.file;
            (config, complaints) = Config::read(&document, version);
            config = config.under(&said);
        }
    }
    if role == Role::Main && environment.command == Command::Add && complaints.is_empty() {
        ipam::annotated::ask(&mut document, &config).map_err(tell)?;
    }
    // What a verb holds at its end goes with the process: to free it piece by piece takes
    // as long as a twentieth of an ADD's own work.
    let root = root.clone();
    let call = ManuallyDrop::new(Call { environment, document, config, complaints, root });
    dispatch(&call, role, emit).map_err(tell)
}

/// The configuration with what its peers file says of the fabric. An ADD fails where
/// the two contradict each other, and a STATUS says that it would; verbs that remove need
/// neither.
fn beside_peers(config: Config, command: &Command, root: &Root) -> (Config, Option<Complaint>) {
    if !matches!(command, Command::Add | Command::Check | Command::Status) {
        return (config, None);
    }
    let config = fabric::resolved_and_noted(config, root);
    let agreement = fabric::require_agreement(&config, &config.fabric.file);
    let (Command::Add | Command::Status, Err(error)) = (command, agreement) else {
        return (config, None);
    };
    let error = Error::from(error);
    let code = if matches!(command, Command::Status) { Code::UNAVAILABLE } else { error.code };
    (config, Some(Complaint { key: String::new(), error: error.code(code) }))
}

/// What an ADD, or a STATUS, means by this node's own pod CIDR is looked up; a
/// CHECK means what its ADD did, which `manx-ipam` has no note of: any address
/// that is leased to the attachment will do. Other verbs need no ranges.
fn fill_placeholders(
    role: Role,
    environment: &Environment,
    document: &mut Document,
    config: &Config,
    complaints: &[Complaint],
    root: &Root,
) -> Result<(), Error> {
    match environment.command {
        Command::Add | Command::Status if complaints.is_empty() => {
            ipam::placeholder::fill(document, config, root)
        }
        Command::Check if role == Role::Ipam => {
            ipam::placeholder::fill_with_all(document);
            Ok(())
        }
        Command::Check => {
            let journal = Journal::new(root, &config.name);
            let entry = journal.read(&environment.container_id, &environment.ifname);
            if let Some(entry) = entry.filter(|entry| entry.ipam.is_object()) {
                document.set_ipam(entry.ipam);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
fn speaks(command: &Command, version: Version) -> Result<Version, Error> {
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        _ => return Ok(version),
    };
    if version >= since {
        return Ok(version);
    }
    let verb = command.as_str();
    let msg = format!("cniVersion {version:?} has no {verb}", version = version.as_str());
    Err(Error::new(Code::INCOMPATIBLE_VERSION, msg)
        .details(format!("{verb} exists since {since}: raise cniVersion")))
}

/// Carries out the verb of a call, and logs how it ended.
fn dispatch(call: &Call, role: Role, emit: Emit<'_>) -> Result<(), Error> {
    let started = Instant::now();
    let outcome = match call.environment.command {
        _ if role == Role::Ipam => ipam::plugin::dispatch(call, emit),
        Command::Add => add::add(call, emit),
        Command::Del => del::del(call),
        Command::Check => check::check(call).map(|()| String::new()),
        Command::Gc => gc::gc(call),
        Command::Status => {
            let told = status::status(call);
            conditions::tell(&call.root, &call.subject(), &told);
            return told.map(drop);
        }
        Command::Version | Command::Unknown(_) => Ok(String::new()),
    };
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    let subject = call.subject();
    match outcome {
        Ok(facts) if facts.is_empty() => {
            log::debug!("{subject} took_ms={took_ms:.1}");
            Ok(())
        }
        Ok(facts) => {
            log::info!("{subject} {facts} took_ms={took_ms:.1}");
            Ok(())
        }
        Err(error) => {
            log::error!("{subject} code={} took_ms={took_ms:.1}: {error}", error.code.0);
            Err(error)
        }
    }
}
