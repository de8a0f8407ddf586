// SPDX-License-Identifier: Apache-2.0
//! What one source says of the routes between nodes. There are two: the configuration
//! of a network, and the peers file, which all nodes' writer has in hand. What the file
//! says holds; a configuration may say the same, or nothing.

use serde::{Deserialize, Serialize};
use std::fmt;

use serde_json::{Map, Value, json};

use super::{
    fields::{Complaint, Fields},
    key::{self, Unknown},
    keys,
    shape::{Choice, Described},
    values::{CrossSubnet, Mode},
};
use crate::family::Family;
use crate::list::Gather;

/// The keys that a peers file may have in `fabric`.
pub(super) static FILE_KEYS: &[&dyn Described] = &[
    &keys::MODE,
    &keys::CROSS_SUBNET,
    &keys::VXLAN,
    &keys::MTU,
    &keys::OVERHEAD,
    &keys::ROUTE_PROTOCOL,
    &keys::ROUTE_METRIC,
    &keys::ACCEPTS,
    &keys::PLAIN,
];

/// The values that a source gives; none of those that it leaves out.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FabricPart {
    pub(super) mode: Option<Mode>,
    pub(super) cross_subnet: Option<CrossSubnet>,
    pub(super) vni: Option<u32>,
    pub(super) port: Option<u16>,
    pub(super) device: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) overhead: Option<u32>,
    pub(super) protocol: Option<u8>,
    pub(super) metric: Option<u32>,
    /// Of a peers file: its mode and the keys of that alone.
    pub(super) accepts: Option<Box<Self>>,
    /// Of a peers file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) plain: Vec<Family>,
}

/// A key that both sources give, with values of which only one can hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contradiction {
    /// The key.
    pub key: &'static str,
    /// What the configuration says.
    pub configured: Value,
    /// What the peers file says.
    pub of_file: Value,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, configured, of_file } = self;
        write!(f, "{key} is {configured} in the configuration and {of_file} in the peers file")
    }
}

impl FabricPart {
    /// Reads the keys of a configuration, or of a peers file.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let unset = fields.raw(&keys::MODE).is_some_and(|value| value.as_str() == Some(""));
        let mode = fields.given(&keys::MODE).filter(|_| !unset);
        let (vni, port, device) = fields.within(&keys::VXLAN, |vxlan| {
            (vxlan.given(&keys::VNI), vxlan.given(&keys::PORT), vxlan.given(&keys::DEVICE))
        });
        Self {
            mode,
            cross_subnet: fields.given(&keys::CROSS_SUBNET),
            vni,
            port,
            device,
            mtu: fields.get(&keys::MTU),
            overhead: fields.get(&keys::OVERHEAD),
            protocol: fields.given(&keys::ROUTE_PROTOCOL),
            metric: fields.given(&keys::ROUTE_METRIC),
            accepts: None,
            plain: Vec::new(),
        }
    }

    /// The same with the keys that only a peers file has.
    fn read_of_file(fields: &mut Fields<'_>) -> Self {
        Self { plain: fields.get(&keys::PLAIN), ..Self::read(fields) }
    }

    /// Reads the object `fabric` of a peers file, with what is wrong with it and what
    /// nothing reads.
    pub fn of_file(object: &Map<String, Value>) -> (Self, Vec<Complaint>, Vec<Unknown>) {
        let mut fields = Fields::of_peers_file(Some(object), "fabric");
        let mut part = Self::read_of_file(&mut fields);
        if fields.raw(&keys::ACCEPTS).is_some() {
            let accepted = fields.within(&keys::ACCEPTS, Self::read_of_file);
            part.accepts = Some(Box::new(accepted));
        }
        (part, fields.complaints, key::unknown(object, FILE_KEYS, "fabric"))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that it gives, with their values.
    pub fn entries(&self) -> Vec<(&'static str, Value)> {
        let entries = [
            ("mode", self.mode.map(|mode| word(&keys::MODE.shape, mode))),
            ("crossSubnet", self.cross_subnet.map(|it| word(&keys::CROSS_SUBNET.shape, it))),
            ("vxlan.vni", self.vni.map(Value::from)),
            ("vxlan.port", self.port.map(Value::from)),
            ("vxlan.device", self.device.clone().map(Value::from)),
            ("mtu", self.mtu.map(Value::from)),
            ("overhead", self.overhead.map(Value::from)),
            ("routeProtocol", self.protocol.map(Value::from)),
            ("routeMetric", self.metric.map(Value::from)),
            ("accepts", self.accepts.as_ref().map(|part| part.encode())),
            ("plain", (!self.plain.is_empty()).then(|| json!(self.plain))),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key, value?))).gather()
    }

    /// Whether it gives this key.
    pub fn gives(&self, key: &str) -> bool {
        self.entries().iter().any(|(given, _)| *given == key)
    }

    /// The MTU in bytes, where it says one.
    pub fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// As a peers file has it.
    pub fn encode(&self) -> Value {
        let (mut object, mut vxlan) = (Map::new(), Map::new());
        for (key, value) in self.entries() {
            match key.strip_prefix("vxlan.") {
                Some(key) => vxlan.insert(key.to_owned(), value),
                None => object.insert(key.to_owned(), value),
            };
        }
        if !vxlan.is_empty() {
            object.insert("vxlan".to_owned(), vxlan.into());
        }
        object.into()
    }

    /// What holds where a configuration says this, and the peers file that.
    pub(super) fn under(&self, file: &Self) -> Self {
        Self {
            mode: file.mode.or(self.mode),
            cross_subnet: file.cross_subnet.or(self.cross_subnet),
            vni: file.vni.or(self.vni),
            port: file.port.or(self.port),
            device: file.device.clone().or_else(|| self.device.clone()),
            // Pods may have less than the tunnels carry.
            mtu: file.mtu.into_iter().chain(self.mtu).min(),
            overhead: file.overhead.or(self.overhead),
            protocol: file.protocol.or(self.protocol),
            metric: file.metric.or(self.metric),
            accepts: file.accepts.clone(),
            plain: file.plain.clone(),
        }
    }

    /// In what a configuration contradicts a peers file.
    pub fn contradictions(&self, file: &Self) -> Vec<Contradiction> {
        let of_file = file.entries();
        let contradicts = |(key, configured): (&'static str, Value)| {
            let (_, of_file) = of_file.iter().find(|(other, _)| *other == key)?;
            let differs = match key {
                "mtu" => self.mtu > file.mtu,
                _ => configured != *of_file,
            };
            differs.then(|| Contradiction { key, configured, of_file: of_file.clone() })
        };
        self.entries().into_iter().filter_map(contradicts).gather()
    }

    /// What it says that a peers file does not.
    pub fn beyond(&self, file: &Self) -> Vec<(&'static str, Value)> {
        let of_file = file.entries();
        let mut own = self.entries();
        own.retain(|(key, _)| of_file.iter().all(|(other, _)| other != key));
        own
    }
}

/// The word for a value that a key may have.
fn word<T: Copy + PartialEq>(choice: &Choice<T>, meant: T) -> Value {
    let found = choice.0.iter().find(|(_, value)| *value == meant);
    found.map_or(Value::Null, |(word, _)| Value::from(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cni::{Document, Version},
        conf::Config,
    };

    fn of_file(value: Value) -> FabricPart {
        let (part, complaints, unknown) = FabricPart::of_file(value.as_object().unwrap());
        assert_eq!((complaints, unknown), (Vec::new(), Vec::new()), "{value}");
        part
    }

    fn config(keys: Value) -> Config {
        let mut object = json!({"name": "n", "type": "manx", "ipam": {"type": "manx-ipam"}});
        object.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let document = Document::parse(object.to_string().into_bytes()).unwrap();
        let (config, complaints) = Config::read(&document, Version::NEWEST);
        assert_eq!(complaints, []);
        config
    }

    fn all() -> Value {
        json!({"mode": "vxlan", "crossSubnet": "route", "mtu": 1400, "overhead": 60,
            "vxlan": {"vni": 7, "port": 8472, "device": "v.7"}, "routeProtocol": 110,
            "routeMetric": 5})
    }

    #[test]
    fn what_is_read_is_written_again() {
        assert_eq!(of_file(all()).encode(), all());
        assert_eq!(of_file(json!({})).encode(), json!({}));
        assert!(of_file(json!({"mode": "", "mtu": 0, "vxlan": {}})).is_empty());
    }

    /// Where one source is silent, the other holds.
    #[test]
    fn it_makes_no_difference_who_says_it() {
        let fabric = |config: &Config| {
            let mut keys = config.fabric.clone();
            keys.file = FabricPart::default();
            (config.mode, config.mtu, config.overhead, keys)
        };
        let by_configuration = config(all());
        let by_file = config(json!({})).under(&of_file(all()));
        assert_eq!(fabric(&by_file), fabric(&by_configuration));
        assert_eq!(
            fabric(&by_configuration.under(&FabricPart::default())),
            fabric(&by_configuration)
        );
        assert_eq!(fabric(&by_configuration.under(&of_file(all()))), fabric(&by_configuration));
        let silent = config(json!({}));
        let forgotten = by_file.under(&FabricPart::default());
        assert_eq!(fabric(&forgotten), fabric(&silent), "what the file said is not the network's");
    }

    #[test]
    fn the_file_holds_and_a_contradiction_is_told() {
        for (key, own, file) in [
            ("mode", json!({"mode": "ipip"}), json!({"mode": "vxlan"})),
            ("mode", json!({"mode": "direct"}), json!({"mode": "vxlan"})),
            ("crossSubnet", json!({"crossSubnet": true}), json!({"crossSubnet": "route"})),
            ("vxlan.vni", json!({"vxlan": {"vni": 1}}), json!({"vxlan": {"vni": 2}})),
            ("vxlan.port", json!({"vxlan": {"port": 1}}), json!({"vxlan": {"port": 2}})),
            ("vxlan.device", json!({"vxlan": {"device": "a"}}), json!({"vxlan": {"device": "b"}})),
            ("mtu", json!({"mtu": 1500}), json!({"mtu": 1400})),
            ("overhead", json!({"overhead": 1}), json!({"overhead": 2})),
            ("routeProtocol", json!({"routeProtocol": 110}), json!({"routeProtocol": 111})),
            ("routeMetric", json!({"routeMetric": 0}), json!({"routeMetric": 2})),
        ] {
            let (config, file) = (config(own), of_file(file));
            let told = config.contradictions(&file);
            assert_eq!(told.iter().map(|one| one.key).collect::<Vec<_>>(), [key], "{told:?}");
            assert_eq!(config.under(&file).contradictions(&file), told, "asked again");
            assert_eq!(config.contradictions(&FabricPart::default()), []);
        }
        let told =
            config(json!({"mode": "ipip"})).contradictions(&of_file(json!({"mode": "vxlan"})));
        let words = "mode is \"ipip\" in the configuration and \"vxlan\" in the peers file";
        assert_eq!(told[0].to_string(), words);
    }

    #[test]
    fn families_may_travel_as_they_are() {
        let said = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}, "plain": ["IPv6"]});
        let file = of_file(said.clone());
        assert_eq!(file.encode(), said);
        let config = config(json!({"mode": "vxlan"})).under(&file);
        assert_eq!(config.fabric.plain, [Family::V6]);
        assert_eq!(config.contradictions(&file), []);
        assert_eq!(config.under(&FabricPart::default()).fabric.plain, []);
        // It is a way of its own, and means nothing where all packets are as they are.
        let way = |value: Value| of_file(value).way();
        assert_ne!(file.way(), way(json!({"mode": "vxlan"})));
        assert_eq!(way(json!({"plain": ["IPv6"]})), way(json!({})));
        for value in [json!(["IPv5"]), json!("IPv6"), json!([6])] {
            let object = json!({"plain": value});
            let (_, complaints, _) = FabricPart::of_file(object.as_object().unwrap());
            assert_eq!(complaints.len(), 1, "{value}");
        }
    }

    #[test]
    fn pods_may_have_less_than_the_fabric() {
        let file = of_file(json!({"mtu": 1400}));
        let config = config(json!({"mtu": 1300})).under(&file);
        assert_eq!(config.contradictions(&file), []);
        assert_eq!((config.mtu, config.fabric.file.mtu), (Some(1300), Some(1400)));
    }

    #[test]
    fn bad_values_and_strange_keys_are_told_with_their_paths() {
        let object = json!({"mode": "warp", "vxlan": {"vni": 0, "prot": 1}, "peersFile": "/x"});
        let (part, complaints, unknown) = FabricPart::of_file(object.as_object().unwrap());
        assert!(part.is_empty());
        let keys: Vec<&str> = complaints.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["fabric.mode", "fabric.vxlan.vni"]);
        let unknown: Vec<_> =
            unknown.iter().map(|one| (one.section.as_str(), one.key.as_str(), one.meant)).collect();
        assert_eq!(
            unknown,
            [("fabric", "peersFile", None), ("fabric.vxlan", "prot", Some("port"))]
        );
    }
}
