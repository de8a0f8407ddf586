// SPDX-License-Identifier: Apache-2.0
//! VERSION: needs no environment, and reads no stdin, for some callers leave
//! it open.

use std::path::Path;

use serde_json::json;

use super::{Emit, file};
use crate::cni::{Error, Version};

pub(super) fn version(emit: Emit<'_>) -> Result<(), Error> {
    let supported = Version::ALL.map(Version::as_str);
    let answer = json!({"cniVersion": Version::NEWEST.as_str(), "supportedVersions": supported});
    emit(&answer).map_err(|error| file("write the result", Path::new("stdout"), &error))
}
