// SPDX-License-Identifier: Apache-2.0
//! Permanent forwarding entries of VXLAN devices.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    diff::{Entry, Step},
    managed::{Indexes, Managed, Work},
    told::Kind,
};
use crate::net::{Mac, fdb};

/// A permanent forwarding entry of a VXLAN device: `mac` is behind `node`. Ours have one
/// for each MAC address of a device.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// The device.
    pub device: String,
    /// The peer's tunnel MAC address.
    pub mac: Mac,
    /// The peer's address.
    pub node: IpAddr,
}

impl Entry for Forwarding {
    type Key<'a> = (&'a str, Mac);

    fn entry_key(&self) -> (&str, Mac) {
        (&self.device, self.mac)
    }
}

impl Managed for Forwarding {
    const KIND: Kind = Kind::Forwarding;

    fn name(&self) -> String {
        format!("fdb {} dev {}", self.mac, self.device)
    }

    fn value(&self) -> String {
        self.node.to_string()
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        let entry = |object: &Self| {
            let index = indexes.get(&object.device).copied()?;
            Some((fdb::Entry { mac: object.mac, node: object.node }, index))
        };
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => {
                entry(wanted).map(|(entry, index)| entry.replace(index)).into()
            }
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(held) => {
                entry(&held.object).map(|(entry, index)| entry.delete(index)).into()
            }
        }
    }

    fn device(&self) -> Option<&str> {
        Some(&self.device)
    }

    fn addition(&self) -> Option<String> {
        Some(format!("{} fdb {} {}", self.device, self.mac, self.node))
    }
}
