// SPDX-License-Identifier: Apache-2.0
//! Versions of the CNI specification that this plugin speaks.
//!
//! A closed list, because libcni and CRI-O compare version strings by
//! equality: a version is either spelled here or not supported.

use std::fmt;

/// A version of the CNI specification. Ordered by age.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// 0.1.0: `ip4`/`ip6` results.
    V0_1_0,
    /// 0.2.0: VERSION, `cniVersion`.
    V0_2_0,
    /// 0.3.0: interfaces, lists, `prevResult`.
    V0_3_0,
    /// 0.3.1: a correction of the prose of 0.3.0.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: `version` removed from `ips`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, interface MTU, route attributes.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version that a configuration without `cniVersion` means
    /// (SPEC 0.2.0, "Network Configuration").
    pub const UNSTATED: Self = Self::V0_1_0;

    /// The literal spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads a `cniVersion` value; the empty string means [`Version::UNSTATED`].
    ///
    /// # Errors
    /// The version asked for, which is none of ours.
    pub fn parse(text: &str) -> Result<Self, Unsupported> {
        if text.is_empty() {
            return Ok(Self::UNSTATED);
        }
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Unsupported(text.to_owned()))
    }

    /// The literal spellings of every version, oldest first.
    pub fn all() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

/// A `cniVersion` that this plugin does not speak.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsupported(pub String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
