// SPDX-License-Identifier: Apache-2.0
//! Calico's `usePodCidr` and `usePodCidrIPv6` in an IPAM section: what stands in the place of
//! this node's own pod CIDRs.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::names::placeholder;
use crate::family::HasFamily;
use crate::list::Gather;

/// Whether an IPAM section has a placeholder in it.
pub fn has_placeholder(ipam: &Value) -> bool {
    match ipam {
        Value::String(text) => placeholder(text).is_some(),
        Value::Array(items) => items.iter().any(has_placeholder),
        Value::Object(members) => members.values().any(has_placeholder),
        _ => false,
    }
}

/// The section with these pod CIDRs for the placeholders. One of a family that there is no
/// CIDR of stays.
pub fn fill_in(ipam: &Value, own: &[IpNetwork]) -> Value {
    let mut ipam = ipam.clone();
    replace(&mut ipam, own);
    ipam
}

/// A range of a set becomes as many as the node has pod CIDRs of the family; a
/// range that stands alone, the first.
fn replace(value: &mut Value, own: &[IpNetwork]) {
    let of = |family| own.iter().filter(move |cidr| cidr.family() == family);
    match value {
        Value::String(text) => {
            if let Some(first) = placeholder(text).and_then(|family| of(family).next()) {
                *text = first.to_string();
            }
        }
        Value::Array(items) => {
            let expand = |item: Value| {
                let subnet = item.get("subnet").and_then(Value::as_str);
                let Some(family) =
                    subnet.and_then(placeholder).filter(|family| of(*family).count() > 1)
                else {
                    return vec![item];
                };
                let with = |cidr: &IpNetwork| {
                    let mut range = item.clone();
                    if let Some(range) = range.as_object_mut() {
                        range.insert("subnet".into(), json!(cidr.to_string()));
                    }
                    range
                };
                of(family).map(with).gather()
            };
            *items = std::mem::take(items).into_iter().flat_map(expand).gather();
            items.iter_mut().for_each(|item| replace(item, own));
        }
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, own)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_wherever_a_subnet_may_stand() {
        let own: Vec<IpNetwork> = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec();
        let ipam = json!({
            "type": "host-local",
            "subnet": "USEPODCIDR",
            "ranges": [[{"subnet": "usePodCidr", "rangeStart": ""}], [{"subnet": "usePodCidrIPv6"}],
                [{"subnet": "192.0.2.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]
        });
        assert!(has_placeholder(&ipam));
        let ipam = fill_in(&ipam, &own);
        assert_eq!(
            ipam,
            json!({
                "type": "host-local",
                "subnet": "10.1.0.0/24",
                "ranges": [
                    [{"subnet": "10.1.0.0/24", "rangeStart": ""},
                        {"subnet": "10.2.0.0/24", "rangeStart": ""}],
                    [{"subnet": "fd00:1::/64"}], [{"subnet": "192.0.2.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}]
            })
        );
        assert!(!has_placeholder(&ipam));
    }
}
