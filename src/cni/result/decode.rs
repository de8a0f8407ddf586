// SPDX-License-Identifier: Apache-2.0
//! Reading results, and routes that are written as in one. Strict about values, for they end up in the kernel; lenient
//! about everything that is merely unknown.

use std::fmt::Display;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use super::{AddResult, Dns, Interface, Ip, LISTED, Route};
use crate::{
    cni::{Code, Error, Version, cidr, json},
    family::HasFamily,
    list::PushAll,
};

/// What makes no sense, and where it stands.
#[derive(Debug)]
pub struct Misread {
    /// The path of the value: `ips[0].address`; empty for the whole.
    pub at: String,
    /// What is wrong with it.
    pub why: String,
}

impl From<Misread> for Error {
    fn from(Misread { at, why }: Misread) -> Self {
        let at = if at.is_empty() { at } else { at + ": " };
        Self::new(Code::DECODE, format!("result: {at}{why}"))
            .details("the plugin that gave this result is at fault, or its configuration")
    }
}

/// Reads the routes of an object that has them as a result does.
///
/// # Errors
/// For a value that makes no sense.
pub fn routes(object: &Map<String, Value>) -> Result<Vec<Route>, Misread> {
    Node { at: String::new(), fields: object }.list("routes", route)
}

pub(super) fn result(value: &Value, assumed: Version) -> Result<AddResult, Error> {
    let root = Node::root(value)?;
    let version = match root.text("cniVersion")? {
        Some(text) => Version::parse(text)?,
        None => assumed,
    };
    let mut result = if version < Version::V0_3_0 { by_family(&root)? } else { by_list(&root)? };
    if let Some(node) = root.object("dns")? {
        result.dns = dns(&node)?;
    }
    Ok(result)
}

/// 0.1.0 and 0.2.0: one address per family, its routes inside.
fn by_family(root: &Node) -> Result<AddResult, Misread> {
    let mut result = AddResult::default();
    for (family, key) in LISTED {
        let Some(node) = root.object(key)? else { continue };
        let address = node.network("ip")?;
        if address.family() != family {
            return Err(node.refuse("ip", &address, "is of the other family"));
        }
        result.ips.push(Ip { address, gateway: node.address("gateway")?, interface: None });
        result.routes.push_all(node.list("routes", route)?);
    }
    Ok(result)
}

/// 0.3.0 and later: lists side by side.
fn by_list(root: &Node) -> Result<AddResult, Misread> {
    let interfaces = root.list("interfaces", interface)?;
    let ips = root.list("ips", |node| ip(node, interfaces.len()))?;
    Ok(AddResult { interfaces, ips, routes: root.list("routes", route)?, dns: Dns::default() })
}

fn interface(node: &Node) -> Result<Interface, Misread> {
    let name = node.text("name")?.ok_or_else(|| node.lacks("name"))?;
    let owned = |key| Ok::<_, Misread>(node.text(key)?.map(str::to_owned));
    Ok(Interface {
        name: name.to_owned(),
        mac: node.text("mac")?.map(str::to_ascii_lowercase),
        mtu: node.nonzero("mtu")?,
        sandbox: owned("sandbox")?,
        socket_path: owned("socketPath")?,
        pci_id: owned("pciID")?,
    })
}

fn ip(node: &Node, interfaces: usize) -> Result<Ip, Misread> {
    let interface = match node.integer("interface")? {
        None => None,
        Some(index) => match usize::try_from(index).ok().filter(|index| *index < interfaces) {
            Some(index) => Some(index),
            None => {
                let why = format!("is not the index of one of {interfaces} interfaces");
                return Err(node.refuse("interface", &index, &why));
            }
        },
    };
    Ok(Ip { address: node.network("address")?, gateway: node.address("gateway")?, interface })
}

fn route(node: &Node) -> Result<Route, Misread> {
    Ok(Route {
        dst: node.network("dst")?,
        gw: node.address("gw")?,
        mtu: node.nonzero("mtu")?,
        advmss: node.nonzero("advmss")?,
        priority: node.nonzero("priority")?,
        table: node.number("table")?,
        scope: node.number("scope")?,
    })
}

fn dns(node: &Node) -> Result<Dns, Misread> {
    Ok(Dns {
        nameservers: node.texts("nameservers")?,
        domain: node.text("domain")?.map(str::to_owned),
        search: node.texts("search")?,
        options: node.texts("options")?,
    })
}

/// An object together with where it stands, for the sake of messages.
struct Node<'a> {
    at: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    fn root(value: &'a Value) -> Result<Self, Misread> {
        match value.as_object() {
            Some(fields) => Ok(Self { at: String::new(), fields }),
            None => {
                let why = format!("{} is not an object", json::shown(value));
                Err(Misread { at: String::new(), why })
            }
        }
    }

    fn field(&self, key: &str) -> Option<&'a Value> {
        json::field(self.fields, key)
    }

    /// Text; the empty one counts as absent.
    fn text(&self, key: &str) -> Result<Option<&'a str>, Misread> {
        match self.field(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.refuse(key, &json::shown(other), "is not a string")),
        }
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, Misread> {
        self.field(key)
            .map(|value| {
                value
                    .as_i64()
                    .ok_or_else(|| self.refuse(key, &json::shown(value), "is not an integer"))
            })
            .transpose()
    }

    /// A number that fits its type, 0 included.
    fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, Misread> {
        self.integer(key)?
            .map(|value| {
                T::try_from(value).map_err(|_| self.refuse(key, &value, "is out of range"))
            })
            .transpose()
    }

    /// A number for which 0 means that it is not set.
    fn nonzero(&self, key: &str) -> Result<Option<u32>, Misread> {
        Ok(self.number(key)?.filter(|value| *value != 0))
    }

    fn network(&self, key: &str) -> Result<IpNetwork, Misread> {
        let text = self.text(key)?.ok_or_else(|| self.lacks(key))?;
        cidr::parse(text).map_err(|why| self.wrong(key, &why))
    }

    fn address(&self, key: &str) -> Result<Option<IpAddr>, Misread> {
        self.text(key)?
            .map(|text| cidr::parse_address(text).map_err(|why| self.wrong(key, &why)))
            .transpose()
    }

    fn object(&self, key: &str) -> Result<Option<Node<'a>>, Misread> {
        match self.field(key) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Node { at: self.path(key), fields })),
            Some(other) => Err(self.refuse(key, &json::shown(other), "is not an object")),
        }
    }

    fn items(&self, key: &str) -> Result<&'a [Value], Misread> {
        match self.field(key) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.refuse(key, &json::shown(other), "is not a list")),
        }
    }

    fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&Node) -> Result<T, Misread>,
    ) -> Result<Vec<T>, Misread> {
        let read_item = |(index, item): (usize, &'a Value)| match item.as_object() {
            Some(fields) => read(&Node { at: self.path(&format!("{key}[{index}]")), fields }),
            None => {
                Err(self.refuse(&format!("{key}[{index}]"), &json::shown(item), "is not an object"))
            }
        };
        self.items(key)?.iter().enumerate().map(read_item).collect()
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, Misread> {
        let text = |(index, item): (usize, &Value)| match item.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => {
                Err(self.refuse(&format!("{key}[{index}]"), &json::shown(item), "is not a string"))
            }
        };
        self.items(key)?.iter().enumerate().map(text).collect()
    }

    fn path(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    fn lacks(&self, key: &str) -> Misread {
        self.wrong(key, "is missing")
    }

    fn refuse(&self, key: &str, value: &dyn Display, why: &str) -> Misread {
        self.wrong(key, &format!("{value} {why}"))
    }

    fn wrong(&self, key: &str, why: &str) -> Misread {
        Misread { at: self.path(key), why: why.to_owned() }
    }
}
