// SPDX-License-Identifier: Apache-2.0
//! What this node's Node has to have for Calico's nodes to reach its pods, and the
//! commands that give it that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde_json::json;
use sha1_smol::Sha1;

use super::{
    believed::Believed,
    input::Input,
    nodes::{CalicoNode, IPIP_NOTE, address_note, vxlan_note},
    pools::Choice,
};
use crate::{
    conf::Mode,
    family::{Family, HasFamily},
    list::{Gather, PushAll},
};

/// How many addresses are looked at before it is said that a pool has none left.
const TRIES: usize = 4096;

/// What is missing.
#[derive(Debug)]
pub(super) struct Needs {
    /// What the ends of tunnels are to be that it has none for.
    pub(super) tunnels: Vec<IpAddr>,
    /// The ends that it has and that can be none.
    pub(super) useless: Vec<IpAddr>,
    /// The annotations that are missing.
    pub(super) notes: Vec<&'static str>,
    /// Why a tunnel address that it has should be replaced, although it is used until then.
    pub(super) moved: Option<String>,
    /// What writes them.
    pub(super) commands: String,
}

/// What is missing of the notes on this node's Node. Where packets travel plainly, and in
/// a family that no tunnel carries, Calico's nodes go by the address of the Node's status.
pub(super) fn of(
    input: &Input<'_>,
    own: &CalicoNode,
    choice: &Choice<'_>,
    believed: &Believed<'_>,
) -> Option<Needs> {
    let (tunnels, useless, notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut needs = Needs { tunnels, useless, notes, moved: None, commands: String::new() };
    let (mut values, mut reserved) = (Vec::new(), Vec::new());
    for family in Family::BOTH {
        let note = match choice.mode_of(family) {
            Mode::Vxlan => vxlan_note(family),
            Mode::Ipip => IPIP_NOTE,
            Mode::Direct => continue,
        };
        let Some(address) = own.address(family) else { continue };
        if choice.of_tunnels(family).is_none() {
            continue;
        }
        if !own.has_noted(family) {
            let prefix = (input.prefix)(address.ip()).unwrap_or(address.prefix());
            needs.notes.push(address_note(family));
            values.push(format!("{}={}/{prefix}", address_note(family), address.ip()));
        }
        let noted = choice.tunnel(own, family);
        let held = noted.filter(|address| choice.is_of_tunnels(*address));
        needs.useless.push_all(noted.filter(|_| held.is_none()));
        let moved = held.and_then(|address| believed.tunnel_holder(own.name(), address));
        if held.is_some() && moved.is_none() {
            continue;
        }
        let proposed = match input.blocks {
            Some(_) => proposal(input, own, choice, believed, family),
            // As Calico has it where pods are in podCIDRs.
            None => own_block(own, family),
        };
        let word = proposed.map_or_else(|| "ADDRESS".to_owned(), |it| it.to_string());
        values.push(format!("{note}={word}"));
        reserved.push_all(proposed);
        if moved.is_none() {
            needs.notes.push(note);
            needs.tunnels.push_all(proposed);
        }
        needs.moved = needs.moved.or(moved);
    }
    if values.is_empty() {
        return None;
    }
    let mut commands = Vec::new();
    if input.blocks.is_some() && !reserved.is_empty() {
        commands.push(reserve(input, &reserved));
    }
    let is_there = needs.moved.is_some() || !needs.useless.is_empty();
    let again = if is_there { " --overwrite" } else { "" };
    commands.push(format!("kubectl annotate node {} {}{again}", input.own, values.join(" ")));
    needs.commands = commands.join(" && ");
    Some(needs)
}

/// Calico gives out no address that is reserved.
fn reserve(input: &Input<'_>, addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> =
        addresses.iter().map(|ip| IpNetwork::from(*ip).to_string()).gather();
    let object = json!({"apiVersion": input.group, "kind": "IPReservation",
        "metadata": {"name": format!("manx-tunnel-{}", input.own)},
        "spec": {"reservedCIDRs": addresses}});
    format!("echo '{object}' | kubectl apply -f -")
}

fn own_block(own: &CalicoNode, family: Family) -> Option<IpAddr> {
    let mut own = own.record.pod_cidrs.iter().filter_map(|text| text.parse::<IpNetwork>().ok());
    own.find(|network| network.family() == family).map(|network| network.network())
}

/// An address of a pool that is in no block and no other tunnel's, the same one whenever
/// this is asked and, most likely, no other node's.
fn proposal(
    input: &Input<'_>,
    own: &CalicoNode,
    choice: &Choice<'_>,
    believed: &Believed<'_>,
    family: Family,
) -> Option<IpAddr> {
    let pool = choice.of_tunnels(family)?.cidr?;
    let (first, size) = match pool {
        IpNetwork::V4(pool) => (u128::from(pool.network().to_bits()), 1 << (32 - pool.prefix())),
        IpNetwork::V6(pool) => {
            let bits = 128 - u32::from(pool.prefix());
            (pool.network().to_bits(), 1_u128.checked_shl(bits).unwrap_or(u128::MAX))
        }
    };
    let address = |number: u128| match family {
        Family::V4 => u32::try_from(number).ok().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        Family::V6 => Some(IpAddr::V6(Ipv6Addr::from_bits(number))),
    };
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let digest = Sha1::from(own.name()).digest().bytes();
    let seed = digest.iter().take(8).fold(0, |seed: u128, byte| seed << 8 | u128::from(*byte));
    let mut offset = seed % size;
    for _ in 0..TRIES {
        let candidate = address(first.checked_add(offset)?)?;
        let block = believed.around(candidate);
        let is_end = offset == 0 || offset + 1 == size;
        let is_taken = is_end || input.nodes.iter().any(|node| has(node, candidate));
        let next = match block {
            Some(block) => number(block.broadcast()).checked_sub(first)?,
            None if is_taken => offset,
            None => return Some(candidate),
        };
        offset = (next + 1) % size;
    }
    None
}

fn has(node: &CalicoNode, address: IpAddr) -> bool {
    let own = Family::BOTH.into_iter().filter_map(|family| node.address(family));
    let tunnels = Family::BOTH.into_iter().filter_map(|family| node.vxlan(family));
    own.map(|network| network.ip()).chain(tunnels).chain(node.ipip()).any(|held| held == address)
}
