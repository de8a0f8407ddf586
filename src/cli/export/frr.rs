// SPDX-License-Identifier: Apache-2.0
//! The mesh in the language of FRR.

use std::{fmt::Write, net::Ipv4Addr};

use super::mesh::{Mesh, OfFamily};
use crate::family::Family;

/// Addresses that stand for nodes behind a tunnel (RFC 6598, shared address
/// space): the first; each node has the one at its place in the list.
const ALIASES: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// A configuration for FRR 8.4 or later, with the daemons zebra, staticd and
/// bgpd.
pub(super) fn render(mesh: &Mesh) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, mesh);
    text
}

fn write(text: &mut String, mesh: &Mesh) -> std::fmt::Result {
    writeln!(
        text,
        "\
! FRR 8.4 or later, for {name}; printed by `manx export frr`.
! Daemons: zebra, staticd, bgpd. Check it with `vtysh -C -f FILE`. Start zebra with
! -K 120, so that it keeps the routes that it finds when it starts again.
!",
        name = mesh.name
    )?;
    for family in &mesh.families {
        nexthops(text, family)?;
    }
    for family in &mesh.families {
        filters(text, family)?;
    }
    bgp(text, mesh)
}

/// How the next hops of routes are found.
fn nexthops(text: &mut String, family: &OfFamily) -> std::fmt::Result {
    let ip = ip(family);
    if family.routed().next().is_some() {
        writeln!(
            text,
            "\
! Some nodes are behind routers, and found by the default route. Each router has
! to know the pods of the nodes as well.
{ip} nht resolve-via-default
!"
        )?;
    }
    if family.wrapped().next().is_some() {
        writeln!(
            text,
            "\
! Nodes that are reached through the tunnel. bgpd cannot put a next hop on a device
! of its choice, but zebra gives a route the device by which its next hop is found:
! each of these nodes has a second address that exists only here."
        )?;
        for ((node, device, _), alias) in family.wrapped().zip(aliases()) {
            writeln!(
                text,
                "! {}\nip route {alias}/32 {} {device} onlink",
                node.name, node.address
            )?;
        }
        writeln!(text, "!")?;
    }
    Ok(())
}

/// What is accepted and what is told.
fn filters(text: &mut String, family: &OfFamily) -> std::fmt::Result {
    let (ip, version, bits) = (ip(family), family.family.version(), family.family.bits());
    writeln!(text, "! Pods of this node, told to others, and nothing else.")?;
    for (number, cidr) in family.own.iter().enumerate() {
        let number = (number + 1) * 5;
        writeln!(text, "{ip} prefix-list own{version} seq {number} permit {cidr}")?;
    }
    writeln!(text, "! Pods of others.")?;
    for (number, cidr) in family.others.iter().enumerate() {
        let number = (number + 1) * 5;
        let longer = match cidr.prefix() < bits {
            true => format!(" le {bits}"),
            false => String::new(),
        };
        writeln!(text, "{ip} prefix-list others{version} seq {number} permit {cidr}{longer}")?;
    }
    writeln!(
        text,
        "!
route-map to_mesh{version} permit 10
 match {ip} address prefix-list own{version}
!
route-map from_mesh{version} deny 5
 match {ip} address prefix-list own{version}
!"
    )?;
    let mut number = 10;
    for ((node, ..), alias) in family.wrapped().zip(aliases()) {
        writeln!(
            text,
            "\
route-map from_mesh{version} permit {number}
 match {ip} address prefix-list others{version}
 match {ip} next-hop address {}
 set {ip} next-hop {alias}
!",
            node.address
        )?;
        number += 1;
    }
    writeln!(
        text,
        "\
route-map from_mesh{version} permit {number}
 match {ip} address prefix-list others{version}
!"
    )
}

/// The sessions.
fn bgp(text: &mut String, mesh: &Mesh) -> std::fmt::Result {
    let Mesh { number, router_id, protocol, .. } = mesh;
    writeln!(
        text,
        "\
router bgp {number}
 bgp router-id {router_id}
 no bgp default ipv4-unicast
 ! The other nodes and the kernel keep the routes while bgpd restarts.
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state"
    )?;
    for family in &mesh.families {
        let version = family.family.version();
        writeln!(
            text,
            " neighbor mesh{version} peer-group\n neighbor mesh{version} remote-as {number}\n \
             neighbor mesh{version} update-source {}",
            family.address
        )?;
        for neighbour in &family.neighbours {
            let (name, address) = (&neighbour.name, neighbour.address);
            writeln!(text, " ! {name}\n neighbor {address} peer-group mesh{version}")?;
        }
    }
    for family in &mesh.families {
        let version = family.family.version();
        writeln!(
            text,
            " !
 address-family ipv{version} unicast
  ! Told while the kernel has them: manx has them as blackholes of protocol {protocol}."
        )?;
        for cidr in &family.own {
            writeln!(text, "  network {cidr}")?;
        }
        writeln!(
            text,
            "  neighbor mesh{version} activate
  neighbor mesh{version} next-hop-self
  neighbor mesh{version} soft-reconfiguration inbound
  neighbor mesh{version} route-map from_mesh{version} in
  neighbor mesh{version} route-map to_mesh{version} out
 exit-address-family"
        )?;
    }
    writeln!(text, "exit\n!")
}

fn aliases() -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(ALIASES)..).map(Ipv4Addr::from)
}

fn ip(family: &OfFamily) -> &'static str {
    match family.family {
        Family::V4 => "ip",
        Family::V6 => "ipv6",
    }
}
