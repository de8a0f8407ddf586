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
    text::escaped,
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

/// RFC 3339 in UTC. The date is reckoned in years that begin in March, so that
/// the leap day is the last.
fn timestamp(seconds: u64, millis: u32) -> String {
    const DAYS_TO_MARCH_OF_YEAR_0: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = seconds / 86_400 + DAYS_TO_MARCH_OF_YEAR_0;
    let day_of_era = days % DAYS_IN_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days / DAYS_IN_400_YEARS * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
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

    #[test]
    fn timestamps_are_dates() {
        assert_eq!(timestamp(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_400, 5), "2000-02-29T00:00:00.005Z");
        assert_eq!(timestamp(1_767_225_599, 999), "2025-12-31T23:59:59.999Z");
        assert_eq!(timestamp(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
        assert_eq!(timestamp(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }
}
