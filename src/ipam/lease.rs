// SPDX-License-Identifier: Apache-2.0
//! A lease, and the file that says it: named by the address, holding the
//! container id and the interface name (host-local, backend/disk).

use std::{io, net::IpAddr, path::Path};

use crate::state::read_own;

/// A variable of the environment has at most 128 KiB (MAX_ARG_STRLEN), and so has
/// a container id: what is larger is no lease.
const CONTENT_BYTES_MAX: u64 = 132 << 10;

/// Who holds an address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Owner {
    /// Container id.
    pub container_id: String,
    /// Interface name; none in files of host-local's older format.
    pub ifname: Option<String>,
}

impl Owner {
    /// The owner that an attachment is.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        Self { container_id: container_id.to_owned(), ifname: Some(ifname.to_owned()) }
    }

    /// Whether this is the attachment of that container and interface. The older
    /// format means all interfaces of its container.
    pub fn is(&self, container_id: &str, ifname: &str) -> bool {
        self.container_id == container_id && self.ifname.as_ref().is_none_or(|own| own == ifname)
    }

    /// What a lease's file holds: no line break at the end.
    pub(super) fn encode(&self) -> String {
        match &self.ifname {
            Some(ifname) => format!("{}\r\n{ifname}", self.container_id),
            None => self.container_id.clone(),
        }
    }

    pub(super) fn decode(content: &str) -> Option<Self> {
        // Zeros are what a loss of power leaves of a file.
        let nothing = |c: char| c.is_whitespace() || c == '\0';
        let lines = content.lines().map(|line| line.trim_matches(nothing));
        let mut lines = lines.filter(|line| !line.is_empty());
        let container_id = lines.next()?.to_owned();
        Some(Self { container_id, ifname: lines.next().map(str::to_owned) })
    }
}

/// An address and whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub owner: Owner,
}

/// The address that a file of a store is about, if it is about one.
pub(super) fn address(name: &str) -> Option<IpAddr> {
    let address: IpAddr = name.parse().ok()?;
    // Another spelling is another file than the one of the address.
    (address.to_string() == name).then_some(address)
}

/// Reads whose lease a file is. `None` if it says nothing: host-local makes a
/// file and then fills it, and was killed in between.
///
/// # Errors
/// Of reading; a file that is not there is one.
pub(super) fn owner(path: &Path) -> io::Result<Option<Owner>> {
    let content = read_own(path, CONTENT_BYTES_MAX)?;
    Ok(Owner::decode(&String::from_utf8_lossy(&content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_was_written() {
        for owner in [Owner::new("c1", "eth0"), Owner { container_id: "c1".into(), ifname: None }] {
            assert_eq!(Owner::decode(&owner.encode()), Some(owner));
        }
        assert_eq!(Owner::new("c1", "eth0").encode(), "c1\r\neth0");
    }

    #[test]
    fn whitespace_around_is_nothing() {
        assert_eq!(Owner::decode(" c1 \r\n eth0\n\n"), Some(Owner::new("c1", "eth0")));
        assert_eq!(Owner::decode("c1\neth0"), Some(Owner::new("c1", "eth0")));
        for nothing in ["", " \r\n\n", "\0\0\0"] {
            assert_eq!(Owner::decode(nothing), None);
        }
    }

    #[test]
    fn the_older_format_is_every_interface_of_its_container() {
        let old = Owner::decode("c1").unwrap();
        assert!(old.is("c1", "eth0") && old.is("c1", "net1") && !old.is("c2", "eth0"));
        assert!(!Owner::new("c1", "eth0").is("c1", "net1"));
    }

    #[test]
    fn files_of_addresses() {
        for (name, is_one) in [
            ("10.1.0.3", true),
            ("fd00::3", true),
            ("fd00:0::3", false),
            ("FD00::3", false),
            ("last_reserved_ip.0", false),
            ("lock", false),
            (".manx-7", false),
        ] {
            assert_eq!(address(name).is_some(), is_one, "{name}");
        }
    }
}
