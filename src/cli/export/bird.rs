// SPDX-License-Identifier: Apache-2.0
//! The mesh in the language of BIRD 2.

use std::fmt::Write;

use super::mesh::{Mesh, OfFamily};
use crate::list::Gather;

/// A configuration for BIRD 2.0.12 or later, the first with the route
/// attribute `onlink`.
pub(super) fn render(mesh: &Mesh) -> String {
    let Mesh { name, router_id, .. } = mesh;
    let mut text = format!(
        "\
# BIRD 2.0.12 or later, for {name}; printed by `manx export bird`.
# Check it with `bird -p -c FILE`. Start BIRD with -R after a crash: the other
# nodes and the kernel keep the routes meanwhile (graceful restart, persist).

log syslog all;
router id {router_id};

protocol device {{
  scan time 10;
}}
"
    );
    for family in &mesh.families {
        // Writing to a string does not fail.
        let _ = kernel(&mut text, mesh, family);
        let _ = sessions(&mut text, mesh, family);
    }
    text
}

/// What passes between BIRD and the kernel.
fn kernel(text: &mut String, mesh: &Mesh, family: &OfFamily) -> std::fmt::Result {
    let (version, bits, protocol) = (family.family.version(), family.family.bits(), mesh.protocol);
    writeln!(text, "\n# ---- IPv{version} ----\n")?;
    if let Some(uplink) = &family.uplink {
        writeln!(
            text,
            "\
# Our own subnet: without it the next hop of a node on the same link is found by
# the default route only, which BIRD does not know, and its pods are unreachable.
protocol direct uplink{version} {{
  ipv{version};
  interface \"{uplink}\";
}}
"
        )?;
    }
    if family.routed().next().is_some() {
        writeln!(
            text,
            "\
# Nodes behind routers; each router has to know the pods of the nodes as well.
protocol static behind_routers{version} {{
  ipv{version};"
        )?;
        for (neighbour, router) in family.routed() {
            let (address, name) = (neighbour.address, &neighbour.name);
            writeln!(text, "  route {address}/{bits} via {router};  # {name}")?;
        }
        writeln!(text, "}}\n")?;
    }
    writeln!(
        text,
        "\
protocol kernel kernel{version} {{
  learn;
  persist;             # routes stay in the kernel when BIRD ends
  graceful restart;
  merge paths on;
  scan time 10;
  ipv{version} {{
    # Only this node's own pod CIDRs, which manx has as blackholes of protocol
    # {protocol}. Anything more would tell others that pods of third nodes are here.
    import filter {{
      if krt_source = {protocol} && dest = RTD_BLACKHOLE then accept;
      reject;
    }};
    export filter {{
      if source != RTS_BGP then reject;"
    )?;
    wrap(text, family)?;
    writeln!(text, "      accept;\n    }};\n  }};\n}}")
}

/// Sends packets to some of the nodes into a tunnel.
fn wrap(text: &mut String, family: &OfFamily) -> std::fmt::Result {
    let Some((_, device, mtu)) = family.wrapped().next() else { return Ok(()) };
    // Addresses, not prefixes: BIRD looks for an address in a set of addresses
    // only, and says so no sooner than when a route comes.
    let nodes: Vec<String> = family.wrapped().map(|(node, ..)| node.address.to_string()).gather();
    writeln!(
        text,
        "\
      # These nodes are reached through the tunnel. The order matters: gw is only
      # accepted on a device that is known by then.
      if bgp_next_hop ~ [ {} ] then {{
        onlink = true;
        ifname = \"{device}\";
        gw = bgp_next_hop;",
        nodes.join(", ")
    )?;
    if let Some(mtu) = mtu {
        writeln!(text, "        krt_mtu = {mtu};")?;
    }
    writeln!(text, "      }}")
}

/// What passes between the nodes.
fn sessions(text: &mut String, mesh: &Mesh, family: &OfFamily) -> std::fmt::Result {
    let (version, number, address) = (family.family.version(), mesh.number, family.address);
    let own: Vec<String> = family.own.iter().map(|cidr| format!("{cidr}+")).gather();
    let others: Vec<String> = family.others.iter().map(|cidr| format!("{cidr}+")).gather();
    let own = own.join(", ");
    let accepted = match others.is_empty() {
        true => String::new(),
        false => format!("  if net ~ [ {} ] then accept;\n", others.join(", ")),
    };
    writeln!(
        text,
        "
filter from_mesh{version} {{
  if net ~ [ {own} ] then reject;
{accepted}  reject;
}}

filter to_mesh{version} {{
  if source = RTS_INHERIT && net ~ [ {own} ] then accept;
  reject;
}}

template bgp mesh{version} {{
  local {address} as {number};
  multihop;
  graceful restart;
  ipv{version} {{
    import filter from_mesh{version};
    export filter to_mesh{version};
    gateway recursive;
    igp table master{version};
    next hop self;
  }};
}}"
    )?;
    for (place, neighbour) in family.neighbours.iter().enumerate() {
        let (name, address) = (&neighbour.name, neighbour.address);
        writeln!(
            text,
            "\nprotocol bgp mesh{version}_{place} from mesh{version} {{\n  description \"{name}\";\n  \
             neighbor {address} as {number};\n}}",
            name = name.replace('"', "'")
        )?;
    }
    Ok(())
}
