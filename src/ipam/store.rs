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
    let _lock = lock(store)?;
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

/// A lease: an address and whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Container id.
    pub container_id: String,
    /// Interface name; none in files of an older format.
    pub ifname: Option<String>,
}

/// The leases of a store, in no order. Read without the lock: a file is there
/// whole or empty, and one that is empty is nobody's.
pub fn leases(store: &Path) -> Vec<Lease> {
    let files = fs::read_dir(store).into_iter().flatten().flatten();
    files.filter_map(|file| read(&file.path())).collect()
}

/// Removes a lease, if the file still says the same.
///
/// # Errors
/// Of the lock or of removing the file.
pub fn release(store: &Path, lease: &Lease) -> io::Result<()> {
    let _lock = lock(store)?;
    let path = store.join(lease.address.to_string());
    if read(&path).as_ref() == Some(lease) { fs::remove_file(path) } else { Ok(()) }
}

fn read(path: &Path) -> Option<Lease> {
    let address = path.file_name()?.to_str()?.parse().ok()?;
    let content = fs::read_to_string(path).ok()?;
    let mut lines = content.trim().lines().map(str::trim).filter(|line| !line.is_empty());
    let container_id = lines.next()?.to_owned();
    Some(Lease { address, container_id, ifname: lines.next().map(str::to_owned) })
}

fn lock(store: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let lock = options.open(store.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_and_released_by_its_content() {
        let store = std::env::temp_dir().join(format!("manx-leases-{}", std::process::id()));
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("10.1.0.3"), "c1\r\neth0").unwrap();
        fs::write(store.join("10.1.0.4"), " c2 \n").unwrap();
        fs::write(store.join("last_reserved_ip.0"), "10.1.0.4").unwrap();
        let mut found = leases(&store);
        found.sort_by_key(|lease| lease.address);
        let ids: Vec<_> = found.iter().map(|lease| lease.container_id.as_str()).collect();
        assert_eq!((ids, found[0].ifname.as_deref()), (vec!["c1", "c2"], Some("eth0")));
        fs::write(store.join("10.1.0.3"), "c9\r\neth0").unwrap();
        release(&store, &found[0]).unwrap();
        release(&store, &found[1]).unwrap();
        let left = leases(&store);
        fs::remove_dir_all(&store).unwrap();
        assert_eq!((left.len(), left[0].container_id.as_str()), (1, "c9"));
    }

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
