// SPDX-License-Identifier: Apache-2.0
//! A directory that goes with its owner.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::panicking;

use super::{DEADLINE, Stdin, eventually, run};

/// A new, empty directory; removed with its contents on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory below the machine's temporary one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("manx-test-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // A directory of this name can only be what a killed process of the same
        // id left behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory inside and gives its path.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        path
    }

    /// Writes a file inside and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// Writes an executable file inside and gives its path.
    ///
    /// A child process writes it: were the file open for writing here, a process
    /// forked by another thread at that moment would hold it open too, and its
    /// first execution would fail with "text file busy".
    pub fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        let mut command = Command::new("sh");
        command.args(["-c", r#"cat >"$0" && chmod 755 "$0""#]).arg(&path);
        run(command, &Stdin::Bytes(content.into()), DEADLINE).ok();
        path
    }

    /// Copies a program to a place inside and gives its path: by a child process, as [`script`](Self::script).
    pub fn program(&self, name: &str, of: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(name);
        let mut command = Command::new("cp");
        command.arg(of.as_ref()).arg(&path);
        run(command, &Stdin::Null, DEADLINE).ok();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A process that is ended just now may still write into it.
        let is_done = || match fs::remove_dir_all(&self.path).map_err(|error| error.kind()) {
            Err(ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => !self.path.exists(),
            _ => true,
        };
        let is_gone = eventually(DEADLINE, is_done);
        assert!(is_gone || panicking(), "{}: somebody still writes into it", self.path.display());
    }
}
