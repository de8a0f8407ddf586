// SPDX-License-Identifier: Apache-2.0
//! Checks of what stands beside our networks: configurations, plugins, firewalls and
//! daemons of others, and our own tables and files, which they may change.

use super::{Answer, Seen};
use crate::{
    conf::{BUILT_IN, CALICO, PLUGIN_TYPES},
    list::Gather,
    node::{Barrier, File, Snapshot, conflist::DIRECTORY},
    object::Kind,
    text::{few::some_of, shell::quoted},
};

pub(super) fn state_unreadable(snapshot: &Snapshot) -> Answer {
    let seen = snapshot.unreadable.iter().map(|(path, problem)| {
        let path = path.display();
        Seen::error(format!("file {path}"), problem.clone())
            .fix(format!("look at it, then remove {path}; manx gc collects what nobody knows then"))
    });
    Ok(seen.gather())
}

/// Plugins that call the one of the cluster's network themselves.
const META: [&str; 4] = ["multus", "multus-shim", "multus-cni", "genie"];

pub(super) fn configuration_invalid(snapshot: &Snapshot) -> Answer {
    let invalid = snapshot.files.iter().filter(|file| file.ours);
    let invalid = invalid.filter_map(|file| Some((file, file.problem.as_ref()?)));
    let seen = invalid.map(|(file, problem)| {
        Seen::error(format!("file {}", file.path.display()), problem.clone())
            .fix("correct it; manx validate says where")
    });
    Ok(seen.gather())
}

/// Files of which it is not known whose they are. One that comes before ours is told as that.
pub(super) fn configuration_doubtful(snapshot: &Snapshot) -> Answer {
    let Some(ours) = snapshot.files.iter().position(|file| file.ours) else {
        return Ok(Vec::new());
    };
    let behind = snapshot.files.iter().skip(ours).filter(|file| !file.ours);
    let seen = behind.filter_map(|file| Some((file, file.problem.as_ref()?)));
    let seen = seen.map(|(file, problem)| {
        let path = file.path.display();
        let evidence = format!(
            "it cannot be used ({problem}), and may be ours: until it can, nothing is removed that \
             its network may have"
        );
        let (away, back) = set_aside(file);
        Seen::warning(format!("file {path}"), evidence)
            .fix(format!("{away} # or correct it"))
            .undo(back)
    });
    Ok(seen.gather())
}

/// What takes a configuration out of use, and what takes that back.
fn set_aside(file: &File) -> (String, String) {
    let path = file.path.to_string_lossy();
    let (here, there) = (quoted(&path).into_owned(), format!("{path}.disabled"));
    let there = quoted(&there);
    (format!("mv {here} {there}"), format!("mv {there} {here}"))
}

pub(super) fn foreign_cni(snapshot: &Snapshot) -> Answer {
    let is_meta = |file: &File| file.plugins.iter().any(|kind| META.contains(&kind.as_str()));
    let Some(ours) = snapshot.files.iter().position(|file| file.ours) else {
        let evidence = match snapshot.files.is_empty() {
            true => "there is no configuration at all".to_owned(),
            false => {
                let told = |file: &File| match &file.problem {
                    Some(problem) => format!("{} ({problem})", file.path.display()),
                    None => file.path.display().to_string(),
                };
                let named: Vec<String> = snapshot.files.iter().map(told).gather();
                format!("none of them names manx: {}", some_of(&named))
            }
        };
        let seen = Seen::error("configuration", evidence);
        // As `manx install` names it.
        let written = format!("{DIRECTORY}/10-manx.conflist");
        let fix = format!("manx install # writes {written}");
        return Ok(vec![seen.fix(fix).undo(format!("rm {written}"))]);
    };
    let before = snapshot.files.iter().take(ours).filter(|file| !is_meta(file));
    let of = |file: &File| {
        let path = file.path.display();
        let next = snapshot.files.get(ours).map(|file| file.path.display().to_string());
        let next = next.unwrap_or_default();
        let what = match &file.problem {
            Some(problem) => format!("it cannot be used ({problem})"),
            None => format!("it is for {}", some_of(&file.plugins)),
        };
        let evidence = format!("{what}, and comes before {next}");
        let (away, back) = set_aside(file);
        Seen::error(format!("file {path}"), evidence).fix(away).undo(back)
    };
    Ok(before.map(of).gather())
}

pub(super) fn delegate_missing(snapshot: &Snapshot) -> Answer {
    let plugins = snapshot.surroundings.plugins.iter();
    let missing = plugins.filter_map(|plugin| {
        let problem = plugin.problem.clone()?;
        let object = format!("plugin {}", plugin.kind);
        let evidence = format!("{} names it: {problem}", plugin.file.display());
        let fix = match &plugin.path {
            Some(path) => format!("install {} anew", path.display()),
            None if plugin.kind == BUILT_IN => {
                "manx install, which puts it beside manx itself".to_owned()
            }
            None if plugin.kind == CALICO => "manx install --no-conf --name calico".to_owned(),
            None if PLUGIN_TYPES.contains(&plugin.kind.as_str()) => {
                "manx install --no-conf".to_owned()
            }
            None => format!("install {} (package containernetworking-plugins)", plugin.kind),
        };
        Some(Seen::error(object, evidence).fix(fix))
    });
    Ok(missing.gather())
}

pub(super) fn delegate_version(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    let known = snapshot.surroundings.plugins.iter().filter(|plugin| plugin.problem.is_none());
    for plugin in known {
        if let Some(silent) = &plugin.silent {
            let evidence = format!(
                "{} names it, and what it speaks is not known: {silent}",
                plugin.file.display()
            );
            let path = plugin.path.as_ref().map(|path| path.to_string_lossy());
            let fix = format!(
                "see what it waits for: CNI_COMMAND=VERSION {} </dev/null; manx validate waits \
                 longer for it",
                quoted(&path.unwrap_or_default())
            );
            seen.push(Seen::warning(format!("plugin {}", plugin.kind), evidence).fix(fix));
            continue;
        }
        let unspoken: Vec<&String> =
            plugin.offered.iter().filter(|version| !plugin.versions.contains(version)).gather();
        if unspoken.is_empty() {
            continue;
        }
        let evidence = format!(
            "{} offers {}, and it speaks {}",
            plugin.file.display(),
            some_of(&unspoken),
            plugin.versions.join(", ")
        );
        let fix = format!(
            "install a newer {}, or leave {} out of cniVersions",
            plugin.kind,
            some_of(&unspoken)
        );
        seen.push(Seen::error(format!("plugin {}", plugin.kind), evidence).fix(fix));
    }
    Ok(seen)
}

pub(super) fn forward_drop(snapshot: &Snapshot) -> Answer {
    Ok(snapshot.surroundings.barriers.iter().map(barrier).gather())
}

pub(super) fn barrier(barrier: &Barrier) -> Seen {
    let new = if barrier.certain { Seen::error } else { Seen::info };
    let hook = if barrier.hook.is_empty() { "forward" } else { &barrier.hook };
    new(format!("hook {hook}"), barrier.text.clone()).fix(&*barrier.fix).undo(&*barrier.undo)
}

pub(super) fn masquerade_lost(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for network in &snapshot.networks {
        let object = || format!("nftables table of network {}", network.name);
        if !network.table.is_empty() {
            let evidence = network.table.join("; ");
            let of = if network.masquerades { Seen::error } else { Seen::warning };
            seen.push(of(object(), evidence).fix("manx apply"));
        }
        if let Some(note) = &network.table_note {
            seen.push(Seen::warning(object(), note.clone()));
        }
        let changes = network.fabric.iter().flat_map(|fabric| &fabric.changes);
        for change in changes.filter(|change| change.kind == Kind::Table) {
            let evidence = change.before.clone().unwrap_or_else(|| "it is not there".to_owned());
            seen.push(Seen::error(change.object.clone(), evidence).fix("manx apply"));
        }
    }
    // Whoever may not read one may read none.
    let unseen = snapshot.networks.iter().find_map(|network| network.table_unseen.clone());
    match unseen.filter(|_| seen.is_empty()) {
        Some(reason) => Err(reason),
        None => Ok(seen),
    }
}

pub(super) fn link_unmanaged(snapshot: &Snapshot) -> Answer {
    let daemons = snapshot.surroundings.daemons.iter();
    let lacking = daemons.filter(|daemon| !daemon.missing.is_empty()).map(|daemon| {
        let missing: Vec<String> =
            daemon.missing.iter().map(|path| path.display().to_string()).gather();
        let evidence = format!("it is told by no {} to leave pods' links alone", some_of(&missing));
        Seen::warning(format!("daemon {}", daemon.name), evidence)
            .fix(format!("manx install --no-conf # then {}", daemon.reload))
            .undo(format!("rm {}", missing.iter().map(|path| quoted(path)).gather().join(" ")))
    });
    Ok(lacking.gather())
}

/// What only packets between nodes tell.
pub(super) fn needs_traffic(_: &Snapshot) -> Answer {
    Err("it takes packets to other nodes, and none are sent here: run manx probe".to_owned())
}

/// What only the API server has.
pub(super) fn network_unavailable(_: &Snapshot) -> Answer {
    Err("the condition is in the node's Node, which only the API server has: kubectl get node NAME -o \
         jsonpath='{.status.conditions[?(@.type==\"NetworkUnavailable\")].status}' says False, or \
         nothing, where it is well; the agent keeps it so"
        .to_owned())
}
