// SPDX-License-Identifier: Apache-2.0
//! The fabrics of a node: what was applied of each, the pass that applies it, and its
//! removal.

mod agreement;
mod ahead;
mod applied;
mod cidrs;
mod differences;
mod document;
mod ensure;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod leased;
mod pass;

mod patience;
mod removal;
mod state;
pub mod tunnel;

pub use agreement::{applied_of_file, last_applied, require_same_fabric, require_unshared};
pub(crate) use ahead::AtRest;
pub use applied::{Applied, State};
pub use differences::{Differences, differences};
pub(super) use document::file_version;
pub(crate) use document::resolved_and_noted;
pub use document::{require_agreement, resolved};
pub use ensure::{Depth, ensure};
pub use file::{read_peers, read_peers_by};
pub(crate) use pass::Rest;
pub use pass::{Outcome, Pass};
pub use removal::{Removal, fabric_of, noted_protocols, protocols_here};
pub use state::{FabricState, WRITER_LIMIT, lock_all, tunnel_addresses};
