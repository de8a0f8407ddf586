// SPDX-License-Identifier: Apache-2.0
//! One line per event on stderr, and in a file where one is named. Never the
//! configuration itself, which may hold secrets.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write, stderr, stdout},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use log::{LevelFilter, Log, Metadata, Record};
use nix::fcntl::OFlag;

use crate::{
    state::{Root, file, readable_directory},
    text::{escaped, moment::timestamp},
};

/// What a log file is made with, whatever the umask.
const LOG_MODE: u32 = 0o640;

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    file: Option<File>,
}

/// Starts logging at `level`. A file that cannot be opened costs a warning.
pub fn start(level: LevelFilter, file: Option<&str>, root: &Root) {
    let opened = file.filter(|path| !path.is_empty()).map(|path| open(&root.path(path)));
    let (file, problem) = match opened {
        Some(Ok(file)) => (Some(file), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let logger = LOGGER.get_or_init(|| Logger { file });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
    if let Some(error) = problem {
        log::warn!("logFile: {error}; logging to stderr only");
    }
}

/// Opens a log file. Only a regular file is one: to open a FIFO may take for
/// ever and to open a device may do anything. And not stdout, by whichever name:
/// that is the protocol's.
fn open(path: &Path) -> io::Result<File> {
    let refuse = |words: &str| Err(io::Error::other(format!("{} {words}", path.display())));
    if let Some(directory) = path.parent() {
        readable_directory(directory)?;
    }
    let mut target = path.to_owned();
    if let Ok(there) = fs::symlink_metadata(path) {
        if there.is_symlink() {
            if file::is_anothers(&there) {
                return refuse("is a symbolic link of another user");
            }
            target = fs::canonicalize(path)?;
        }
        if !fs::metadata(&target)?.is_file() {
            return refuse("is not a regular file");
        }
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(LOG_MODE).custom_flags(flags.bits());
    let file = options.open(&target)?;
    let opened = file.metadata()?;
    if !opened.is_file() {
        return refuse("is not a regular file");
    }
    let printed = stdout().as_fd().try_clone_to_owned().map(File::from)?.metadata()?;
    if (printed.dev(), printed.ino()) == (opened.dev(), opened.ino()) {
        return refuse("is stdout, where the result goes");
    }
    Ok(file)
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = timestamp(now.as_secs(), now.subsec_millis());
        // One write, so that the lines of plugins at work together stay whole.
        let text = record.args().to_string();
        let line = format!("{time} {} {}\n", record.level(), escaped(&text));
        let _ = stderr().write_all(line.as_bytes());
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_a_regular_file_is_a_log_file() {
        let directory = env::temp_dir().join(format!("manx-log-{}", process::id()));
        let (file, fifo) = (directory.join("deeper/file"), directory.join("fifo"));
        open(&file).unwrap();
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        for path in [&fifo, &directory, Path::new("/dev/null"), Path::new("/nowhere\0")] {
            assert!(open(path).is_err(), "{}", path.display());
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
