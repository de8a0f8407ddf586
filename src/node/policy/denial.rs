// SPDX-License-Identifier: Apache-2.0
//! How packets are denied that no policy allows: as whoever applies policies says, as far as
//! this kernel can. It is written down for an ADD that has to make the table again.

use super::{
    super::{Error, refused},
    state,
};
use crate::{
    nft::{self, Ensured},
    policy::Policies,
    state::Root,
};

/// Has the kernel do that for a table that denies as is wanted. Where the kernel has not what
/// that takes, packets are denied without it, and the table and the note say so.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `File` where it cannot be noted.
pub(super) fn enforced(
    root: &Root,
    policies: &mut Policies,
    act: fn(&Policies) -> Result<(Ensured, u32), nft::Error>,
) -> Result<((Ensured, u32), Option<String>), Error> {
    state::note_denial(root, policies.denial)?;
    let error = match act(policies) {
        Ok(done) => return Ok((done, None)),
        Err(error) => error,
    };
    let possible = policies.possible_denial();
    let lacks = possible.lacks(policies.denial).join(" or ");
    if lacks.is_empty() {
        return Err(refused(error));
    }
    state::note_denial(root, possible)?;
    policies.denial = possible;
    let done = act(policies).map_err(refused)?;
    Ok((done, Some(format!("{error}: what network policies deny is dropped, and not {lacks}"))))
}
