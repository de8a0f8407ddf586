//! host-local's store: a directory per network with a file per address, whose
//! content is the container id and the interface name.

use std::{fs, io, net::IpAddr, os::unix::fs::OpenOptionsExt, path::Path};

/// Where host-local keeps its stores unless `dataDir` says otherwise.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

/// Removes the address files of `store` that are empty, and returns how many
/// those were. host-local creates a file and then fills it, all under its lock;
/// one that is empty while nobody holds the lock was left by a process that was
/// killed in between, and no DEL would ever find whose it was.
///
/// # Errors
/// Of opening the lock or of reading the directory; a store that does not exist
/// has no empty files.
pub fn remove_empty(store: &Path) -> io::Result<usize> {
    if !store.is_dir() {
        return Ok(0);
    }
    let mut options = fs::OpenOptions::new();
    let lock = options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let lock = lock.open(store.join("lock"))?;
    lock.lock()?;
    let mut removed = 0;
    for file in fs::read_dir(store)?.flatten() {
        let names_an_address =
            file.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok());
        let is_empty = || file.metadata().is_ok_and(|data| data.is_file() && data.len() == 0);
        if names_an_address && is_empty() && fs::remove_file(file.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_files_of_addresses_go() {
        let store = std::env::temp_dir().join(format!("manx-store-{}", std::process::id()));
        fs::create_dir_all(&store).unwrap();
        for (name, content) in [
            ("10.1.0.2", ""),
            ("fd00::2", ""),
            ("10.1.0.3", "c1\r\neth0"),
            ("last_reserved_ip.0", ""),
            ("notes", ""),
        ] {
            fs::write(store.join(name), content).unwrap();
        }
        assert_eq!(remove_empty(&store).unwrap(), 2);
        assert_eq!(remove_empty(&store).unwrap(), 0);
        let left = fs::read_dir(&store).unwrap().count();
        fs::remove_dir_all(&store).unwrap();
        assert_eq!(left, 4, "10.1.0.3, last_reserved_ip.0, notes, lock");
        assert_eq!(remove_empty(&store).unwrap(), 0);
    }
}
