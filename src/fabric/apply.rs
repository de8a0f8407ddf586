// SPDX-License-Identifier: Apache-2.0
//! Carries out changes: in order, several hundred messages to a send, routes
//! atomically.

use nix::errno::Errno;

use super::{diff::rival, observed::Observed, refusal};
use crate::{
    list::{Gather, PushAll},
    net::{Error, Failed, Request, Socket, link, sysctl},
    object::{Change, Indexes, Making, Route, Tunnel, Work},
};

/// What the kernel refused.
#[derive(Debug, Default)]
pub struct Refused {
    /// What all peers need: parameters, devices and their addresses.
    pub node: Vec<Error>,
    /// What concerns one peer, or is only in the way.
    pub peers: Vec<Error>,
    /// The changes that were refused of single peers.
    pub changes: Vec<Change>,
    /// All changes that were not made: refused, or in need of one that was. Not
    /// those that somebody else stands in the way of.
    pub unmade: Vec<Change>,
}

/// Makes the changes. Conflicts are left alone; what fails is reported, and the
/// rest is made all the same.
pub fn apply(socket: &mut Socket, observed: &Observed, changes: &[Change]) -> Refused {
    let mut refused = Refused::default();
    let mut indexes = observed.indexes.clone();
    // What is to go goes last, so that nothing is without a route in between.
    let (mut last, first): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.removes());
    let (alone, first): (Vec<_>, Vec<_>) =
        first.into_iter().partition(|change| change.is_made_alone());
    let devices = make_alone(socket, observed, &alone, &mut indexes, &mut refused);
    if !devices {
        // The device that is there serves better than the one that could not be made.
        let (kept, left): (Vec<_>, Vec<_>) =
            last.into_iter().partition(|change| change.removed::<Route>().is_some());
        refused.unmade.push_all(left.into_iter().cloned());
        last = kept;
    }
    let (asked, requests) = requested(first, &indexes, &mut refused.unmade);
    let (removed, removals) = requested(last, &indexes, &mut refused.unmade);
    let (mut of_node, mut of_peers, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut detoured = Vec::new();
    for failed in socket.apply_all(&requests) {
        let Some((change, request)) = asked.get(failed.at).zip(requests.get(failed.at)) else {
            of_peers.push(failed);
            continue;
        };
        let detour = change.detour((request, failed.error.errno), &indexes);
        if !detour.is_empty() {
            // Each of them is of this change.
            detoured.push_all(detour.iter().map(|_| (*change).clone()));
            again.push_all(detour);
            continue;
        }
        refused.unmade.push((*change).clone());
        if change.is_of_node() {
            of_node.push(failed);
        } else {
            refused.changes.push((*change).clone());
            of_peers.push(failed);
        }
    }
    for failed in socket.apply_all(&again) {
        refused.unmade.push_all(detoured.get(failed.at).cloned());
        refused.changes.push_all(detoured.get(failed.at).cloned());
        of_peers.push(failed);
    }
    for failed in socket.apply_all(&removals) {
        refused.unmade.push_all(removed.get(failed.at).map(|change| (*change).clone()));
        of_peers.push(failed);
    }
    refused.node.push_all(each_kind(of_node));
    refused.peers = each_kind(of_peers);
    refused
}

/// Makes what has to be made one by one, for what follows needs it; false if a device
/// could not be.
fn make_alone(
    socket: &mut Socket,
    observed: &Observed,
    changes: &[&Change],
    indexes: &mut Indexes,
    refused: &mut Refused,
) -> bool {
    let mut complete = true;
    for change in changes {
        let tunnel = change.wanted::<Tunnel>();
        let made = match change.work(indexes) {
            // Tables are made by who knows what a kernel may do without.
            Work::Nothing | Work::Table(_) | Work::NoTable(_) => continue,
            // A device that could not be made has been reported.
            Work::Impossible => Ok(false),
            Work::Write(wanted) => sysctl::ensure(&wanted).map(|_| true),
            Work::Message(request) => socket.apply(&[request]).map(|()| true),
            Work::Device(making) => match tunnel.and_then(|tunnel| rival(tunnel, observed)) {
                Some(words) => {
                    let what = format!("create vxlan device {}", making.name);
                    Err(Error::new(what, Errno::EEXIST).words(words))
                }
                None => make_device(socket, *making, indexes).map(|()| true),
            },
        };
        match made {
            Ok(true) => {}
            Ok(false) => refused.unmade.push((*change).clone()),
            Err(error) => {
                let mut mtu_of = |name: &str| Some(link::by_name(socket, name).ok()??.mtu);
                refused.node.push(refusal::explained(error, change, observed, &mut mtu_of));
                refused.unmade.push((*change).clone());
                complete &= tunnel.is_none();
            }
        }
    }
    complete
}

/// Makes a device in place of a former one, and notes its index.
fn make_device(socket: &mut Socket, making: Making, indexes: &mut Indexes) -> Result<(), Error> {
    let Making { name, former, create, alias, mtu } = making;
    if let Some((former, removal)) = former {
        indexes.remove(&former);
        socket.apply(&[removal])?;
    }
    socket.apply(&[create])?;
    let Some(link) = link::by_name(socket, &name)? else {
        return Err(Error::new(format!("look up link {name}"), Errno::ENODEV));
    };
    indexes.insert(name.clone(), link.index);
    socket.apply(&[link::set_alias(&link, &alias)])?;
    socket.apply(&[link::set_mtu(&name, mtu)])
}

/// The requests that go in large sends, each with its change. Those that need a
/// device which is not there are `unmade`.
fn requested<'a>(
    changes: Vec<&'a Change>,
    indexes: &Indexes,
    unmade: &mut Vec<Change>,
) -> (Vec<&'a Change>, Vec<Request>) {
    let (mut asked, mut requests) = (Vec::new(), Vec::new());
    for change in changes {
        match change.work(indexes) {
            Work::Message(request) => {
                asked.push(change);
                // An address that came meanwhile does as well.
                let there = change.is_of_node();
                requests.push(if there { request.tolerate(Errno::EEXIST) } else { request });
            }
            Work::Impossible => unmade.push(change.clone()),
            Work::Nothing
            | Work::Write(_)
            | Work::Device(_)
            | Work::Table(_)
            | Work::NoTable(_) => {}
        }
    }
    (asked, requests)
}

/// The first failure of each kind: thousands of peers may all be refused for the
/// same reason.
fn each_kind(failures: Vec<Failed>) -> Vec<Error> {
    let mut kinds: Vec<(Error, usize)> = Vec::new();
    for Failed { error, .. } in failures {
        let same = |(told, _): &&mut (Error, usize)| {
            told.errno == error.errno && told.words == error.words
        };
        match kinds.iter_mut().find(same) {
            Some((_, more)) => *more += 1,
            None => kinds.push((error, 0)),
        }
    }
    let told = |(mut error, more): (Error, usize)| {
        if more > 0 {
            error.what = format!("{} (and {more} more)", error.what);
        }
        error
    };
    kinds.into_iter().map(told).gather()
}
