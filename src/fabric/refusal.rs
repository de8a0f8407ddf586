//! What the kernel means by an errno, where it says no more.

use nix::errno::Errno;

use super::{
    encapsulation::{self, Needs},
    observed::Observed,
};
use crate::{
    net::Error,
    object::{Change, Setting, Tunnel, Value, link::Form},
};

/// The refusal of a change with what is to be done about it.
pub(super) fn explained(error: Error, change: &Change, observed: &Observed) -> Error {
    if let Some(tunnel) = change.wanted::<Tunnel>() {
        return match error.errno {
            Errno::EOPNOTSUPP => no_module(error, &tunnel.form),
            Errno::EINVAL => too_wide(error, &tunnel.form),
            _ => error,
        };
    }
    let Some(setting) = change.wanted::<Setting>() else { return error };
    match (error.errno, &setting.value) {
        (Errno::EINVAL, Value::Mtu(_)) => match observed.tunnel(&setting.device) {
            Some(held) => too_wide(error, &held.form),
            None => error,
        },
        (Errno::EADDRINUSE, Value::Up(_)) => with_rivals(error, observed),
        _ => error,
    }
}

/// The kernel lets no device that has a parent (VXLAN) be wider than what its packets
/// leave by, less the encapsulation, and says no more than "invalid" (drivers/net/vxlan,
/// `vxlan_change_mtu`).
fn too_wide(mut error: Error, Form { parent, .. }: &Form) -> Error {
    if parent.is_empty() {
        return error;
    }
    error.words.get_or_insert_with(|| {
        format!(
            "{parent} does not carry that much besides the encapsulation: lower mtu, or leave it \
             out, or raise the MTU of {parent}"
        )
    });
    error
}

/// Of a port that another device keeps for itself the kernel says no more than "in use".
fn with_rivals(mut error: Error, observed: &Observed) -> Error {
    if !observed.rivals.is_empty() {
        let mut rivals: Vec<&str> =
            observed.rivals.iter().map(|rival| rival.name.as_str()).collect();
        rivals.sort_unstable();
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
