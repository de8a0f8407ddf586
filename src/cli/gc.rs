// SPDX-License-Identifier: Apache-2.0
//! `manx gc`: removes what dead pods left, for runtimes that never ask for it.

use std::{
    collections::{BTreeSet, HashSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    conflist, failed,
    table::Table,
};
use crate::{
    cni::{Error, document::valid_attachment},
    list::{Gather, PushAll},
    net::{Socket, link},
    node::former,
    pod::identity::of_alias,
    state::{Root, file::TEXT_BYTES_MAX, journal, read},
    verb::{Collected, collect_dead},
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "gc",
    summary: "remove what dead pods left behind",
    help: "\
Usage: manx gc [--valid FILE|-] [--dry-run] [OPTION…]

Removes the lease and the journal entry of each attachment whose host link is
gone. Without a list, nothing that has a link is removed, however old it is.
An ADD that is under way is waited for.

  --valid FILE    remove all that FILE does not list: JSON, a list of
                  {\"containerID\", \"ifname\"}; - is stdin
  --dry-run       only say what would go
  --network NAME  only in this network
  --conf FILE     only in the network of this configuration; finds also leases
                  of which nothing is noted, where its ipam section has them
  --bin DIR       where IPAM plugins are (CNI_PATH, else /opt/cni/bin)
  --json          {\"dryRun\", \"collected\": [{\"network\", \"pod\", \"containerID\",
                  \"ifname\", \"hostLink\", \"reason\"}], \"errors\": [{\"msg\",
                  \"details\"}]}
  --root DIR      use the state below DIR",
    shape: Shape {
        flags: &["dry-run", "json"],
        values: &["valid", "network", "conf", "bin", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let root = args.root();
    crate::node::require_readable(&root)?;
    let valid = args.value("valid").map(|path| read_valid(&path.to_string_lossy())).transpose()?;
    let named = args.value("network").map(|name| name.to_string_lossy());
    let (networks, ipam) = match (args.value("conf"), named) {
        (Some(_), Some(_)) => {
            return Err(SUBCOMMAND.usage("--conf and --network exclude each other"));
        }
        (Some(path), None) => {
            let (document, config) = conflist::plugin(&PathBuf::from(path))?;
            let ipam = (document.ipam().clone(), config.version.to_string());
            (BTreeSet::from([config.name]), Some(ipam))
        }
        (None, named) => (networks(&root, named)?, None),
    };
    let is_all = args.value("network").is_none() && ipam.is_none();
    let (path, dry_run) = (args.plugin_path(&root), args.flag("dry-run"));
    let (mut collected, mut errors) = (Vec::new(), Vec::new());
    for network in networks {
        match collect_dead(&root, &network, &path, ipam.clone(), valid.as_ref(), dry_run) {
            Ok((gone, failures)) => {
                collected.push_all(gone);
                errors.push_all(failures);
            }
            // One network that cannot be read is no reason to leave the others.
            Err(error) => errors.push(error),
        }
    }
    // Networks of which nothing is left but this.
    if !dry_run && is_all {
        let mut host = Socket::open()?;
        for network in former::networks(&root, &mut host, None, &[])? {
            errors.push_all(former::remove(&root, &mut host, &network).err().map(Into::into));
        }
    }
    if args.flag("json") {
        console.json(&encode(&collected, &errors, dry_run))?;
    } else {
        print(&collected, dry_run, console)?;
        for error in &errors {
            console.remark(format_args!("manx: gc: {error}"))?;
        }
    }
    Ok(if errors.is_empty() { Status::Fine } else { Status::Failed })
}

/// The attachments that may stay. A list that cannot be read is no list: by it
/// everything would go.
fn read_valid(path: &str) -> Result<HashSet<(String, String)>, Failure> {
    let read = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        read(Path::new(path), TEXT_BYTES_MAX)
    };
    let bytes = read.map_err(|error| failed(path, &error))?;
    let refuse = |problem: String| {
        let wanted = "a JSON list of {\"containerID\", \"ifname\"}";
        Failure::Failed(format!("{path}: {problem}, give {wanted}; nothing was removed"))
    };
    let document: Value =
        serde_json::from_slice(&bytes).map_err(|error| refuse(format!("no JSON ({error})")))?;
    let Value::Array(items) = document else { return Err(refuse("no list".to_owned())) };
    let read = |item| valid_attachment(item).ok_or_else(|| refuse(format!("{item} in it")));
    items.iter().map(read).collect()
}

/// The networks to look at: all that have a journal or a marked link, or the
/// one that was named, if it is among them. A name that is not would make
/// directories, wherever it leads.
pub(super) fn networks(
    root: &Root,
    named: Option<std::borrow::Cow<'_, str>>,
) -> Result<BTreeSet<String>, Failure> {
    let links = link::all(&mut Socket::open()?)?;
    let marked = links.iter().filter_map(|link| of_alias(link.alias.as_deref()?));
    let mut networks: BTreeSet<String> = marked.map(|identity| identity.network).gather_set();
    networks.extend(journal::networks(root));
    let Some(named) = named else { return Ok(networks) };
    if networks.contains(&*named) {
        return Ok(BTreeSet::from([named.into_owned()]));
    }
    let known = networks.into_iter().gather().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    Err(Failure::Failed(format!("no network {named:?} on this node; known: {known}")))
}

fn encode(collected: &[Collected], errors: &[Error], dry_run: bool) -> Value {
    let gone = collected.iter().map(|gone| {
        json!({
            "network": gone.network,
            "pod": gone.pod,
            "containerID": gone.container_id,
            "ifname": gone.ifname,
            "hostLink": gone.host_link,
            "reason": gone.reason,
        })
    });
    let errors = errors.iter().map(|error| json!({"msg": error.msg, "details": error.details}));
    json!({
        "dryRun": dry_run,
        "collected": gone.gather(),
        "errors": errors.gather(),
    })
}

fn print(collected: &[Collected], dry_run: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    if !collected.is_empty() {
        let mut table = Table::new(&["POD", "NETWORK", "CONTAINER", "IFNAME", "LINK", "REASON"]);
        for gone in collected {
            table.row([
                gone.pod.clone().unwrap_or_else(|| "-".to_owned()),
                gone.network.clone(),
                gone.container_id.clone(),
                gone.ifname.clone(),
                gone.host_link.clone().unwrap_or_else(|| "-".to_owned()),
                gone.reason.to_owned(),
            ]);
        }
        console.table(&table)?;
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    console.line(format_args!("{verb}: {}", collected.len()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;
    use crate::cli::tests::manx;

    #[test]
    fn a_list_that_cannot_be_read_removes_nothing() {
        let path = env::temp_dir().join(format!("manx-gc-{}", process::id()));
        let path = path.to_str().unwrap();
        for text in ["", "{}", "[1]", "[{\"containerID\": \"a\"}]", "[{\"ifname\": 1}]", "null"] {
            fs::write(path, text).unwrap();
            let (code, out, err) = manx(&["gc", "--valid", path, "--root", "/nowhere"]);
            assert_eq!((code, out.as_str()), (1, ""), "{text}");
            assert!(err.contains("nothing was removed"), "{err}");
        }
        fs::write(path, r#"[{"containerid": "a", "ifname": "eth0"}]"#).unwrap();
        let valid = read_valid(path).unwrap();
        assert!(valid.contains(&("a".to_owned(), "eth0".to_owned())));
        fs::remove_file(path).unwrap();
        assert_eq!(manx(&["gc", "--valid", path]).0, 1);
    }

    #[test]
    fn an_unknown_network_makes_no_directory() {
        let root = env::temp_dir().join(format!("manx-gc-root-{}", process::id()));
        let arguments = ["gc", "--network", "../../etc", "--root", root.to_str().unwrap()];
        let (code, _, err) = manx(&arguments);
        assert!(code == 1 && err.contains("../../etc"), "{err}");
        assert!(!root.exists());
    }
}
