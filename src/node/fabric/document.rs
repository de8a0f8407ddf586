// SPDX-License-Identifier: Apache-2.0
//! What a peers file says of the fabric, for a configuration that is read before the
//! file is. It is noted with the file's version, so that an ADD reads one link instead
//! of a list of thousands of nodes.
//!
//! The note is a symbolic link whose target is the text: read by one system call, and
//! never half-written. Where it cannot be written, the file is read each time.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha1_smol::Sha1;

use super::super::{Error, Kind, Object};
use crate::{
    conf::{Config, FabricPart},
    fabric::list,
    list::Gather,
    state::{
        Root,
        file::{PEERS_BYTES_MAX, sweep, unique},
        read,
    },
};

/// A configuration with what its peers file says of the fabric. Of a file that cannot
/// be read, what it said last holds. Nothing is written.
pub fn resolved(config: Config, root: &Root) -> Config {
    beside(config, root, &|_, _, _| ())
}

/// The same, and what was read is noted for the next.
pub(crate) fn resolved_and_noted(config: Config, root: &Root) -> Config {
    beside(config, root, &write)
}

/// Notes what a file of a version says.
type Note<'a> = &'a dyn Fn(&Path, &str, &FabricPart);

fn beside(config: Config, root: &Root, note: Note<'_>) -> Config {
    let Some(peers_file) = &config.fabric.peers_file else { return config };
    let part = said(&root.path(peers_file), root, note);
    if part == config.fabric.file { config } else { config.under(&part) }
}

/// That a configuration does not contradict what its peers file says.
///
/// # Errors
/// `Configuration` naming both.
pub fn require_agreement(config: &Config, part: &FabricPart) -> Result<(), Error> {
    let told = config.contradictions(part);
    if told.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = told.iter().map(ToString::to_string).gather();
    let peers_file = config.fabric.peers_file.as_deref().unwrap_or_default();
    let msg =
        format!("it and its peers file {peers_file} contradict each other: {}", words.join("; "));
    Err(Error::new(Kind::Configuration, Object::network(&config.name), msg)
        .next("leave these keys out of the configuration: those of the file hold for the node"))
}

/// Where it is noted what a peers file says.
pub(super) fn place(path: &Path, root: &Root) -> PathBuf {
    let name = Sha1::from(path.as_os_str().as_encoded_bytes()).digest();
    root.runtime().join(".fabric").join(format!("{name}.document"))
}

/// Forgets what a peers file said.
pub(super) fn forget(path: &Path, root: &Root) {
    let _ = fs::remove_file(place(path, root));
}

/// Notes what a pass found the file to say, unless that is known.
pub(super) fn note(place: &Path, version: &str, part: &FabricPart) {
    if noted(place).is_none_or(|(of, _)| of != version) {
        write(place, version, part);
    }
}

fn said(path: &Path, root: &Root, take: Note<'_>) -> FabricPart {
    let version = file_version(path);
    let note = place(path, root);
    let noted = noted(&note);
    if let Some((of, part)) = &noted
        && *of == version
    {
        return part.clone();
    }
    let bytes = read(path, PEERS_BYTES_MAX);
    match bytes.ok().and_then(|bytes| list::fabric(&bytes).ok()) {
        Some(part) => {
            take(&note, &version, &part);
            part
        }
        None => noted.map(|(_, part)| part).unwrap_or_default(),
    }
}

/// The version of the file that was read last, and what it said.
pub(super) fn noted(note: &Path) -> Option<(String, FabricPart)> {
    let target = fs::read_link(note).ok()?;
    let (version, text) = target.to_str()?.split_once('\n')?;
    let object: Value = serde_json::from_str(text).ok()?;
    let (part, complaints, _) = FabricPart::of_file(object.as_object()?);
    complaints.is_empty().then(|| (version.to_owned(), part))
}

/// Others may write it as well: it is made beside its place, and renamed. What writers
/// left that were killed in between is removed; one that is at work notes it the next time.
fn write(note: &Path, version: &str, part: &FabricPart) {
    let (Some(directory), Some(name)) = (note.parent(), note.file_name()) else { return };
    let name = name.to_string_lossy();
    sweep(directory, |other| other.ends_with(&*name));
    let beside = directory.join(format!(".{}.{name}", unique()));
    let written = symlink(format!("{version}\n{}", part.encode()), &beside)
        .and_then(|()| fs::rename(&beside, note));
    if let Err(error) = written {
        log::debug!("note what {} says: {error}", note.display());
        let _ = fs::remove_file(&beside);
    }
}

/// The peers file's identity, size and times. Whoever writes a file may set its
/// date back, but not the time of its last change (ctime).
pub(in crate::node) fn file_version(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |error| error.to_string(),
        |data| {
            let modified = format!("{}.{}", data.mtime(), data.mtime_nsec());
            let changed = format!("{}.{}", data.ctime(), data.ctime_nsec());
            format!("{}:{} {} {modified} {changed}", data.dev(), data.ino(), data.len())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_was_killed_leaves_nothing_for_good() {
        let directory = std::env::temp_dir().join(format!("manx-document-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let place = directory.join("abc.document");
        for left in [".7.5.0.abc.document", ".7.5.0.def.document"] {
            symlink("half", directory.join(left)).unwrap();
        }
        note(&place, "1:2", &FabricPart::default());
        assert_eq!(noted(&place), Some(("1:2".to_owned(), FabricPart::default())));
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!(names, [".7.5.0.def.document", "abc.document"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
