// SPDX-License-Identifier: Apache-2.0
//! Which version of the specification an IPAM plugin is spoken to in, once the
//! list's has been raised above what the plugin knows.

use std::time::Duration;

use serde_json::Value;

use crate::cni::{
    AddResult, Code, Command, Document, Environment, Error, Version, delegate::Delegate,
};

/// Puts the version of an ADD into a configuration, and prevResult into the form
/// that it has there. An entry without one leaves it as it is.
pub(super) fn put(document: &mut Document, version: &str) {
    let (Ok(version), Ok(present)) = (Version::parse(version), document.version()) else { return };
    if version == present {
        return;
    }
    let object = &mut document.object;
    object.retain(|key, _| !key.eq_ignore_ascii_case("cniVersion"));
    object.insert("cniVersion".into(), version.as_str().into());
    if let Some(previous) = object.remove("prevResult") {
        let converted = AddResult::decode(&previous, present)
            .and_then(|result| result.encode(version))
            .unwrap_or(previous);
        object.insert("prevResult".into(), converted);
    }
    document.bytes = Value::Object(document.object.clone()).to_string().into_bytes();
}

/// Runs a DEL. A plugin that does not speak the version of the configuration is
/// asked which ones it does: after a boot there is no note of the ADD.
///
/// # Errors
/// The plugin's own.
pub(super) fn del(
    delegate: &Delegate,
    environment: &Environment,
    stdin: &[u8],
    limit: Duration,
) -> Result<(), Error> {
    let ask = |stdin: &[u8]| delegate.invoke(&Command::Del, environment, stdin, limit).map(|_| ());
    match ask(stdin) {
        Err(error) if error.code == Code::INCOMPATIBLE_VERSION => {
            // The newest that both of us speak.
            let spoken = delegate.versions(environment, limit).unwrap_or_default();
            let newest = spoken.iter().filter_map(|text| Version::parse(text).ok()).max();
            match newest.and_then(|version| with_version(stdin, version)) {
                Some(stdin) => ask(&stdin),
                None => Err(error),
            }
        }
        outcome => outcome,
    }
}

fn with_version(stdin: &[u8], version: Version) -> Option<Vec<u8>> {
    let mut document = Document::parse(stdin.to_vec()).ok()?;
    put(&mut document, version.as_str());
    Some(document.bytes)
}
