//! Kernel parameters below /proc/sys, of the calling thread's namespace.

use std::{fmt, fs, io, path::PathBuf};

use super::Error;

/// A parameter and the value it should have. The key is a path such as
/// `net/ipv4/conf/eth0/forwarding`, since interface names may hold dots.
#[derive(Clone, Debug, Eq, PartialEq)]
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

    /// Whether the kernel has this value now. Not, if it cannot be read.
    pub fn holds(&self) -> bool {
        read(&self.key).is_ok_and(|value| value == self.value)
    }

    /// Writes the value if the kernel has another one; says whether it did.
    ///
    /// # Errors
    /// That of the write, unless the parameter is optional.
    pub fn ensure(&self) -> Result<bool, Error> {
        let set = || -> io::Result<bool> {
            if read(&self.key)? == self.value {
                return Ok(false);
            }
            fs::write(path(&self.key), &self.value)?;
            Ok(true)
        };
        match set() {
            Err(error) if self.optional => {
                log::debug!("sysctl {self}: {error}");
                Ok(false)
            }
            Err(error) => Err(Error::from_io(format!("set sysctl {self}"), &error)),
            Ok(written) => Ok(written),
        }
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
    fs::read_to_string(path(key)).map(|value| value.trim_end().to_owned())
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
