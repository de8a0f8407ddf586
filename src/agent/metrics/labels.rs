// SPDX-License-Identifier: Apache-2.0
//! Labels that several metrics have.

use prometheus_client::encoding::EncodeLabelSet;

/// What is counted.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct Object {
    pub(super) object: &'static str,
}

/// How that stands which is counted.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct State {
    pub(super) state: &'static str,
}

/// In which direction a packet went, as a pod has it.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct Way {
    pub(super) direction: &'static str,
}
