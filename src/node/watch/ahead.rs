// SPDX-License-Identifier: Apache-2.0
//! The changes that another list of peers brings, made ahead of the next pass.

use std::{path::Path, time::Duration};

use super::{
    super::{Error, apply::lock, configured::Networks},
    events::Events,
};
use crate::{net::Socket, object::Told};

/// Makes them where the list is all that is another since a pass that found nothing to
/// change, and the kernel has told of nothing. The pass that follows looks at everything.
pub(super) fn ahead(
    events: &mut Events,
    networks: &Networks,
    conf: Option<&Path>,
    socket: &mut Socket,
) -> Result<Vec<Told>, Error> {
    let nothing = || Ok(Vec::new());
    let Some(at_rest) = events.at_rest.take().filter(|_| events.is_renamed()) else {
        return nothing();
    };
    let root = &networks.root;
    let Some(amendment) = at_rest.amendment() else { return nothing() };
    let is_same = |read: Networks| read.unusable.is_empty() && read.is_same(networks);
    if !Networks::read(root, conf).is_ok_and(is_same) {
        return nothing();
    }
    // Whoever has the lock changes something.
    let Ok((_, _locks)) = lock(networks, Duration::ZERO) else { return nothing() };
    // What was read here may be another one by now, the list as well.
    if events.look()? {
        return nothing();
    }
    Ok(at_rest.carry_out(&amendment, root, socket))
}
