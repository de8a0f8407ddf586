// SPDX-License-Identifier: Apache-2.0
//! What is set of a link: whose it is, its MTU, its group, that it is up, and whether it
//! takes packets whose way back is another link.

use std::{fmt, mem::Discriminant};

use serde::{Deserialize, Serialize};

use super::{
    diff::{Held, Object, Step},
    link::{tunnel_alias, tunnel_group},
    managed::{Indexes, Managed, Work},
    told::{Action, Kind, Told},
};
use crate::net::{link, sysctl::Sysctl};

/// One setting of a link.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The link.
    pub device: String,
    /// What is set.
    pub value: Value,
}

/// What can be set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    /// Whose it is.
    Mark(Mark),
    /// The MTU in bytes.
    Mtu(u32),
    /// The interface group.
    Group(u32),
    /// Administratively up.
    Up(bool),
    /// How it filters packets of IPv4 by their way back: `rp_filter`.
    ReversePath(u8),
}

/// Packets are taken whose way back is another link, whatever the node does elsewhere: the
/// greater of a link's value and that of all links counts, and 1 is the strict one.
pub const LOOSE: Value = Value::ReversePath(2);

/// The parameter by which a link filters packets by their way back.
pub fn reverse_path(device: &str) -> String {
    format!("net/ipv4/conf/{device}/rp_filter")
}

/// Whose a tunnel device is, by its alias and its group.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mark {
    /// That of the fabric of this route protocol: ours.
    Ours(u8),
    /// Ours, by the group, and without the alias that names the fabric.
    Unnamed,
    /// Ours when our routes had another protocol.
    Former,
    /// Nobody's: the IPIP module makes a device in every namespace.
    Unused,
    /// Somebody else's.
    Foreign,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(Mark::Ours(_)) => f.write_str("ours"),
            Self::Mark(Mark::Unnamed) => f.write_str("without our alias"),
            Self::Mark(Mark::Former) => f.write_str("of our former route protocol"),
            Self::Mark(Mark::Unused) => f.write_str("unused"),
            Self::Mark(Mark::Foreign) => f.write_str("somebody else's"),
            Self::Mtu(bytes) => write!(f, "mtu {bytes}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Up(up) => f.write_str(if *up { "up" } else { "down" }),
            Self::ReversePath(value) => write!(f, "{value}"),
        }
    }
}

impl Object for Setting {
    type Held = Held<Self>;
    type Key<'a> = (&'a str, Discriminant<Value>);

    fn key(&self) -> (&str, Discriminant<Value>) {
        (&self.device, std::mem::discriminant(&self.value))
    }

    fn key_of(held: &Held<Self>) -> Option<(&str, Discriminant<Value>)> {
        Some(held.object.key())
    }

    fn is_ours(held: &Held<Self>) -> bool {
        held.ours
    }

    fn is(&self, held: &Held<Self>) -> bool {
        held.ours && held.object == *self
    }

    /// A device of somebody else serves as it is.
    fn is_served_by(&self, _: &Held<Self>) -> bool {
        true
    }
}

impl Managed for Setting {
    const KIND: Kind = Kind::Link;
    const ALONE: bool = true;
    const OF_NODE: bool = true;

    fn name(&self) -> String {
        match self.value {
            Value::ReversePath(_) => format!("sysctl {}", reverse_path(&self.device)),
            _ => format!("link {}", self.device),
        }
    }

    fn value(&self) -> String {
        self.value.to_string()
    }

    /// A link that is made is down at first; one that is given up has settings still.
    /// Of something that is always there.
    fn action(_: &Step<Self>) -> Action {
        Action::Replace
    }

    fn told(step: &Step<Self>) -> Told {
        let (wanted, before, after) = match step {
            Step::Create(wanted) => {
                let before = (wanted.value == Value::Up(true)).then(|| "down".to_owned());
                (wanted, before, wanted.value())
            }
            Step::Replace(wanted, held) | Step::Foreign(wanted, held) => {
                (wanted, Some(held.object.value()), wanted.value())
            }
            Step::Delete(held) => {
                (&held.object, Some(held.object.value()), "down, unused".to_owned())
            }
        };
        let kind = match wanted.value {
            Value::Mtu(_) => Kind::Mtu,
            Value::ReversePath(_) => Kind::Sysctl,
            Value::Mark(_) | Value::Group(_) | Value::Up(_) => Kind::Link,
        };
        let (object, after) = (wanted.name(), Some(after));
        Told { kind, action: Self::action(step), object, before, after }
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        let (wanted, goes) = match step {
            Step::Create(wanted) | Step::Replace(wanted, _) => (wanted, false),
            Step::Delete(held) => (&held.object, true),
            Step::Foreign(..) => return Work::Nothing,
        };
        let name = &wanted.device;
        if let Value::ReversePath(value) = wanted.value {
            let parameter = Sysctl::optional(reverse_path(name), value);
            return if goes { Work::Nothing } else { Work::Write(parameter) };
        }
        let Some(index) = indexes.get(name).copied() else { return Work::Impossible };
        Work::Message(match wanted.value {
            // The IPIP module's own device survives its removal.
            Value::Mark(_) if goes => link::release(name),
            _ if goes => return Work::Nothing,
            Value::Mark(Mark::Ours(protocol)) => {
                link::set_mark(index, name, &tunnel_alias(protocol), tunnel_group(protocol))
            }
            Value::Mark(_) | Value::ReversePath(_) => return Work::Nothing,
            Value::Mtu(bytes) => link::set_mtu(name, bytes),
            Value::Group(group) => link::set_group(index, name, group),
            Value::Up(_) => link::set_up(name),
        })
    }

    fn lack(step: &Step<Self>, _: &str) -> String {
        match step.wanted() {
            Some(Self { device, value: Value::Up(true) }) => format!("{device} is down"),
            Some(Self { device, value: Value::Group(_) }) => format!("{device} has lost its group"),
            _ => Self::told(step).words(),
        }
    }

    fn device(&self) -> Option<&str> {
        Some(&self.device)
    }

    fn comes_with_device(&self) -> bool {
        !matches!(self.value, Value::Up(_) | Value::ReversePath(_))
    }
}
