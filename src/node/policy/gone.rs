// SPDX-License-Identifier: Apache-2.0
//! The addresses that pods gave back since table.json was written, one a line: a table that is
//! made of that file must not bring them back.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    net::IpAddr,
    path::Path,
};

use crate::{
    list::{Gather, PushAll, distinct},
    state::{file::private, read_own, replace},
};

/// Beyond this the file is written anew, each address once.
const BYTES_MAX: u64 = 64 << 10;
/// What is read of it at most.
const READ_MAX: u64 = 16 << 20;

/// Whether the next one who adds to it writes it anew, which he has to do alone.
pub(super) fn is_long(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.len() > BYTES_MAX)
}

/// Adds addresses. Several may do so at a time, but not while one is `alone`.
///
/// # Errors
/// Of reading and writing.
pub(super) fn add(path: &Path, addresses: &[IpAddr], alone: bool) -> io::Result<()> {
    let lines = |all: &[IpAddr]| {
        let mut text = String::new();
        all.iter().for_each(|address| text += &format!("{address}\n"));
        text
    };
    if alone && is_long(path) {
        let mut all = read(path)?;
        all.push_all(addresses.iter().copied());
        return replace(path, lines(&distinct(all)).as_bytes());
    }
    private().append(true).open(path)?.write_all(lines(addresses).as_bytes())
}

/// All of them, in order; none where there is no file.
///
/// # Errors
/// Of reading.
pub(super) fn read(path: &Path) -> io::Result<Vec<IpAddr>> {
    let bytes = match read_own(path, READ_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    // A line that was cut short by a full file system says nothing.
    let text = String::from_utf8_lossy(&bytes);
    Ok(distinct(text.lines().filter_map(|line| line.parse().ok()).gather()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_written_anew_without_duplicates() {
        let name = format!("manx-gone-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("gone");
        assert!(read(&path).unwrap().is_empty());
        let pods: [IpAddr; 2] = ["10.1.0.9", "fd00:1::9"].map(|address| address.parse().unwrap());
        add(&path, &pods, false).unwrap();
        add(&path, &pods, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "10.1.0.9\nfd00:1::9\n".repeat(2));
        fs::write(&path, "10.1.0.9\n10.1.0.".repeat(8 << 10)).unwrap();
        assert!(is_long(&path));
        add(&path, &pods, false).unwrap();
        assert!(is_long(&path), "others may be adding to it");
        let other = IpAddr::from([10, 1, 0, 8]);
        add(&path, &[other], true).unwrap();
        assert!(!is_long(&path));
        let all = read(&path).unwrap();
        assert!(pods.iter().chain([&other]).all(|one| all.contains(one)), "{all:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
