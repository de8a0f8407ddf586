//! STATUS: would an ADD be served now? Asked every few seconds, so it looks at
//! what can fail and at nothing else. Since it would be the first thing an ADD
//! did, the fabric is brought up here, before the first pod needs it.

use super::{Call, fabric, file, ipam, kernel, masquerade};
use crate::{
    cni::{Code, Error},
    net::Socket,
    nft,
    state::directory,
};

/// # Errors
/// Code 50 with the reason, or what is wrong with the configuration.
pub(super) fn status(call: &Call) -> Result<(), Error> {
    call.require_sound_config()?;
    let unavailable = |error: Error| Error { code: Code::UNAVAILABLE, ..error };
    let mut host = Socket::open().map_err(|error| unavailable(kernel(error)))?;
    let journal = call.journal();
    directory(journal.directory()).map_err(|error| {
        unavailable(file("make the state directory", journal.directory(), &error))
    })?;
    if call.config.masquerade {
        nft::available().map_err(|error| unavailable(masquerade::refused(error)))?;
    }
    fabric::ensure(&call.config, &call.root, &mut host).map_err(unavailable)?;
    ipam::status(call)
}
