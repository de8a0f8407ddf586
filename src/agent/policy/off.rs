// SPDX-License-Identifier: Apache-2.0
//! Network policies that an agent before this one enforced, and that are not to be enforced
//! any more.

use std::{thread, time::Duration};

use crate::{
    node::{configured::Networks, policy},
    state::Root,
};

/// How soon to look again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes them away as soon as no network asks for them: a pod that came meanwhile would be
/// closed for good.
pub(crate) fn relinquish(root: &Root) {
    let mut told = String::new();
    while policy::is_kept(root) {
        let networks = Networks::read(root, None).map(|networks| networks.all).unwrap_or_default();
        let asks = networks.iter().any(|network| network.config.enforces_policy);
        if !networks.is_empty() && !asks {
            match policy::remove(root) {
                Ok(_) => log::info!("network policies are not enforced any more"),
                Err(error) if error.to_string() != told => {
                    told = error.to_string();
                    log::warn!("{told}");
                }
                Err(_) => {}
            }
        }
        thread::sleep(AGAIN);
    }
}
