// SPDX-License-Identifier: Apache-2.0
//! The difference between what the fabric should be and what it is. Pure: it is told all
//! that it compares. What is peculiar to a fabric is on whose devices it is; the rest is
//! [`object::difference`].

use std::{borrow::Cow, net::IpAddr};

use super::{
    desired::Desired,
    encapsulation::{self, Encapsulation},
    ledger::Ledger,
    observed::Observed,
};
use crate::{
    family::HasFamily,
    list::Gather,
    object::{
        self, Address, Change, Held, HeldObjects, Lookup, Managed, Mark, Objects, Setting, Sysctl,
        Tunnel, Value,
        link::{HeldTunnel, Owner},
        reverse_path,
    },
};

/// All changes, in the order in which they are to be made.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let mut objects = Cow::Borrowed(&desired.objects);
    fit(&mut objects, &observed.held);
    if !observed.held.lookups.is_empty() {
        let diverted = observed.held.lookups.iter().map(|held| Lookup(held.wanted.clone()));
        objects.to_mut().lookups = diverted.gather();
    }
    object::difference(&objects, &observed.held)
}

/// Another's device keeps its MTU: the routes take that, where it is less.
fn fit(objects: &mut Cow<'_, Objects>, held: &HeldObjects) {
    for tunnel in objects.tunnels.clone() {
        let guest = held.tunnels.iter().find(|held| held.name == tunnel.name && held.is_guest());
        let Some(mtu) = guest.map(|held| held.mtu).filter(|mtu| *mtu < tunnel.mtu) else {
            continue;
        };
        let routes = objects.to_mut().routes.iter_mut();
        let through = routes.filter(|route| route.device() == Some(&tunnel.name));
        through.for_each(|route| route.narrow(mtu));
    }
}

/// What the tunnel devices have set, as far as it is this fabric's to decide.
pub fn settings(
    desired: &Desired,
    tunnels: &[HeldTunnel],
    sysctls: &[Held<Sysctl>],
    protocol: u8,
) -> Vec<Held<Setting>> {
    let mut settings = Vec::new();
    for held in tunnels {
        let guest = held.is_guest();
        let mark = match held.owner {
            Owner::Ours => Mark::Ours(protocol),
            Owner::Unnamed => Mark::Unnamed,
            Owner::Former => Mark::Former,
            Owner::Other if guest => Mark::Foreign,
            Owner::Other | Owner::Fabric(_) => Mark::Unused,
        };
        let mut add = |value, ours| {
            let object = Setting { device: held.name.clone(), value };
            settings.push(Held { object, ours });
        };
        match wanted(desired, held) {
            Some(tunnel) if serves(held, tunnel) => {
                add(Value::Mark(mark), !guest);
                add(Value::Mtu(held.mtu), !guest);
                add(Value::Up(held.up), true);
                let key = reverse_path(&held.name);
                let filter = sysctls.iter().find(|sysctl| sysctl.object.key == key);
                let filter = filter.and_then(|sysctl| sysctl.object.value.parse().ok());
                filter.into_iter().for_each(|value| add(Value::ReversePath(value), true));
            }
            // The IPIP module's own device stays, without our mark.
            None if held.owner.is_ours() && held.form.is_of_module() => {
                add(Value::Mark(Mark::Ours(protocol)), true);
            }
            Some(_) | None => {}
        }
    }
    settings
}

/// The addresses of the tunnel devices. Ours are those that we gave: on our own devices
/// all of the wanted one's family, but for what the kernel made itself.
pub fn addresses(desired: &Desired, tunnels: &[HeldTunnel], ledger: &Ledger) -> Vec<Held<Address>> {
    let mut addresses = Vec::new();
    for held in tunnels {
        let tunnel = wanted(desired, held);
        for address in &held.addresses {
            let object = Address { device: held.name.clone(), address: *address };
            let on_it = desired.objects.addresses.iter().filter(|one| one.device == held.name);
            let same_family = on_it.clone().any(|one| one.address.family() == address.family());
            let given = object.addition().is_some_and(|text| ledger.added.has(&text));
            let generated = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            let ours = match tunnel {
                Some(tunnel) => {
                    let ours = given || held.owner.is_ours();
                    let taken = desired.taken.contains(&object);
                    serves(held, tunnel) && ours && (same_family && !generated || taken)
                }
                None if held.owner == Owner::Other => given && !generated,
                // Those of a VXLAN device go with it.
                None => held.owner.is_ours() && held.form.is_of_module() && !generated,
            };
            // The kernel has an IPv6 address once on a device, whatever its mask.
            let same = |one: &&Address| address.is_ipv6() && one.address.ip() == address.ip();
            let serves = on_it.clone().find(same).filter(|_| !ours).cloned();
            addresses.push(Held { object: serves.unwrap_or(object), ours });
        }
    }
    addresses
}

fn wanted<'a>(desired: &'a Desired, held: &HeldTunnel) -> Option<&'a Tunnel> {
    desired.objects.tunnels.iter().find(|tunnel| tunnel.name == held.name)
}

/// Whether a device is what is wanted, whoever else made it.
fn serves(held: &HeldTunnel, wanted: &Tunnel) -> bool {
    let decides = held.owner.is_ours() || held.owner == Owner::Other;
    decides && held.form == wanted.form
}

/// The device of somebody else beside which the kernel takes no such tunnel, where that
/// is still to be made, or to be brought up: in words.
pub fn rival(tunnel: &Tunnel, observed: &Observed) -> Option<String> {
    let held = observed.tunnel(&tunnel.name);
    if held.is_some_and(|held| held.up && held.form == tunnel.form) {
        return None;
    }
    let excludes = |rival: &&HeldTunnel| rival.form.excludes(&tunnel.form, rival.up);
    let rival = observed.rivals.iter().filter(excludes).min_by_key(|rival| &rival.name)?;
    let keys = encapsulation::of_device(&tunnel.form).map_or("mode", Encapsulation::apart);
    Some(format!(
        "{} ({}) is in the way: remove it, or give the fabric another {keys}, on every node",
        rival.name, rival.form
    ))
}

#[cfg(test)]
mod tests;
