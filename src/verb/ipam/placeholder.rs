//! Calico's `usePodCidr` and `usePodCidrIPv6`: this node's own pod CIDRs, from
//! the peers file.

use std::path::Path;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::{
    cni::{Code, Document, Error},
    conf::{Config, placeholder, placeholders},
    family::HasFamily,
    net::Socket,
    node::configured::AGENTS_PEERS_FILE,
    state::Root,
    verb::{
        fabric::{self, Depth},
        kernel,
    },
};

/// Whether an IPAM section has a placeholder in it.
pub(in crate::verb) fn is_in(ipam: &Value) -> bool {
    !placeholders(ipam).is_empty()
}

/// Puts this node's pod CIDRs for the placeholders.
///
/// # Errors
/// Code 50 without a peers file that says them.
pub(in crate::verb) fn fill(
    document: &mut Document,
    config: &Config,
    root: &Root,
) -> Result<(), Error> {
    let own = own_cidrs(config, root)?;
    let ipam = filled(document.ipam(), &own)?;
    put(document, ipam);
    Ok(())
}

/// The same for who looks at a pool and is to change nothing: no fabric is applied for it.
///
/// # Errors
/// As for [`fill`].
pub(super) fn fill_as_listed(
    document: &mut Document,
    config: &Config,
    root: &Root,
) -> Result<(), Error> {
    let own = match &config.fabric.peers_file {
        Some(named) => match fabric::applied_of_file(config, root) {
            Some(applied) => applied.own_cidrs,
            None => {
                let mut host = Socket::open().map_err(kernel)?;
                match fabric::read_peers(&root.path(named), config, &mut host) {
                    Ok((peers, _)) => peers.me.given_pod_cidrs(),
                    // Pods go on by what was applied as well.
                    Err(error) => fabric::last_applied(config, root).ok_or(error)?.own_cidrs,
                }
            }
        },
        None => of_the_agent(config, root, &mut Socket::open().map_err(kernel)?)?,
    };
    let ipam = filled(document.ipam(), &own)?;
    put(document, ipam);
    Ok(())
}

/// Whether the peers file has what the placeholders of an IPAM section stand for. A file
/// that the configuration names and that cannot be read is a fault of its own.
///
/// # Errors
/// Code 50 without a peers file that says them.
pub fn own_cidrs_fit(ipam: &Value, config: &Config, root: &Root) -> Result<(), Error> {
    if !is_in(ipam) {
        return Ok(());
    }
    let mut host = Socket::open().map_err(kernel)?;
    let own = match &config.fabric.peers_file {
        Some(named) => match fabric::read_peers(&root.path(named), config, &mut host) {
            Ok((peers, _)) => peers.me.given_pod_cidrs(),
            Err(_) => return Ok(()),
        },
        None => of_the_agent(config, root, &mut host)?,
    };
    filled(ipam, &own).map(drop)
}

fn filled(ipam: &Value, own: &[IpNetwork]) -> Result<Value, Error> {
    let mut ipam = ipam.clone();
    replace(&mut ipam, own);
    if is_in(&ipam) {
        let told = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let msg =
            format!("ipam asks for a pod CIDR of a family that this node has none of ({told})");
        return Err(Error::new(Code::UNAVAILABLE, msg)
            .details("give the node a podCIDR of both families in the peers file"));
    }
    Ok(ipam)
}

/// Puts all addresses for the placeholders: enough to release or to compare by
/// container id, when the peers file may be gone.
pub(in crate::verb) fn fill_with_all(document: &mut Document) {
    let mut ipam = document.ipam().clone();
    let all = ["0.0.0.0/0", "::/0"].map(|all| all.parse());
    replace(&mut ipam, &all.into_iter().flatten().collect::<Vec<IpNetwork>>());
    put(document, ipam);
}

/// Replaces the IPAM section of a configuration.
pub(in crate::verb) fn put(document: &mut Document, ipam: Value) {
    document.object.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
    document.object.insert("ipam".into(), ipam);
    document.bytes = Value::Object(document.object.clone()).to_string().into_bytes();
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
                of(family).map(with).collect()
            };
            *items = std::mem::take(items).into_iter().flat_map(expand).collect();
            items.iter_mut().for_each(|item| replace(item, own));
        }
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, own)),
        _ => {}
    }
}

/// This node's pod CIDRs: by the fabric if the configuration has one, else by
/// the agent's peers file.
fn own_cidrs(config: &Config, root: &Root) -> Result<Vec<IpNetwork>, Error> {
    let mut host = Socket::open().map_err(kernel)?;
    if let Some(applied) = fabric::ensure(config, root, &mut host, Depth::Glance)? {
        return Ok(applied.own_cidrs);
    }
    of_the_agent(config, root, &mut host)
}

fn of_the_agent(config: &Config, root: &Root, host: &mut Socket) -> Result<Vec<IpNetwork>, Error> {
    let path = root.path(Path::new(AGENTS_PEERS_FILE));
    let (peers, _) = fabric::read_peers(&path, config, host).map_err(|error| {
        let error = Error::from(error);
        Error { msg: format!("ipam asks for this node's pod CIDR: {}", error.msg), ..error }
            .details("name the peers file in peersFile, or give the subnet itself in ipam")
    })?;
    Ok(peers.me.given_pod_cidrs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_wherever_a_subnet_may_stand() {
        let own: Vec<IpNetwork> = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec();
        let mut ipam = json!({
            "type": "host-local",
            "subnet": "USEPODCIDR",
            "ranges": [[{"subnet": "usePodCidr", "rangeStart": ""}], [{"subnet": "usePodCidrIPv6"}],
                [{"subnet": "192.0.2.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]
        });
        assert!(is_in(&ipam));
        replace(&mut ipam, &own);
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
        assert!(!is_in(&ipam));
    }
}
