// SPDX-License-Identifier: Apache-2.0
//! Kernel parameters below /proc/sys, of the calling thread's namespace.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::Error;

/// Where the parameters are, if not in /proc/sys.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Those that are read here are numbers.
const VALUE_BYTES_MAX: usize = 256;

/// A parameter and the value it should have. The key is a path such as
/// `net/ipv4/conf/eth0/forwarding`, since interface names may hold dots.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sysctl {
    /// Path below /proc/sys.
    pub key: String,
    /// Value without a newline.
    pub value: String,
    /// Whether its absence (a kernel without IPv6) or a read-only /proc/sys
    /// is tolerable.
    pub optional: bool,
}

impl Sysctl {
    /// A parameter that must be set.
    pub fn new(key: impl Into<String>, value: impl ToString) -> Self {
        Self { key: key.into(), value: value.to_string(), optional: false }
    }

    /// A parameter that is set where it can be.
    pub fn optional(key: impl Into<String>, value: impl ToString) -> Self {
        Self { optional: true, ..Self::new(key, value) }
    }
}

/// Says where the parameters are: a container may have /proc/sys read-only, and another
/// mount of it beside. Once, before any is asked for.
pub fn set_directory(path: PathBuf) {
    let _ = DIRECTORY.set(path);
}

/// Whether the kernel has this value now. Not, if it cannot be read.
pub fn holds(wanted: &Sysctl) -> bool {
    read(&wanted.key).is_ok_and(|value| value == wanted.value)
}

/// Writes the value if the kernel has another one; says whether it did.
///
/// # Errors
/// That of the write, unless the parameter is optional.
pub fn ensure(wanted: &Sysctl) -> Result<bool, Error> {
    let set = || -> io::Result<bool> {
        let mut options = File::options();
        let mut file = match options.read(true).write(true).open(path(&wanted.key)) {
            // What is right already need not be writable.
            Err(_) if holds(wanted) => return Ok(false),
            opened => opened?,
        };
        if value(&mut file)? == wanted.value {
            return Ok(false);
        }
        // A write has to begin at 0 (sysctl_writes_strict, proc_sys(5)).
        file.write_all_at(wanted.value.as_bytes(), 0)?;
        Ok(true)
    };
    match set() {
        Err(error) if wanted.optional => {
            log::debug!("sysctl {wanted}: {error}");
            Ok(false)
        }
        Err(error) => Err(Error::from_io(format!("set sysctl {wanted}"), &error)),
        Ok(written) => Ok(written),
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The value of a parameter, without the newline.
///
/// # Errors
/// `NotFound` for a parameter that this kernel or namespace does not have.
pub fn read(key: &str) -> io::Result<String> {
    value(&mut File::open(path(key))?)
}

/// The kernel gives a value by one read, as long as the buffer is large enough.
fn value(file: &mut File) -> io::Result<String> {
    let mut buffer = [0; VALUE_BYTES_MAX];
    let length = file.read(&mut buffer)?;
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    Ok(text.trim_end().to_owned())
}

fn path(key: &str) -> PathBuf {
    DIRECTORY.get().map_or(Path::new("/proc/sys"), PathBuf::as_path).join(key)
}
