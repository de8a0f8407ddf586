// SPDX-License-Identifier: Apache-2.0
//! What the kernel means by an errno, where it says no more.

use nix::errno::Errno;

use super::{
    encapsulation::{self, Needs},
    observed::Observed,
};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, Ordered},
    net::Error,
    object::{Change, Setting, Tunnel, Value, link::Form},
};

/// The refusal of a change with what is to be done about it. `mtu_of` asks for the MTU
/// that a link has.
pub(super) fn explained(
    error: Error,
    change: &Change,
    observed: &Observed,
    mtu_of: &mut dyn FnMut(&str) -> Option<u32>,
) -> Error {
    if let Some(tunnel) = change.wanted::<Tunnel>() {
        return match error.errno {
            Errno::EOPNOTSUPP => no_module(error, &tunnel.form),
            Errno::EINVAL => too_wide(error, tunnel.mtu, &tunnel.form, mtu_of),
            _ => error,
        };
    }
    let Some(setting) = change.wanted::<Setting>() else { return error };
    match (error.errno, &setting.value) {
        (Errno::EINVAL, Value::Mtu(bytes)) => match observed.tunnel(&setting.device) {
            Some(held) => too_wide(error, *bytes, &held.form, mtu_of),
            None => error,
        },
        (Errno::EADDRINUSE, Value::Up(_)) => with_rivals(error, observed),
        _ => error,
    }
}

/// The kernel lets no device that has a parent (VXLAN) be wider than what its packets
/// leave by, less the encapsulation, and says no more than "invalid" (drivers/net/vxlan,
/// `vxlan_change_mtu`). It says the same for other reasons.
fn too_wide(
    mut error: Error,
    mtu: u32,
    form: &Form,
    mtu_of: &mut dyn FnMut(&str) -> Option<u32>,
) -> Error {
    let Some(encapsulation) = encapsulation::of_device(form) else { return error };
    let local = form.vxlan.as_ref().and_then(|vxlan| vxlan.local);
    let family = local.map_or(Family::V4, |local| local.family());
    let (parent, needed) = (&form.parent, mtu.saturating_add(encapsulation.overhead(family)));
    if error.words.is_none()
        && !parent.is_empty()
        && let Some(has) = mtu_of(parent).filter(|has| *has < needed)
    {
        error.words = Some(format!(
            "{parent} has MTU {has}, and with the encapsulation {needed} is needed: lower mtu, or \
             leave it out, or raise the MTU of {parent}"
        ));
    }
    error
}

/// Of a port that another device keeps for itself the kernel says no more than "in use".
fn with_rivals(mut error: Error, observed: &Observed) -> Error {
    if !observed.rivals.is_empty() {
        let mut rivals: Vec<&str> =
            observed.rivals.iter().map(|rival| rival.name.as_str()).gather();
        rivals.order();
        error.words.get_or_insert(format!("other VXLAN devices are {}", rivals.join(", ")));
    }
    error
}

/// A kernel without the module says no more than "not supported".
fn no_module(mut error: Error, form: &Form) -> Error {
    let Some(encapsulation) = encapsulation::of_device(form) else { return error };
    let Needs { module, instead } = encapsulation.needs();
    let words = error.words.take().map_or_else(String::new, |words| format!("{words}; "));
    error.words = Some(format!(
        "{words}this kernel has no module {module} (modprobe {module}; package \
         linux-modules-extra-$(uname -r) on Ubuntu, linux-image-amd64 rather than the cloud \
         kernel on Debian), or set mode to {instead}"
    ));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::tunnel::Vxlan, object::Step};

    #[test]
    fn the_mtu_is_blamed_where_it_is_to_blame_alone() {
        let local = Some("192.0.2.1".parse().unwrap());
        let (vni, port, parent, learning, own_socket) = (7, 4789, 0, false, false);
        let vxlan = Vxlan { vni, port, local, parent, learning, own_socket };
        let form = Form { parent: "eth0".into(), vxlan: Some(vxlan), ..Form::plain("vxlan") };
        let tunnel = Tunnel { name: "vx".into(), mtu: 1450, protocol: 109, form };
        let change = Change::Tunnel(Step::Create(tunnel));
        let told = |mtu| {
            let error = Error::new("create vxlan device vx", Errno::EINVAL);
            explained(error, &change, &Observed::default(), &mut |_| mtu).words.clone()
        };
        assert_eq!(told(Some(1500)), None);
        assert_eq!(told(None), None);
        let words = told(Some(1499)).unwrap();
        assert!(words.starts_with("eth0 has MTU 1499, and with the encapsulation 1500"), "{words}");
    }
}
