// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{
    Answers, Request,
    attribute::{Attribute, Besides, attributes, emitted, says},
};
use crate::list::Gather as _;

/// The messages of a datagram, what each refuses, and attributes as a tree.
pub fn datagram(bytes: &[u8]) {
    let request = Request::question(18, 0, Vec::new(), "try");
    for answer in Answers(bytes) {
        assert!(answer.body.len() + 16 <= bytes.len());
        assert!(answer.attributes(0).filter_map(Result::ok).all(|(kind, _)| kind < 0x4000));
        let error = answer.error(&request).map(|error| error.to_string());
        assert_eq!(error.is_some(), answer.errno().is_some());
    }
    let whole: Vec<_> = Answers(bytes).gather();
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let few: Vec<_> = Answers(&bytes[..cut]).gather();
        assert!(whole.starts_with(&few), "cut at {cut}");
    }
    let found: Vec<_> = attributes(bytes).gather();
    let tree: Vec<_> = found.iter().map(|(kind, value)| Attribute::bytes(*kind, *value)).gather();
    let again = emitted(&tree);
    assert_eq!(attributes(&again).gather(), found);
    assert!(says(bytes, &tree, Besides::Zeros) && says(&again, &tree, Besides::Zeros));
}
