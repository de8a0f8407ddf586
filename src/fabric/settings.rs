//! What a configuration says of the fabric.

use crate::cni::{
    Config, CrossSubnet, Mode,
    conf::{ROUTE_PROTOCOL, VXLAN},
};

/// The fabric's part of a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// How packets reach other nodes.
    pub mode: Mode,
    /// When to encapsulate.
    pub cross_subnet: CrossSubnet,
    /// Route protocol: the mark of the fabric's routes.
    pub protocol: u8,
    /// Metric of the fabric's routes; 0 is the family's default.
    pub metric: u32,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Name of the VXLAN device of IPv4; the one of IPv6 follows from it.
    pub vxlan_device: String,
    /// Name of the IPIP device.
    pub ipip_device: String,
    /// MTU of pod traffic between nodes in bytes; `None` to derive it.
    pub mtu: Option<u32>,
    /// Bytes that the encapsulation adds; `None` for the mode's own.
    pub overhead: Option<u32>,
    /// Whether the node's forwarding is ours to turn on.
    pub manage_forwarding: bool,
}

/// Calico's device of the IPIP module's own making.
pub const IPIP_DEVICE: &str = "tunl0";

impl Settings {
    /// The settings of a configuration.
    pub fn of_config(config: &Config) -> Self {
        let keys = &config.fabric;
        Self {
            mode: config.mode,
            cross_subnet: keys.cross_subnet,
            protocol: keys.protocol,
            metric: keys.metric,
            vni: keys.vni,
            port: keys.port,
            vxlan_device: keys.vxlan_device.clone(),
            ipip_device: IPIP_DEVICE.to_owned(),
            mtu: config.mtu,
            overhead: config.overhead,
            manage_forwarding: config.manage_forwarding,
        }
    }

    /// The defaults of a mode.
    pub fn of_mode(mode: Mode) -> Self {
        let (vni, port, device) = VXLAN;
        Self {
            mode,
            cross_subnet: CrossSubnet::Never,
            protocol: ROUTE_PROTOCOL,
            metric: 0,
            vni,
            port,
            vxlan_device: device.to_owned(),
            ipip_device: IPIP_DEVICE.to_owned(),
            mtu: None,
            overhead: None,
            manage_forwarding: true,
        }
    }

    /// The VXLAN device of a family: Calico's `vxlan.calico` and
    /// `vxlan-v6.calico`, flannel's `flannel.1` and `flannel-v6.1`.
    pub fn vxlan_device(&self, ipv6: bool) -> String {
        if !ipv6 {
            return self.vxlan_device.clone();
        }
        match self.vxlan_device.split_once('.') {
            Some((stem, tail)) => format!("{stem}-v6.{tail}"),
            None => format!("{}-v6", self.vxlan_device),
        }
    }

    /// Whether a device of this name is one of the mode's tunnels.
    pub fn is_tunnel(&self, name: &str) -> bool {
        match self.mode {
            Mode::Direct => false,
            Mode::Ipip => self.ipip_device == name,
            Mode::Vxlan => [false, true].iter().any(|ipv6| self.vxlan_device(*ipv6) == name),
        }
    }

    /// Bytes that the encapsulation of a family adds.
    pub fn overhead(&self, ipv6: bool) -> u32 {
        self.overhead.unwrap_or(self.mode.overhead(ipv6))
    }
}
