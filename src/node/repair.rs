// SPDX-License-Identifier: Apache-2.0
//! What the node's side of live attachments has lost: a link that somebody set
//! down, a route that a network daemon swept away, a parameter that was reset.
//! The pods' own namespaces are the pods' own.

pub mod forwarding;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::side;
use crate::{
    list::{Gather, PushAll},
    net::{
        Error, Request, Socket, Tables,
        link::{self, Link},
        sysctl::{self, Sysctl},
    },
    object::{Action, Change, HeldObjects, Indexes, Objects, Told, Work},
    pod::{
        self, Identity,
        attachment::host_side,
        identity::{HostLinks, group, is_marked, of_alias},
    },
    state::{Journal, Root, journal},
};

/// One thing that an attachment's host link lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repair {
    network: String,
    link: String,
    index: u32,
    change: Change,
}

/// The node's side of a live attachment: what it should have, and what it has.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostSide {
    /// The network.
    pub network: String,
    /// The host link, and its index.
    pub link: String,
    /// As of the link.
    pub index: u32,
    /// What it should have.
    pub wanted: Objects,
    /// What it has.
    pub held: HeldObjects,
}

impl HostSide {
    /// What it lacks.
    pub fn lacking(&self) -> impl Iterator<Item = Repair> {
        let changes = pod::side::lack(&self.wanted, &self.held).into_iter();
        changes.map(|change| Repair {
            network: self.network.clone(),
            link: self.link.clone(),
            index: self.index,
            change,
        })
    }
}

/// Compares all attachments of the journal that have a link with the kernel.
///
/// # Errors
/// Of the kernel's answers.
pub fn sides(root: &Root, host: &mut Socket, tables: &Tables) -> Result<Vec<HostSide>, Error> {
    let entries = journal::all(root);
    let mut sides = Vec::new();
    let known = HostLinks::new(&tables.links);
    // Behind another plugin's bridge the link is that one's.
    for entry in entries.iter().filter(|entry| !entry.bridged) {
        let Some(link) = known.of(entry) else { continue };
        let side = host_side(&link.name, &entry.addresses, group(&entry.network));
        let held = match side::held(host, &side, link, Some(tables)) {
            // A DEL took the link away meanwhile.
            Err(error) if error.errno == Errno::ENODEV => continue,
            held => held?,
        };
        let side = HostSide {
            network: entry.network.clone(),
            link: link.name.clone(),
            index: link.index,
            wanted: side.compared(),
            held: held.objects,
        };
        // While the pod's namespace is removed, the link loses its route and its parameters
        // before it is gone: it was listed, and lacks them now.
        if side.lacking().next().is_none() || link::by_index(host, link.index)?.is_some() {
            sides.push(side);
        }
    }
    Ok(sides)
}

/// Gives host links of a network their interface group back where somebody changed it:
/// by it the rules of the network's table know a pod. Returns the names. One message
/// where none has lost it; [`sides`] looks at everything else too.
///
/// # Errors
/// Of the kernel's answers.
pub(crate) fn regroup(root: &Root, network: &str, host: &mut Socket) -> Result<Vec<String>, Error> {
    let wanted = group(network);
    let marked = |link: &&Link| link.group != wanted && is_marked(link.alias.as_deref());
    let links = link::all(host)?;
    let mut noted = None;
    // A long alias does not name the network.
    let mut is_of = |alias: &str| match of_alias(alias) {
        Some(owner) => owner.network == network,
        None => noted
            .get_or_insert_with(|| Journal::new(root, network).entries())
            .iter()
            .any(|entry| Identity::from(entry).alias() == alias),
    };
    let strays = links.iter().filter(marked);
    let strays = strays.filter(|link| link.alias.as_deref().is_some_and(&mut is_of));
    let mut names = Vec::new();
    for link in strays {
        match host.apply(&[link::set_group(link.index, &link.name, wanted)]) {
            Ok(()) => names.push(link.name.clone()),
            // A DEL took it away meanwhile.
            Err(error) if GONE.contains(&error.errno) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// Restores what is lacking; returns what was not, each with its place in
/// `repairs`, and without an error where a DEL took the link away meanwhile: that
/// needs no repair any more.
pub fn restore(host: &mut Socket, repairs: &[Repair]) -> Vec<(usize, Option<Error>)> {
    let (mut failed, mut requests, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, repair) in repairs.iter().enumerate() {
        match repair.request() {
            Ok(Some(request)) => {
                requests.push(request);
                places.push(place);
            }
            Ok(None) => {}
            Err(error) => failed.push((place, error)),
        }
    }
    let refused = host.apply_all(&requests).into_iter();
    failed.push_all(
        refused.map(|failed| (places.get(failed.at).copied().unwrap_or_default(), failed.error)),
    );
    let told = |error: Error| (!GONE.contains(&error.errno)).then_some(error);
    failed.into_iter().map(|(place, error)| (place, told(error))).gather()
}

/// A link that is not there, and a parameter of such a link.
const GONE: [Errno; 2] = [Errno::ENODEV, Errno::ENOENT];

impl Repair {
    /// The message that restores it; a parameter is written at once.
    fn request(&self) -> Result<Option<Request>, Error> {
        let indexes = Indexes::from([(self.link.clone(), self.index)]);
        match self.change.work(&indexes) {
            Work::Write(wanted) => sysctl::ensure(&wanted).map(|_| None),
            // What came back meanwhile does as well.
            Work::Message(request) => Ok(Some(request.tolerate(Errno::EEXIST))),
            Work::Nothing
            | Work::Impossible
            | Work::Device(_)
            | Work::Table(_)
            | Work::NoTable(_) => Ok(None),
        }
    }

    /// The network of the attachment.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Whether it is a parameter of the node that no link shows.
    pub fn is_of_node(&self) -> bool {
        self.link.is_empty()
    }

    /// As of an attachment that has nothing of it.
    pub fn as_side(&self) -> HostSide {
        let sysctls = self.change.wanted::<Sysctl>().cloned().into_iter().gather();
        let wanted = Objects { sysctls, ..Objects::default() };
        HostSide { network: self.network.clone(), wanted, ..HostSide::default() }
    }

    /// The change as it is told.
    pub fn told(&self) -> Told {
        Told { action: Action::Create, before: None, ..self.change.told() }
    }
}
