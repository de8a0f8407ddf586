//! What the node's side of live attachments has lost: a link that somebody set
//! down, a route that a network daemon swept away, a parameter that was reset.
//! The pods' own namespaces are the pods' own.

use std::fmt;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::{
    net::{
        Error, Request, Socket, addr,
        link::{self, Link},
        route::{self, Route},
        sysctl::Sysctl,
    },
    pod::{Identity, attachment::host_side},
    state::{Entry, Root, journal},
};

/// One thing that an attachment's host link lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repair {
    link: String,
    index: u32,
    lack: Lack,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Lack {
    Up,
    Sysctl(Sysctl),
    Address(IpNetwork),
    Route(Route),
}

/// Compares all attachments of the journal that have a link with the kernel.
///
/// # Errors
/// Of the kernel's answers.
pub fn lacking(root: &Root, host: &mut Socket) -> Result<Vec<Repair>, Error> {
    let entries = journal::all(root);
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let links = link::all(host)?;
    let mut repairs = Vec::new();
    for entry in &entries {
        let alias = alias(entry);
        // By the mark: the name may be another attachment's by now.
        if let Some(link) = links.iter().find(|link| link.alias.as_deref() == Some(&alias)) {
            compare(host, entry, link, &mut repairs)?;
        }
    }
    Ok(repairs)
}

fn compare(
    host: &mut Socket,
    entry: &Entry,
    link: &Link,
    repairs: &mut Vec<Repair>,
) -> Result<(), Error> {
    let side = host_side(&link.name, &entry.addresses);
    let mut lack = |lack| {
        repairs.push(Repair { link: link.name.clone(), index: link.index, lack });
    };
    for sysctl in side.sysctls {
        if !sysctl.optional && !sysctl.holds() {
            lack(Lack::Sysctl(sysctl));
        }
    }
    if !link.up {
        lack(Lack::Up);
    }
    if !side.addresses.is_empty() {
        let found = addr::of_link(host, link.index)?;
        for address in side.addresses.into_iter().filter(|address| !found.contains(address)) {
            lack(Lack::Address(address));
        }
    }
    for wanted in side.routes {
        let found = route::lookup(host, wanted.destination.ip())?;
        let holds = found.is_some_and(|found| {
            found.device == link.index && found.route.destination == wanted.destination
        });
        if !holds {
            lack(Lack::Route(wanted));
        }
    }
    Ok(())
}

fn alias(entry: &Entry) -> String {
    let identity = Identity {
        network: entry.network.clone(),
        container_id: entry.container_id.clone(),
        ifname: entry.ifname.clone(),
        pod: None,
    };
    identity.alias()
}

/// Restores what is lacking; returns what failed.
pub fn restore(host: &mut Socket, repairs: &[Repair]) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut requests = Vec::new();
    for repair in repairs {
        match repair.request() {
            Ok(request) => requests.extend(request),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(host.apply_all(&requests));
    errors
}

impl Repair {
    /// The message that restores it; a parameter is written at once.
    fn request(&self) -> Result<Option<Request>, Error> {
        Ok(Some(match &self.lack {
            Lack::Sysctl(sysctl) => return sysctl.ensure().map(|_| None),
            Lack::Up => link::set_up(&self.link),
            Lack::Address(address) => {
                addr::add(self.index, *address).tolerate(nix::errno::Errno::EEXIST)
            }
            Lack::Route(route) => route.replace(self.index),
        }))
    }

    fn parts(&self) -> (String, String) {
        match &self.lack {
            Lack::Sysctl(sysctl) => (format!("sysctl {}", sysctl.key), sysctl.value.clone()),
            Lack::Up => (format!("link {}", self.link), "up".to_owned()),
            Lack::Address(address) => (format!("address of {}", self.link), address.to_string()),
            Lack::Route(route) => {
                (format!("route {}", route.destination), format!("{route} dev {}", self.link))
            }
        }
    }

    /// The change as plan's JSON has it.
    pub fn encode(&self) -> Value {
        let (object, after) = self.parts();
        json!({"action": "create", "object": object, "before": null, "after": after})
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (object, after) = self.parts();
        write!(f, "+ {object}: {after}")
    }
}
