// SPDX-License-Identifier: Apache-2.0
//! The pool that the options name, beside the attachments that live on it.

use crate::{
    cli::{
        Args, Failure,
        conflist::{self, DIRECTORY},
    },
    node::fabric::resolved,
    verb::{Audit, audit},
};

/// Looks at the pool of the configuration that the options name: to check it, one
/// of ours, for whose leases are in use by another plugin's links nothing tells.
pub(super) fn look(args: &Args, check: bool) -> Result<Audit, Failure> {
    let root = args.root();
    let directory = root.path(DIRECTORY);
    let path = match args.value("conf") {
        Some(path) => path.into(),
        None if check => conflist::ours(&directory)?,
        None => conflist::with_pool(&directory)?,
    };
    let read = if check { conflist::plugin } else { conflist::pool };
    let (mut document, config) = read(&path)?;
    let config = resolved(config, &root);
    crate::node::require_readable(&root)?;
    Ok(audit(&root, &mut document, &config, args.flag("fix"))?)
}
