// SPDX-License-Identifier: Apache-2.0
//! `manx pods`: the attachments of this node.

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    age::in_words,
    args::{Operands, Shape},
    attachments::{self, Attachment},
    table::Table,
};
use crate::list::Gather;

/// As many characters of a container's id as tell it apart at a glance.
const SHORT_ID_CHARS: usize = 12;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "pods",
    summary: "list the attachments of this node",
    help: "\
Usage: manx pods [--json] [--root DIR]

Lists the attachments in the journal of this node, compared with the kernel.
STATE is up, down, missing where the host link is gone and no DEL has come yet,
or unnoted where a link has manx's mark and is in no journal. AGE is the time
since the ADD.

  --json      {\"pods\": [{\"network\", \"podNamespace\", \"podName\", \"containerID\",
              \"ifname\", \"addresses\", \"hostLink\", \"mtu\", \"state\", \"netns\",
              \"ageSeconds\"}]}
  --root DIR  read the state below DIR",
    shape: Shape { flags: &["json"], values: &["root"], operands: Operands::AtMost(0) },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let pods = attachments::all(&args.root())?;
    if args.flag("json") {
        let pods: Vec<Value> = pods.iter().map(describe).gather();
        console.json(&json!({"pods": pods}))?;
    } else {
        console.table(&table(&pods))?;
    }
    Ok(Status::Fine)
}

fn describe(pod: &Attachment) -> Value {
    let entry = &pod.entry;
    json!({
        "network": entry.network,
        "podNamespace": entry.pod_namespace,
        "podName": entry.pod_name,
        "containerID": entry.container_id,
        "ifname": entry.ifname,
        "addresses": entry.addresses,
        "hostLink": host_link(pod),
        "mtu": mtu(pod),
        "state": pod.state(),
        "netns": entry.netns,
        "ageSeconds": pod.age.map(|age| age.as_secs()),
    })
}

/// The rows that a terminal has room for.
pub(super) fn table(pods: &[Attachment]) -> Table {
    let mut table = Table::new(&[
        "POD",
        "NETWORK",
        "CONTAINER",
        "IFNAME",
        "ADDRESSES",
        "LINK",
        "MTU",
        "STATE",
        "AGE",
    ]);
    for pod in pods {
        let entry = &pod.entry;
        let addresses: Vec<String> = entry.addresses.iter().map(ToString::to_string).gather();
        table.row([
            entry.pod().unwrap_or_else(|| "-".to_owned()),
            entry.network.clone(),
            entry.container_id.chars().take(SHORT_ID_CHARS).collect(),
            entry.ifname.clone(),
            addresses.join(","),
            host_link(pod).to_owned(),
            mtu(pod).to_string(),
            pod.state().to_owned(),
            pod.age.map_or_else(|| "-".to_owned(), in_words),
        ]);
    }
    table
}

/// As it is called now, if it is there.
fn host_link(pod: &Attachment) -> &str {
    pod.link.as_ref().map_or(&pod.entry.host_link, |link| &link.name)
}

fn mtu(pod: &Attachment) -> u32 {
    pod.link.as_ref().map_or(pod.entry.mtu, |link| link.mtu)
}
