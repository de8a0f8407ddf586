// SPDX-License-Identifier: Apache-2.0
//! The pod CIDRs of all nodes, in a file of their own beside what was applied: there
//! may be thousands, and an ADD that needs none of them reads none. The first line is
//! a digest of them: where they are only compared with what was made, it is enough.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::{
    list::Gather,
    nft,
    state::{
        file::{PEERS_BYTES_MAX, read_own_start},
        read_own, replace,
    },
};

/// Begins the line that has the digest.
const DIGEST: &str = "# ";

/// The pod CIDRs of all nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PodCidrs {
    /// As a list of peers has them.
    Known(Vec<IpNetwork>),
    /// Noted in this file, one to a line behind their digest.
    Noted(PathBuf),
}

impl Default for PodCidrs {
    fn default() -> Self {
        Self::Known(Vec::new())
    }
}

impl PodCidrs {
    /// All of them. Where the file is missing, as an earlier version leaves it, the list
    /// of peers beside it tells them.
    pub(super) fn all(&self) -> Vec<IpNetwork> {
        match self {
            Self::Known(cidrs) => cidrs.clone(),
            Self::Noted(path) => noted(path).unwrap_or_else(|| of_list(path).unwrap_or_default()),
        }
    }

    /// A digest of them. Only the first line of a note is read, unless an earlier
    /// version wrote it.
    pub(super) fn digest(&self) -> Option<nft::Digest> {
        match self {
            Self::Known(cidrs) => Some(nft::digest(cidrs)),
            Self::Noted(path) => noted_digest(path).or_else(|| Some(nft::digest(&self.all()))),
        }
    }

    /// Writes those that are known into their file, if it does not hold them already.
    ///
    /// # Errors
    /// Of writing the file.
    pub(super) fn note(&self, path: &Path) -> io::Result<()> {
        let Self::Known(cidrs) = self else { return Ok(()) };
        let mut text = String::from(DIGEST);
        for byte in nft::digest(cidrs) {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        for cidr in cidrs {
            let _ = writeln!(text, "{cidr}");
        }
        match read_own(path, PEERS_BYTES_MAX) {
            Ok(held) if held == text.as_bytes() => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => replace(path, text.as_bytes()),
        }
    }
}

fn noted(path: &Path) -> Option<Vec<IpNetwork>> {
    let text = String::from_utf8(read_own(path, PEERS_BYTES_MAX).ok()?).ok()?;
    text.lines().filter(|line| !line.starts_with(DIGEST)).map(|line| line.parse().ok()).collect()
}

fn noted_digest(path: &Path) -> Option<nft::Digest> {
    let mut digest = nft::Digest::default();
    let length = DIGEST.len() + 2 * digest.len() + 1;
    let start = read_own_start(path, length as u64).ok()?;
    let digits = str::from_utf8(&start).ok()?.strip_prefix(DIGEST)?.strip_suffix('\n')?;
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn of_list(path: &Path) -> Option<Vec<IpNetwork>> {
    let list = read_own(&path.with_extension("peers"), PEERS_BYTES_MAX).ok()?;
    let list: Value = serde_json::from_slice(&list).ok()?;
    let cidrs = list.get("nodes")?.as_array()?.iter().filter_map(|node| node.get("podCIDRs"));
    let texts = cidrs.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    Some(texts.filter_map(|text| text.parse().ok()).gather())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_an_older_note_by_its_list() {
        let directory = env::temp_dir().join(format!("manx-cidrs-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("109.cidrs");
        let cidrs: Vec<IpNetwork> =
            ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().unwrap()).into();
        let noted = PodCidrs::Noted(path.clone());
        assert_eq!(noted.all(), []);
        let list = r#"{"nodes": [{"podCIDRs": ["10.1.0.0/24"]}, {"podCIDRs": ["fd00:1::/64"]}]}"#;
        fs::write(directory.join("109.peers"), list).unwrap();
        assert_eq!(noted.all(), cidrs);
        fs::write(directory.join("109.peers"), "{").unwrap();
        assert_eq!(noted.digest(), Some(nft::digest(&[])));
        PodCidrs::Known(cidrs.clone()).note(&path).unwrap();
        assert_eq!(noted.all(), cidrs);
        let digest = Some(nft::digest(&cidrs));
        assert_eq!(noted.digest(), digest);
        // An earlier version wrote none, and a note that is cut off has none.
        for text in ["10.1.0.0/24\nfd00:1::/64\n", "# 00\n10.1.0.0/24\nfd00:1::/64\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!((noted.all(), noted.digest()), (cidrs.clone(), digest));
        }
        PodCidrs::Known(cidrs.clone()).note(&path).unwrap();
        // What is read from there writes nothing.
        PodCidrs::Noted(path.clone()).note(&path).unwrap();
        PodCidrs::Known(Vec::new()).note(&path).unwrap();
        assert_eq!(noted.all(), []);
        fs::remove_dir_all(&directory).unwrap();
    }
}
