// SPDX-License-Identifier: Apache-2.0
//! Writing results, in the exact shape of each version: libcni converts what it
//! caches and gives up on shapes that it does not expect.

use serde_json::{Map, Value, json};

use super::{AddResult, Dns, Interface, Ip, LISTED, Route};
use crate::{
    cni::{Code, Error, Version},
    family::HasFamily,
    list::Gather,
};

pub(super) fn result(result: &AddResult, version: Version) -> Result<Value, Error> {
    let mut object = Map::new();
    object.insert("cniVersion".into(), version.as_str().into());
    if version < Version::V0_3_0 {
        by_family(&mut object, result, version)?;
    } else {
        by_list(&mut object, result, version);
    }
    // Up to 0.4.0 the reference writes an empty object, from 1.0.0 on none.
    if version < Version::V1_0_0 || !result.dns.is_empty() {
        object.insert("dns".into(), dns(&result.dns));
    }
    Ok(Value::Object(object))
}

fn by_family(
    object: &mut Map<String, Value>,
    result: &AddResult,
    version: Version,
) -> Result<(), Error> {
    if result.ips.is_empty() {
        return Err(Error::new(
            Code::INVALID_CONFIG,
            format!("a result without address has no form in cniVersion {version}"),
        )
        .details("set cniVersion to 0.3.0 or later, or configure an IPAM that gives an address"));
    }
    for (family, key) in LISTED {
        let Some(ip) = result.ips.iter().find(|ip| ip.address.family() == family) else {
            continue;
        };
        let mut told = Map::new();
        told.insert("ip".into(), ip.address.to_string().into());
        insert(&mut told, "gateway", ip.gateway.map(|gateway| gateway.to_string()));
        let routes: Vec<Value> = result
            .routes
            .iter()
            .filter(|route| route.dst.family() == family)
            .map(|route| self::route(&Route::new(route.dst, route.gw)))
            .gather();
        insert_list(&mut told, "routes", routes);
        object.insert(key.into(), Value::Object(told));
    }
    Ok(())
}

fn by_list(object: &mut Map<String, Value>, result: &AddResult, version: Version) {
    let interfaces = result.interfaces.iter().map(|item| interface(item, version)).gather();
    insert_list(object, "interfaces", interfaces);
    insert_list(object, "ips", result.ips.iter().map(|item| ip(item, version)).gather());
    insert_list(object, "routes", result.routes.iter().map(route).gather());
}

fn interface(interface: &Interface, version: Version) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), interface.name.clone().into());
    insert(&mut object, "mac", interface.mac.as_ref().map(|mac| mac.to_ascii_lowercase()));
    if version >= Version::V1_1_0 {
        insert(&mut object, "mtu", interface.mtu);
    }
    insert(&mut object, "sandbox", interface.sandbox.clone());
    if version >= Version::V1_1_0 {
        insert(&mut object, "socketPath", interface.socket_path.clone());
        insert(&mut object, "pciID", interface.pci_id.clone());
    }
    Value::Object(object)
}

fn ip(ip: &Ip, version: Version) -> Value {
    let mut object = Map::new();
    if version < Version::V1_0_0 {
        let number = ip.address.family().version().to_string();
        object.insert("version".into(), number.into());
    }
    insert(&mut object, "interface", ip.interface);
    object.insert("address".into(), ip.address.to_string().into());
    insert(&mut object, "gateway", ip.gateway.map(|gateway| gateway.to_string()));
    Value::Object(object)
}

fn route(route: &Route) -> Value {
    let mut object = Map::new();
    object.insert("dst".into(), route.dst.to_string().into());
    insert(&mut object, "gw", route.gw.map(|gw| gw.to_string()));
    insert(&mut object, "mtu", route.mtu);
    insert(&mut object, "advmss", route.advmss);
    insert(&mut object, "priority", route.priority);
    insert(&mut object, "table", route.table);
    insert(&mut object, "scope", route.scope);
    Value::Object(object)
}

fn dns(dns: &Dns) -> Value {
    let mut object = Map::new();
    insert_list(&mut object, "nameservers", texts(&dns.nameservers));
    insert(&mut object, "domain", dns.domain.clone());
    insert_list(&mut object, "search", texts(&dns.search));
    insert_list(&mut object, "options", texts(&dns.options));
    Value::Object(object)
}

fn texts(items: &[String]) -> Vec<Value> {
    items.iter().map(|item| json!(item)).gather()
}

fn insert(object: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(key.into(), value.into());
    }
}

fn insert_list(object: &mut Map<String, Value>, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        object.insert(key.into(), items.into());
    }
}
