// SPDX-License-Identifier: Apache-2.0
//! Sets parameters, now and at boot, and takes that back.
//!
//! What is going to be set is noted before it is, with the value of before, so that a kill
//! in between leaves nothing that `--revert` does not know. A file that was written says by
//! a sum in its first line that nobody edited it: whether it is ours does not depend on
//! what the note says, which a kill may have left one step ahead.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha1_smol::Sha1;

use crate::{
    cli::{Console, Failure, Status, doctor::assignments, failed},
    doctor::tune::{Setting, assigned, dotted},
    list::Ordered,
    net::{
        forwarding,
        sysctl::{self, Sysctl},
    },
    state::{
        Root, directory,
        file::TEXT_BYTES_MAX,
        journal,
        lock::{self, ATTACHMENT_LIMIT},
        read_own, readable_directory, replace, replace_synced,
    },
    text::json,
};

/// Behind all files whose names begin with a number.
const DROP_IN: &str = "/etc/sysctl.d/zz-manx-tune.conf";
/// Parameters of connections are there once the module is.
const MODULES: &str = "/etc/modules-load.d/manx-tune.conf";
const NOTE: &str = "/var/lib/manx/tune.json";
const LOCK: &str = "/run/manx/.tune";
const VERSION: u32 = 1;

const HEADING: &str = "# Written by manx tune --apply; manx tune --revert takes it back. Sum: ";

/// What was set.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Note {
    version: u32,
    values: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Value {
    key: String,
    before: String,
    after: String,
    /// What was set before something else was asked for, until that is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former: Option<String>,
}

impl Value {
    /// Whether a parameter is as it was set here.
    fn is_ours(&self, now: &str) -> bool {
        now == self.after || self.former.as_deref() == Some(now)
    }
}

/// A file's text, by which it is known again.
fn headed(lines: &str) -> String {
    format!("{HEADING}{}\n{lines}", Sha1::from(lines).digest())
}

/// Whether a text is of [`headed`], as it was written.
fn is_headed(text: &[u8]) -> bool {
    let parse = || {
        let rest = str::from_utf8(text).ok()?.strip_prefix(HEADING)?;
        let (sum, lines) = rest.split_once('\n')?;
        Some(Sha1::from(lines).digest().to_string() == sum)
    };
    parse().unwrap_or_default()
}

impl Note {
    /// Nothing where there is none.
    fn read(root: &Root) -> Result<Self, Failure> {
        let path = root.path(NOTE);
        let next = "its values can be set by hand, and the file removed";
        let failure =
            |problem: String| Failure::Failed(format!("{}: {problem}; {next}", path.display()));
        let note: Self = match read_own(&path, TEXT_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            bytes => {
                let bytes = bytes.map_err(|error| failed(path.display(), &error))?;
                json::read(&bytes).map_err(|error| failure(error.to_string()))?
            }
        };
        match note.version {
            VERSION => Ok(note),
            other => Err(failure(format!("its form is {other}, and this version reads {VERSION}"))),
        }
    }

    /// The files that set it at boot.
    fn files(&self, root: &Root) -> [(PathBuf, Option<String>); 2] {
        let line = |one: &Value| format!("{} = {}\n", dotted(&one.key), one.after);
        let lines: String = self.values.iter().map(line).collect();
        let tracks = self.values.iter().any(|one| one.key.starts_with("net/netfilter/"));
        [
            (root.path(DROP_IN), (!lines.is_empty()).then(|| headed(&lines))),
            (root.path(MODULES), tracks.then(|| headed("nf_conntrack\n"))),
        ]
    }

    /// What becomes of it with what is asked for, and why values are left out.
    fn with(&self, settings: &[Setting]) -> (Self, Vec<String>) {
        let wanted = |key: &str| settings.iter().find(|one| one.key == key)?.recommended;
        let (mut values, mut left) = (Vec::new(), Vec::new());
        for one in self.values.iter().filter(|one| wanted(&one.key).is_none()) {
            // What the kernel does not have now, as a link that is gone, may come again.
            match sysctl::read(&one.key) {
                Ok(value) if !one.is_ours(&value) => left.push(changed(one, &value)),
                _ => values.push(one.clone()),
            }
        }
        for one in settings {
            let Some(after) = one.recommended else { continue };
            let noted = self.values.iter().find(|noted| noted.key == one.key);
            let before = noted.map_or_else(|| one.current.to_string(), |one| one.before.clone());
            let after = after.to_string();
            let former = noted.and_then(|noted| match noted.after == after {
                true => noted.former.clone(),
                false => Some(noted.after.clone()),
            });
            values.push(Value { key: one.key.clone(), before, after, former });
        }
        values.order_by(|one, other| one.key.cmp(&other.key));
        (Self { version: VERSION, values }, left)
    }

    fn write(&self, root: &Root) -> Result<(), Failure> {
        let path = root.path(NOTE);
        let write = || {
            if self.values.is_empty() {
                return remove(&path);
            }
            path.parent().map_or(Ok(()), directory)?;
            replace(&path, &serde_json::to_vec(self)?)
        };
        write().map_err(|error| failed(format_args!("write {}", path.display()), &error))
    }
}

fn changed(one: &Value, now: &str) -> String {
    let key = dotted(&one.key);
    format!("{key} is {now}, and was set to {}: somebody changed it since, and it stays", one.after)
}

/// One at a time.
fn lock(root: &Root) -> Result<lock::Guard, Failure> {
    let directory = root.path(LOCK);
    let lock = lock::exclusive_within(&directory, ATTACHMENT_LIMIT)
        .map_err(|error| failed(format_args!("lock {}", directory.display()), &error))?;
    lock.sign();
    Ok(lock)
}

/// Sets what is recommended.
pub(super) fn apply(
    settings: &[Setting],
    root: &Root,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    let _lock = lock(root)?;
    let before = Note::read(root)?;
    let (mut after, left) = before.with(settings);
    for text in left {
        console.remark(format_args!("note: {text}"))?;
    }
    let files = after.files(root);
    for (path, _) in &files {
        require_own(path)?;
    }
    let mut changes = after != before && !(after.values.is_empty() && before.values.is_empty());
    after.write(root)?;
    for (path, new) in &files {
        if put(path, new.as_deref())? {
            changes = true;
            let done = if new.is_some() { "written" } else { "removed" };
            console.line(format_args!("{}: {done}", path.display()))?;
        }
    }
    let mut status = Status::Fine;
    for one in &after.values {
        let wanted = Sysctl::new(&one.key, &one.after);
        match sysctl::ensure(&wanted) {
            Ok(false) => {}
            Ok(true) => {
                changes = true;
                console.line(format_args!(
                    "{}: {} -> {}",
                    dotted(&one.key),
                    one.before,
                    one.after
                ))?;
            }
            Err(error) if sysctl::read(&one.key).is_err() => drop(error),
            Err(error) => {
                console.remark(format_args!("error: {}", crate::cli::refused(&error)))?;
                status = Status::Failed;
            }
        }
    }
    if !changes && status == Status::Fine {
        console.line("nothing to change")?;
    }
    if status == Status::Fine && after.values.iter().any(|one| one.former.is_some()) {
        after.values.iter_mut().for_each(|one| one.former = None);
        after.write(root)?;
    }
    tell_overruled(&after, root, console)?;
    Ok(status)
}

/// What another file sets to something else at the next boot.
fn tell_overruled(note: &Note, root: &Root, console: &mut Console<'_>) -> Result<(), Failure> {
    let lines = assignments(root);
    for one in &note.values {
        let Some(line) = assigned(&one.key, &lines) else { continue };
        if line.value.as_deref() != Some(&one.after) {
            let (key, file, at) = (dotted(&one.key), line.file.display(), line.line);
            let value = line.value.as_deref().unwrap_or_default();
            console.remark(format_args!(
                "warning: {file}:{at} sets {key} to {value} again at the next boot: change it there"
            ))?;
        }
    }
    Ok(())
}

/// Whether anything is to be reverted.
pub(in crate::cli) fn is_applied(root: &Root) -> bool {
    [NOTE, DROP_IN, MODULES].into_iter().any(|path| root.path(path).exists())
}

/// Sets the values of before.
pub(in crate::cli) fn revert(root: &Root, console: &mut Console<'_>) -> Result<Status, Failure> {
    if !is_applied(root) {
        console.line("nothing to revert")?;
        return Ok(Status::Fine);
    }
    let _lock = lock(root)?;
    let mut note = Note::read(root)?;
    let mut is_empty = note.values.is_empty();
    let files = note.files(root);
    let mut kept = Vec::new();
    let has_pods = !journal::all(root).is_empty();
    for one in note.values.drain(..) {
        if has_pods && [forwarding::IPV4, forwarding::IPV6].contains(&one.key.as_str()) {
            let key = dotted(&one.key);
            console.remark(format_args!("note: {key} stays {}: this node has pods", one.after))?;
            continue;
        }
        match sysctl::read(&one.key) {
            Ok(value) if one.is_ours(&value) && value != one.before => {
                let before = Sysctl::new(&one.key, &one.before);
                if let Err(error) = sysctl::ensure(&before) {
                    console.remark(format_args!("error: {}", crate::cli::refused(&error)))?;
                    kept.push(one);
                    continue;
                }
                let key = dotted(&one.key);
                console.line(format_args!("{key}: {value} -> {}", one.before))?;
            }
            Ok(value) if value != one.before => {
                console.remark(format_args!("note: {}", changed(&one, &value)))?;
            }
            // It was not set, or its link is gone.
            _ => {}
        }
    }
    for (path, _) in files {
        if require_own(&path).is_err() {
            is_empty = false;
            let path = path.display();
            console.remark(format_args!("note: {path}: somebody edited it, and it stays"))?;
        } else if put(&path, None)? {
            is_empty = false;
            console.line(format_args!("{}: removed", path.display()))?;
        }
    }
    if is_empty {
        console.line("nothing to revert")?;
        return Ok(Status::Fine);
    }
    note.values = kept;
    note.write(root)?;
    Ok(if note.values.is_empty() { Status::Fine } else { Status::Failed })
}

/// That a file is not there, or as it was written.
fn require_own(path: &Path) -> Result<(), Failure> {
    match read_own(path, TEXT_BYTES_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path.display(), &error)),
        Ok(bytes) if is_headed(&bytes) => Ok(()),
        Ok(_) => Err(Failure::Failed(format!(
            "{}: it is not as manx tune wrote it; move its lines to another file and remove it",
            path.display()
        ))),
    }
}

/// Makes a file hold this, or be gone; says whether it was otherwise.
fn put(path: &Path, text: Option<&str>) -> Result<bool, Failure> {
    let there = read_own(path, TEXT_BYTES_MAX).ok();
    if there.as_deref() == text.map(str::as_bytes) {
        return Ok(false);
    }
    let write = || match text {
        None => remove(path),
        Some(text) => {
            path.parent().map_or(Ok(()), readable_directory)?;
            replace_synced(path, text.as_bytes())
        }
    };
    write().map_err(|error| failed(format_args!("write {}", path.display()), &error))?;
    Ok(true)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
