// SPDX-License-Identifier: Apache-2.0
//! `manx validate --policies`: what of a cluster's policies would have no effect.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Console, Failure, Status,
    finding::{Findings, Placed, UNENFORCED},
    rows,
};
use crate::{
    finding::{Severity, unfound},
    list::Gather,
    policy::unread,
    state::file::{CLUSTER_BYTES_MAX, read_stream},
    text::json::object,
};

pub(super) fn run(
    file: &OsStr,
    is_json: bool,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    let file = PathBuf::from(file);
    let file = if file == Path::new("-") { "/dev/stdin".into() } else { file };
    let text = read_stream(&file, CLUSTER_BYTES_MAX);
    let text = text.map_err(|error| crate::node::unreadable(&file, &error))?;
    let looked = unread(&text).map_err(|problem| {
        Failure::Failed(format!(
            "{}: {problem}; give what kubectl get KIND,… -A -o json prints",
            file.display()
        ))
    })?;
    let mut findings = Findings::of(&file);
    for one in &looked.unread {
        let kind = (UNENFORCED, Severity::Warning);
        findings.add(kind, &one.object, one.what.as_str(), one.instead);
    }
    let found = findings.all;
    if is_json {
        console.json(&object(vec![("checks", encode(&found).into())]))?;
    } else {
        if !found.is_empty() {
            console.table(&rows(&found))?;
        }
        console.line(format_args!(
            "policies that manx reads: {}, objects without effect: {}",
            looked.read,
            found.len()
        ))?;
    }
    Ok(if found.is_empty() { Status::Fine } else { Status::Findings })
}

fn encode(found: &[Placed]) -> Vec<Value> {
    match found.is_empty() {
        true => vec![unfound(UNENFORCED, None)],
        false => found.iter().map(|placed| placed.finding.encode()).gather(),
    }
}
