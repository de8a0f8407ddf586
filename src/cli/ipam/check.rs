// SPDX-License-Identifier: Apache-2.0
//! `manx ipam check`.

use serde_json::{Value, json};

use super::{Args, Console, Failure, Status, audited::look};
use crate::{
    cli::table::Table,
    finding::{Finding, is_bad, unfound},
    list::Gather,
    verb::{Audit, CHECKS},
};

pub(super) fn check(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let audit = look(args, true)?;
    let findings: Vec<Finding> =
        audit.mismatches.iter().map(|mismatch| mismatch.finding()).gather();
    if args.flag("json") {
        console.json(&json!({"checks": encode(&findings)}))?;
    } else {
        print(&audit, &findings, console)?;
    }
    Ok(if is_bad(&findings) { Status::Findings } else { Status::Fine })
}

fn print(audit: &Audit, findings: &[Finding], console: &mut Console<'_>) -> Result<(), Failure> {
    if findings.is_empty() {
        let network = &audit.network;
        console.line(format_args!("network {network}: every lease has its attachment"))?;
        return Ok(());
    }
    let mut table = Table::new(&["ADDRESS", "CONTAINER", "IFNAME", "PROBLEM", "NEXT"]);
    for (mismatch, finding) in audit.mismatches.iter().zip(findings) {
        table.row([
            mismatch.address.to_string(),
            mismatch.owner.container_id.clone(),
            mismatch.owner.ifname.clone().unwrap_or_else(|| "-".to_owned()),
            mismatch.problem.to_string(),
            if mismatch.mended { "mended".to_owned() } else { finding.fix.clone() },
        ]);
    }
    console.table(&table)?;
    Ok(())
}

/// The findings, and the checks that found nothing.
fn encode(findings: &[Finding]) -> Vec<Value> {
    let fine = CHECKS.iter().filter(|id| findings.iter().all(|finding| finding.id != **id));
    let fine = fine.map(|id| unfound(id, None));
    findings.iter().map(Finding::encode).chain(fine).gather()
}
