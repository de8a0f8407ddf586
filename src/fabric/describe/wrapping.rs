// SPDX-License-Identifier: Apache-2.0
//! This node's end of what carries packets to peers: the tunnel device, its address and
//! its MTU.

use ipnetwork::IpNetwork;

use crate::{
    conf::FabricKeys,
    fabric::{
        desired::{Desired, Facts},
        encapsulation::{Encapsulation, Here},
        peers::Peers,
        settings::Settings,
    },
    family::Family,
    list::PushAll,
    object::{Address, Tunnel},
    pod::mtu::{FALLBACK, IPV6_MIN, Uplink},
};

/// How packets of one family reach peers that are not plainly routed to.
pub(super) enum Wrapping {
    /// They all are.
    None,
    /// Through a tunnel.
    Tunnel(&'static dyn Encapsulation, Tunnel),
    /// Not at all, for the tunnel cannot be made. Plain routes would show the
    /// network what should be wrapped.
    Impossible,
}

/// One address family of the fabric.
pub(super) struct OfFamily<'a> {
    pub(super) settings: &'a Settings,
    pub(super) peers: &'a Peers,
    pub(super) facts: &'a Facts,
    pub(super) family: Family,
}

impl OfFamily<'_> {
    /// This node's tunnel device, in the modes that have one.
    pub(super) fn wrapping(&self, desired: &mut Desired) -> Wrapping {
        let Some(encapsulation) = self.settings.carrying(self.family) else {
            return Wrapping::None;
        };
        let (family, keys) = (self.family, &self.settings.keys);
        let name = match encapsulation.device(family, keys) {
            Ok(name) => name,
            Err(why) => {
                desired.notes.push(why.to_owned());
                return Wrapping::None;
            }
        };
        let here = Here { me: &self.peers.me, facts: self.facts, family, keys };
        let form = match encapsulation.form(&here) {
            Ok(form) => form,
            Err(why) => {
                desired.not_ready.push(why);
                return Wrapping::Impossible;
            }
        };
        let (address, taken) = self.own_tunnel_address(&name, desired);
        let mtu = self.mtu(desired);
        if self.family == Family::V6 && mtu < IPV6_MIN {
            let why = format!(
                "{name}: IPv6 does not go through a tunnel of {mtu} bytes; it needs {IPV6_MIN}, \
                 and the encapsulation {} more",
                self.settings.overhead(self.family)
            );
            // Peers that need no tunnel do without.
            let whose = match self.peers.others.is_empty() {
                true => &mut desired.not_ready,
                false => &mut desired.wanting,
            };
            whose.push(why);
            return Wrapping::Impossible;
        }
        let on_it = |address| Address { device: name.clone(), address };
        desired.objects.addresses.push_all(address.map(on_it));
        desired.taken.push_all(taken.map(on_it));
        Wrapping::Tunnel(encapsulation, Tunnel { name, mtu, protocol: keys.protocol, form })
    }

    /// The device by which packets of peers may come besides, while a mode changes. No
    /// peer is told to it: none of this node's packets leave by it.
    ///
    /// It has an address all the same: by one without any the kernel takes nothing of which
    /// the way back leads elsewhere, also where it filters loosely (`rp_filter` 2).
    pub(super) fn accepted(&self) -> Option<(Tunnel, Option<Address>)> {
        let (mode, keys) = self.settings.keys.file.accepted()?;
        let protocol = self.settings.keys.protocol;
        let keys = FabricKeys { protocol, ..keys };
        let settings = Settings { mode, keys, mtu: None, overhead: None, ..self.settings.clone() };
        let Self { peers, facts, family, .. } = *self;
        let encapsulation = settings.carrying(family)?;
        let of = OfFamily { settings: &settings, peers, facts, family };
        let name = encapsulation.device(family, &settings.keys).ok()?;
        let here = Here { me: &peers.me, facts, family, keys: &settings.keys };
        let form = encapsulation.form(&here).ok()?;
        let (mtu, filters) = (of.mtu(&mut Desired::default()), family == Family::V4);
        let (address, _) = of.own_tunnel_address(&name, &mut Desired::default());
        let address = address.filter(|_| filters);
        let address = address.map(|address| Address { device: name.clone(), address });
        Some((Tunnel { name, mtu, protocol, form }, address))
    }

    /// The address of this node's tunnel device; else one that it may not have, for a
    /// pod has it.
    fn own_tunnel_address(
        &self,
        name: &str,
        desired: &mut Desired,
    ) -> (Option<IpNetwork>, Option<IpNetwork>) {
        let me = &self.peers.me;
        let Some(address) = me.tunnel_address(self.family) else {
            desired.notes.push(format!(
                "{}: neither podCIDRs nor tunnelAddresses give {name} an address, so what this \
                 node itself sends to pods bears that of another device",
                me.name
            ));
            return (None, None);
        };
        let Some(holder) = self.facts.taken.get(&address) else {
            return (Some(address.into()), None);
        };
        desired.wanting.push(format!(
            "{}: {name} cannot have the address {address}, which is {holder}: give the node \
             another one in tunnelAddresses, on every node",
            me.name
        ));
        (None, Some(address.into()))
    }

    /// The MTU of encapsulated traffic: that of the narrowest way to any peer less
    /// the overhead, or a smaller one that is configured.
    fn mtu(&self, desired: &mut Desired) -> u32 {
        let overhead = self.settings.overhead(self.family);
        let narrowest = self.facts.narrowest(Some(self.family));
        let Some(Uplink { device, mtu: limit }) = narrowest else {
            return self.settings.mtu.unwrap_or(FALLBACK.saturating_sub(overhead));
        };
        let fitting = limit.saturating_sub(overhead);
        match self.settings.mtu {
            Some(mtu) if mtu > fitting => {
                desired.notes.push(format!(
                    "mtu {mtu} is above {fitting} ({device}'s {limit} less {overhead} of \
                     overhead), which tunnel and routes have instead"
                ));
                fitting
            }
            Some(mtu) => mtu,
            None => fitting,
        }
    }
}
