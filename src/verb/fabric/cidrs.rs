//! The pod CIDRs of all nodes, in a file of their own beside what was applied: there
//! may be thousands, and an ADD that needs none of them reads none.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::state::{file::PEERS_BYTES_MAX, read_own, replace};

/// The pod CIDRs of all nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PodCidrs {
    /// As a list of peers has them.
    Known(Vec<IpNetwork>),
    /// Noted in this file, one to a line.
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

    /// Writes those that are known into their file, if it does not hold them already.
    ///
    /// # Errors
    /// Of writing the file.
    pub(super) fn note(&self, path: &Path) -> io::Result<()> {
        let Self::Known(cidrs) = self else { return Ok(()) };
        let mut text = String::new();
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
    text.lines().map(|line| line.parse().ok()).collect()
}

fn of_list(path: &Path) -> Option<Vec<IpNetwork>> {
    let list = read_own(&path.with_extension("peers"), PEERS_BYTES_MAX).ok()?;
    let list: Value = serde_json::from_slice(&list).ok()?;
    let cidrs = list.get("nodes")?.as_array()?.iter().filter_map(|node| node.get("podCIDRs"));
    let texts = cidrs.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    Some(texts.filter_map(|text| text.parse().ok()).collect())
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
        PodCidrs::Known(cidrs.clone()).note(&path).unwrap();
        assert_eq!(noted.all(), cidrs);
        // What is read from there writes nothing.
        PodCidrs::Noted(path.clone()).note(&path).unwrap();
        PodCidrs::Known(Vec::new()).note(&path).unwrap();
        assert_eq!(noted.all(), []);
        fs::remove_dir_all(&directory).unwrap();
    }
}
