// SPDX-License-Identifier: Apache-2.0
//! What an API server answers, whatever the objects are.

use kube::core::{Status as Failure, watch::BookmarkMeta};
use serde::Deserialize;

/// The annotation of the bookmark after the last of the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A part of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "O: Deserialize<'de>")]
pub(super) struct Page<O> {
    metadata: PageMetadata,
    pub(super) items: Option<Vec<O>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

impl<O> Page<O> {
    /// Where the rest of the list is to be had.
    pub(super) fn more(&self) -> Option<&str> {
        self.metadata.r#continue.as_deref().filter(|token| !token.is_empty())
    }

    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Whether it is the bookmark that ends the initial events.
pub(super) fn is_end(bookmark: &BookmarkMeta) -> bool {
    bookmark.annotations.get(INITIAL_END).is_some_and(|value| value == "true")
}

/// What the server says of a failure, in its own words.
pub(super) fn words(failure: &Failure) -> String {
    let words = match failure.message.is_empty() {
        true => &failure.reason,
        false => &failure.message,
    };
    format!("the API server answers {}: {words}", failure.code)
}
