// SPDX-License-Identifier: Apache-2.0
//! Addresses of devices.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{
    diff::{Entry, Held, Step},
    managed::{Indexes, Managed, Work},
    told::Kind,
};
use crate::net::addr;

/// An address of a device.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The device.
    pub device: String,
    /// The address with its mask.
    pub address: IpNetwork,
}

impl Entry for Address {
    type Key<'a> = (&'a str, IpNetwork);

    fn entry_key(&self) -> (&str, IpNetwork) {
        (&self.device, self.address)
    }
}

impl Managed for Address {
    const KIND: Kind = Kind::Address;
    const OF_NODE: bool = true;

    fn name(&self) -> String {
        format!("address of {}", self.device)
    }

    fn value(&self) -> String {
        self.address.to_string()
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        let index = |address: &Self| indexes.get(&address.device).copied();
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => {
                index(wanted).map(|index| addr::add(index, wanted.address)).into()
            }
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(Held { object, .. }) => {
                index(object).map(|index| addr::delete(index, object.address)).into()
            }
        }
    }

    fn lack(step: &Step<Self>, _: &str) -> String {
        let (Step::Create(object) | Step::Replace(object, _) | Step::Foreign(object, _)) = step
        else {
            return Self::told(step).words();
        };
        format!("{} lacks address {}", object.device, object.address)
    }

    fn device(&self) -> Option<&str> {
        Some(&self.device)
    }

    fn addition(&self) -> Option<String> {
        Some(format!("{} address {}", self.device, self.address))
    }
}
