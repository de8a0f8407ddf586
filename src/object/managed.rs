// SPDX-License-Identifier: Apache-2.0
//! What every kind of object says of itself beside what [`diff`](super::diff) compares.

use std::collections::{HashMap, HashSet};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::{
    diff::{self, Held, Object, Step},
    told::{Action, Kind, Told},
};
use crate::{
    net::{Request, sysctl::Sysctl},
    nft,
};

/// The indexes of links, by name.
pub type Indexes = HashMap<String, u32>;

/// What makes a step.
#[derive(Debug)]
pub enum Work {
    /// Nothing is to be done.
    Nothing,
    /// It cannot be made: its device is not there.
    Impossible,
    /// A parameter is written.
    Write(Sysctl),
    /// A device is made, whose index others need.
    Device(Box<Making>),
    /// One message.
    Message(Request),
    /// A table of nf_tables is made so.
    Table(Box<nft::Table>),
    /// A table of nf_tables of that name goes.
    NoTable(String),
}

/// How a device is made.
#[derive(Debug)]
pub struct Making {
    /// The device's name.
    pub name: String,
    /// The device that goes before, and the message that removes it.
    pub former: Option<(String, Request)>,
    /// The message that makes it.
    pub create: Request,
    /// The alias that names its owner.
    pub alias: String,
    /// Its MTU in bytes, which the kernel may not have taken from the message.
    pub mtu: u32,
}

impl From<Option<Request>> for Work {
    /// No message for want of a device.
    fn from(request: Option<Request>) -> Self {
        request.map_or(Self::Impossible, Self::Message)
    }
}

/// What becomes of devices, for what is on them.
#[derive(Debug, Default)]
pub struct Devices {
    /// Those that are made, or made anew.
    pub(super) made: HashSet<String>,
    /// Those that go, and with them all that they have.
    pub(super) lost: HashSet<String>,
    /// Those of somebody else that cannot serve.
    pub(super) foreign: HashSet<String>,
}

/// What is held of a kind, as it is told.
pub trait Present<O>: Sized {
    /// What it is called.
    fn name(&self) -> String;

    /// What it is.
    fn value(&self) -> String;

    /// The device that it is on.
    fn device(&self) -> Option<&str> {
        None
    }

    /// As the kernel has it once we have made one; nothing where nobody makes one.
    fn of_made(object: &O, indexes: &Indexes) -> Option<Self>;
}

/// As what should be there is told.
impl<O: Managed<Held = Self>> Present<O> for Held<O> {
    fn name(&self) -> String {
        self.object.name()
    }

    fn value(&self) -> String {
        self.object.value()
    }

    fn device(&self) -> Option<&str> {
        self.object.device()
    }

    fn of_made(object: &O, _: &Indexes) -> Option<Self> {
        Some(Self { object: object.clone(), ours: true })
    }
}

/// A kind of object that is told of, made and removed.
pub trait Managed: Object<Held: Present<Self>> {
    /// What it is told as.
    const KIND: Kind;
    /// Made by itself, not in one send with hundreds of others.
    const ALONE: bool = false;
    /// All peers and pods need it, not single ones.
    const OF_NODE: bool = false;

    /// What it is called.
    fn name(&self) -> String;

    /// What it is to be.
    fn value(&self) -> String;

    /// What makes a step.
    fn work(step: &Step<Self>, indexes: &Indexes) -> Work;

    /// What a step does, as it is told.
    fn action(step: &Step<Self>) -> Action {
        match step {
            Step::Create(_) => Action::Create,
            Step::Replace(..) => Action::Replace,
            Step::Foreign(..) => Action::Conflict,
            Step::Delete(_) => Action::Delete,
        }
    }

    /// The step in words.
    fn told(step: &Step<Self>) -> Told {
        told(step)
    }

    /// What is to be made as a difference: what one side of an attachment lacks.
    fn lack(step: &Step<Self>, whose: &str) -> String {
        match step {
            Step::Create(wanted) | Step::Replace(wanted, _) | Step::Foreign(wanted, _) => {
                format!("{whose} {} is missing", wanted.name())
            }
            Step::Delete(held) => format!("{whose} {} is left", held.name()),
        }
    }

    /// As the kernel has it once we have made it; nothing where nobody makes one.
    fn as_held(&self, indexes: &Indexes) -> Option<Self::Held> {
        Self::Held::of_made(self, indexes)
    }

    /// The steps from what is held to what is wanted.
    fn diff(wanted: &[&Self], held: &[&Self::Held]) -> Vec<Step<Self>> {
        diff::diff(wanted.iter().copied(), held.iter().copied())
    }

    /// Notes what becomes of devices by these steps.
    fn note(_steps: &[Step<Self>], _devices: &mut Devices) {}

    /// The device that it is on.
    fn device(&self) -> Option<&str> {
        None
    }

    /// A device has it from its creation on.
    fn comes_with_device(&self) -> bool {
        false
    }

    /// Whether all peers, or all pods of this node, go without where somebody else is
    /// in its way.
    fn concerns_all(&self) -> bool {
        Self::OF_NODE
    }

    /// Where packets go that need it.
    fn leads_to(&self) -> Option<IpNetwork> {
        None
    }

    /// By what it is known again on a device of somebody else, whose entries bear no
    /// mark: the device's name first.
    fn addition(&self) -> Option<String> {
        None
    }

    /// Another way to a step that the kernel refused; empty where there is none.
    fn detour(_step: &Step<Self>, _refused: (&Request, Errno), _indexes: &Indexes) -> Vec<Request> {
        Vec::new()
    }
}

/// A step in the words that most kinds have.
pub(super) fn told<O: Managed>(step: &Step<O>) -> Told {
    let before = |held: &O::Held| Some(held.value());
    let (object, before, after) = match step {
        Step::Create(wanted) => (wanted.name(), None, Some(wanted.value())),
        Step::Replace(wanted, held) | Step::Foreign(wanted, held) => {
            (wanted.name(), before(held), Some(wanted.value()))
        }
        Step::Delete(held) => (held.name(), before(held), None),
    };
    Told { kind: O::KIND, action: O::action(step), object, before, after }
}
