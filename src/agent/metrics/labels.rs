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
