// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{Command, Delegate};

/// What a delegate printed on success.
pub fn printed(stdout: &[u8]) {
    let delegate =
        Delegate { plugin_type: "other".to_owned(), binary: "/opt/cni/bin/other".into() };
    let added = delegate.read(stdout, &Command::Add);
    assert!(!matches!(added, Ok(None)), "an ADD has a result or an error");
    if let Err(error) = added {
        assert!(!error.msg.is_empty() && error.msg.len() < 4096);
    }
    let _ = delegate.read(stdout, &Command::Del);
}
