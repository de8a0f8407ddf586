// SPDX-License-Identifier: Apache-2.0
//! Who holds a lock, for whoever waits for it in vain.
//!
//! The kernel tells the process, but not to one in a container, which has processes of its
//! own. So who holds a lock that such a one may wait for says in its file what it is.

use std::{
    env,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::sys::stat::{major, minor};

use super::file;
use crate::list::Gather;
use crate::text::moment::timestamp;

/// As long as any, so that what was there before is written over.
const SIGNATURE_BYTES: usize = 128;

/// When this process was started, or nearly: when it took its first lock.
static BEGIN: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// What holds the lock of a file, in words.
pub(super) fn of(file: &File) -> Option<String> {
    words(process_of(file).ok().flatten().as_deref(), signature(file).as_deref())
}

/// Writes into the file what this process is. Who cannot is not known by name.
pub(super) fn sign(file: &File) {
    let program = env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let task = match env::var("CNI_COMMAND") {
        Ok(verb) if !verb.is_empty() => verb,
        _ => env::args().nth(1).filter(|first| !first.starts_with('-')).unwrap_or_default(),
    };
    let begin = BEGIN.duration_since(UNIX_EPOCH).unwrap_or_default();
    let begin = timestamp(begin.as_secs(), begin.subsec_millis());
    let role = format!("{program} {task}");
    let role: String = role.trim_end().chars().take(SIGNATURE_BYTES / 3).collect();
    let mut bytes = format!("{role}, started {begin}").into_bytes();
    bytes.resize(SIGNATURE_BYTES, b'\n');
    if let Err(error) = file.write_all_at(&bytes, 0) {
        log::debug!("note who holds a lock: {error}");
    }
}

/// By the descriptor that is there: a process that closes any other one of the file loses its
/// locks of attachments in it (fcntl(2)).
fn signature(file: &File) -> Option<String> {
    let mut bytes = [0; SIGNATURE_BYTES];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..length)?).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A process of another container has no number here. A lock outlives the process that
/// took it in those that it forked.
pub(super) fn words(process: Option<&str>, signature: Option<&str>) -> Option<String> {
    let process = process.filter(|number| number.parse::<u32>().is_ok_and(|number| number > 0));
    let Some(process) = process else {
        return signature.map(|signature| format!("{signature},"));
    };
    let name = file::read_text(Path::new(&format!("/proc/{process}/comm")), file::TEXT_BYTES_MAX);
    Some(match name {
        Ok(name) => format!("process {process} ({})", name.trim()),
        Err(_) => format!("process {process}, which is gone, or a child of it,"),
    })
}

/// The process that holds the lock of a file, by the kernel's list (proc_locks(5)).
fn process_of(file: &File) -> io::Result<Option<String>> {
    let data = file.metadata()?;
    let (device, inode) = (data.dev(), data.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = file::read_text(Path::new("/proc/locks"), file::TEXT_BYTES_MAX)?;
    Ok(locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().gather();
        // A waiter has an arrow in the second place.
        match words.as_slice() {
            [_, "FLOCK", _, _, process, at, ..] if *at == place => Some((*process).to_owned()),
            _ => None,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_another_container_is_known_by_what_it_wrote() {
        let path = env::temp_dir().join(format!("manx-holder-{}", std::process::id()));
        let file = file::private().read(true).open(&path).unwrap();
        assert_eq!(signature(&file), None);
        file.write_all_at(&[b'x'; SIGNATURE_BYTES], 0).unwrap();
        sign(&file);
        let signed = signature(&file).unwrap();
        let (role, begin) = signed.split_once(", started ").unwrap();
        assert!(role.starts_with("manx-") && begin.ends_with('Z'), "{signed}");
        for hidden in [None, Some("0"), Some("-1")] {
            assert_eq!(words(hidden, Some(&signed)), Some(format!("{signed},")));
            assert_eq!(words(hidden, None), None);
        }
        let own = std::process::id().to_string();
        assert!(words(Some(&own), Some(&signed)).unwrap().starts_with(&format!("process {own} (")));
        assert!(words(Some("4194304"), None).unwrap().contains("gone"));
        std::fs::remove_file(&path).unwrap();
    }
}
