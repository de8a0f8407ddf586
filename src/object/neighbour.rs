// SPDX-License-Identifier: Apache-2.0
//! Permanent neighbours of devices.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    diff::{Entry, Held, Step},
    managed::{Indexes, Managed, Work},
    told::Kind,
};
use crate::net::{Mac, neigh};

/// A permanent entry of a device's neighbours: `address` is at `mac`. The kernel has one
/// for each address of a device.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// The device.
    pub device: String,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The neighbour's MAC address.
    pub mac: Mac,
}

impl Entry for Neighbour {
    type Key<'a> = (&'a str, IpAddr);

    fn entry_key(&self) -> (&str, IpAddr) {
        (&self.device, self.address)
    }
}

impl Managed for Neighbour {
    const KIND: Kind = Kind::Neighbour;

    fn name(&self) -> String {
        format!("neighbour {} dev {}", self.address, self.device)
    }

    fn value(&self) -> String {
        self.mac.to_string()
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        let index = |object: &Self| indexes.get(&object.device).copied();
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => {
                let entry = neigh::Neighbour { address: wanted.address, mac: wanted.mac };
                index(wanted).map(|index| entry.replace(index)).into()
            }
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(Held { object, .. }) => {
                index(object).map(|index| neigh::delete(index, object.address)).into()
            }
        }
    }

    fn lack(step: &Step<Self>, whose: &str) -> String {
        match step {
            Step::Replace(Self { address, .. }, held) => {
                format!("{whose} neighbour {address} is {}", held.object.mac)
            }
            Step::Create(Self { address, .. }) => {
                format!("{whose} permanent neighbour {address} is missing")
            }
            Step::Foreign(..) | Step::Delete(_) => Self::told(step).words(),
        }
    }

    fn device(&self) -> Option<&str> {
        Some(&self.device)
    }

    fn addition(&self) -> Option<String> {
        Some(format!("{} neighbour {} {}", self.device, self.address, self.mac))
    }
}
