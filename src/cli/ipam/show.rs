// SPDX-License-Identifier: Apache-2.0
//! `manx ipam show`.

use serde_json::{Value, json};

use super::{Args, Console, Failure, Status, audited::look};
use crate::{
    cli::{age::in_words, table::Table},
    ipam::Owner,
    list::Gather,
    verb::{Audit, RangeUse},
};

pub(super) fn show(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let audit = look(args, false)?;
    if args.flag("json") {
        console.json(&encode(&audit))?;
        return Ok(Status::Fine);
    }
    let mut table = Table::new(&["RANGE", "SIZE", "USED", "FREE", "OLDEST", "LEAKED"]);
    for range in &audit.ranges {
        let oldest = range.oldest.as_ref();
        table.row([
            range.range.to_string(),
            range.range.size().to_string(),
            range.used.to_string(),
            range.free().to_string(),
            oldest.map_or_else(
                || "-".to_owned(),
                |(lease, age)| format!("{} {}", lease.address, in_words(*age)),
            ),
            range.leaked.to_string(),
        ]);
    }
    let directory = audit.directory.display();
    console.line(format_args!("network {}, leases in {directory}", audit.network))?;
    console.table(&table)?;
    Ok(Status::Fine)
}

/// Readers of JSON keep integers exactly up to 2^53 - 1 (RFC 8259, 6); sizes of IPv6
/// ranges end there.
const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;

fn encode(audit: &Audit) -> Value {
    json!({
        "network": audit.network,
        "directory": audit.directory,
        "ranges": audit.ranges.iter().map(range).gather(),
    })
}

/// A number as JSON has it.
pub(in crate::cli) fn integer(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX).min(JSON_INTEGER_MAX)
}

fn range(range: &RangeUse) -> Value {
    let (first, last) = range.range.ends();
    let oldest = range.oldest.as_ref().map(|(lease, age)| {
        let mut oldest = keys(&lease.owner);
        if let Some(oldest) = oldest.as_object_mut() {
            oldest.insert("address".into(), json!(lease.address));
            oldest.insert("ageSeconds".into(), json!(age.as_secs()));
        }
        oldest
    });
    json!({
        "set": range.set,
        "subnet": range.range.subnet(),
        "first": first,
        "last": last,
        "size": integer(range.range.size()),
        "used": range.used,
        "free": integer(range.free()),
        "leaked": range.leaked,
        "oldest": oldest,
    })
}

/// An attachment's keys in JSON.
fn keys(owner: &Owner) -> Value {
    json!({"containerID": owner.container_id, "ifname": owner.ifname})
}
