// SPDX-License-Identifier: Apache-2.0
//! Source or destination.

/// Which address of a packet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// Where it is from.
    Source,
    /// Where it goes.
    Destination,
}

impl Side {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        }
    }
}
