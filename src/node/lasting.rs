// SPDX-License-Identifier: Apache-2.0
//! Conditions that last: told when they begin, change and end, not each time that
//! a kubelet and a runtime ask for the status, which is every few hundred
//! milliseconds while something is wrong.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use log::Level;
use sha1_smol::Sha1;

use crate::state::{Root, directory, file::TEXT_BYTES_MAX, read_own, replace};

/// Logs what holds `now`, as far as it is news. `subject` says of whom.
pub(crate) fn tell(root: &Root, subject: &str, level: Level, now: &[String]) {
    let path = path(root, subject);
    let before = read(&path);
    for text in now.iter().filter(|text| !before.contains(text)) {
        log::log!(level, "{subject} {text}");
    }
    for text in before.iter().filter(|text| !now.contains(text)) {
        log::info!("{subject} no longer: {text}");
    }
    if now == before {
        let again = if now.is_empty() { "" } else { "still: " };
        log::debug!("{subject} {again}{}", now.join("; "));
    } else if let Err(error) = write(&path, now) {
        // Then it is told again, which is better than not at all.
        log::debug!("note what was told in {}: {error}", path.display());
    }
}

/// No network's name begins with a dot, and no entry of a journal.
fn path(root: &Root, subject: &str) -> PathBuf {
    root.runtime().join(".told").join(format!(".{}", Sha1::from(subject).digest()))
}

fn read(path: &Path) -> Vec<String> {
    let bytes = read_own(path, TEXT_BYTES_MAX).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(path: &PathBuf, conditions: &[String]) -> io::Result<()> {
    if conditions.is_empty() {
        return fs::remove_file(path);
    }
    let bytes = serde_json::to_vec(conditions)?;
    match replace(path, &bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), directory)?;
            replace(path, &bytes)
        }
        outcome => outcome,
    }
}
