//! `manx ipam check`.

use serde_json::{Value, json};

use super::{Args, Console, Failure, Status, keys, look};
use crate::{
    cli::table::Table,
    verb::{Audit, Finding},
};

pub(super) fn check(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let audit = look(args, true)?;
    if args.flag("json") {
        console.json(&encode(&audit))?;
    } else {
        print(&audit, console)?;
    }
    let open = audit.findings.iter().any(|finding| !finding.mended);
    Ok(if open { Status::Findings } else { Status::Fine })
}

fn print(audit: &Audit, console: &mut Console<'_>) -> Result<(), Failure> {
    if audit.findings.is_empty() {
        let network = &audit.network;
        console.line(format_args!("network {network}: every lease has its attachment"))?;
        return Ok(());
    }
    let mut table = Table::new(&["ADDRESS", "CONTAINER", "IFNAME", "PROBLEM", "NEXT"]);
    for finding in &audit.findings {
        table.row([
            finding.address.to_string(),
            finding.owner.container_id.clone(),
            finding.owner.ifname.clone().unwrap_or_else(|| "-".to_owned()),
            finding.problem.to_string(),
            if finding.mended { "mended".to_owned() } else { finding.problem.fix().to_owned() },
        ]);
    }
    console.table(&table)?;
    Ok(())
}

fn encode(audit: &Audit) -> Value {
    json!({
        "network": audit.network,
        "directory": audit.directory,
        "findings": audit.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let mut object = keys(&finding.owner);
    if let Some(object) = object.as_object_mut() {
        object.insert("id".into(), finding.problem.id().into());
        object.insert("address".into(), json!(finding.address));
        object.insert("fixed".into(), finding.mended.into());
        object.insert("message".into(), finding.problem.to_string().into());
        object.insert("fix".into(), finding.problem.fix().into());
    }
    object
}
