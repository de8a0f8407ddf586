// SPDX-License-Identifier: Apache-2.0
//! Reads the peers file.

use std::path::Path;

use super::{
    super::{Error, Kind, Object, kernel},
    state,
};
use crate::{
    conf::Config,
    fabric::Peers,
    net::{Socket, Tables},
    state::{file::PEERS_BYTES_MAX, read},
    text::few::first_of,
};

/// Reads and validates the peers file of a configuration.
///
/// # Errors
/// `Unavailable` with all that is wrong.
pub fn read_peers(
    path: &Path,
    config: &Config,
    host: &mut Socket,
) -> Result<(Peers, Vec<u8>), Error> {
    read_peers_by(path, config, &Tables::of_kernel(host).map_err(kernel)?)
}

/// As [`read_peers`], on a node with these tables.
pub fn read_peers_by(
    path: &Path,
    config: &Config,
    tables: &Tables,
) -> Result<(Peers, Vec<u8>), Error> {
    let bytes =
        read(path, PEERS_BYTES_MAX).map_err(|error| unavailable(path, error.to_string()))?;
    Ok((validated(&bytes, path, config, tables)?, bytes))
}

/// What a peers file says, for a configuration.
///
/// # Errors
/// As for [`read_peers`].
pub(super) fn validated(
    bytes: &[u8],
    path: &Path,
    config: &Config,
    tables: &Tables,
) -> Result<Peers, Error> {
    let peers = state::checked(bytes, config, tables);
    peers.map_err(|problems| unavailable(path, first_of(&problems)))
}

fn unavailable(path: &Path, reason: String) -> Error {
    Error::new(Kind::Unavailable, Object::path("peers file", path), reason)
        .next("no routes to other nodes can be made without a valid list of all nodes")
}
