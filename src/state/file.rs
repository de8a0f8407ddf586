// SPDX-License-Identifier: Apache-2.0
//! Reading and writing files that somebody else may have put there.
//!
//! A path may lead to a FIFO, which is never read to its end, to a device, to a
//! file larger than memory, or to a symbolic link that an unprivileged user
//! planted. So there is one function that reads ([`read`], and [`read_own`] for
//! what nobody but us writes), and every file and directory is made with a mode
//! of its own, for a runtime's umask may be 0.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::{chown, geteuid},
};

/// What a configuration, a note or a list of processes has at most, in bytes.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;

/// What a program has at most, in bytes.
pub const PROGRAM_BYTES_MAX: u64 = 512 << 20;

/// What a list of peers has at most, in bytes: some hundred of each node.
pub const PEERS_BYTES_MAX: u64 = 32 << 20;

/// What a bundle of a node has at most, in bytes, packed or not: that of a node among ten
/// thousand has a third.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// What a cluster's pods and policies have at most, in bytes, as kubectl prints them.
pub const CLUSTER_BYTES_MAX: u64 = 1 << 30;

/// Group and others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Whoever may write to a directory may not remove what is another's.
const STICKY: u32 = 0o1000;

/// Reads a file that a configuration or an operator names: a regular one, of at
/// most `bytes_max`. A symbolic link is followed.
///
/// # Errors
/// Of opening and reading; what the file is, where it is no regular one; its size,
/// where that is larger.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_opened(open(path, OFlag::empty())?, bytes_max)
}

/// Reads to its end what an operator names in a command, which may be a pipe, and waits
/// for who writes there, if somebody has it open to write.
///
/// # Errors
/// Of opening and reading; its size, where that is larger than `bytes_max`; that it is a
/// pipe into which nobody writes.
pub fn read_stream(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OFlag::empty())?;
    // Without a writer a pipe is at its end now, and with one it is waited for.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if is_pipe && bytes.is_empty() {
        let msg = "it is a pipe into which nobody wrote anything";
        return Err(io::Error::new(ErrorKind::UnexpectedEof, msg));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(too_large(bytes_max.saturating_add(1), bytes_max));
    }
    Ok(bytes)
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`]; `InvalidData` for what is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let bytes = read(path, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Reads a file of ours. A symbolic link is none.
///
/// # Errors
/// As [`read`]; ELOOP for a symbolic link.
pub fn read_own(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_opened(open(path, OFlag::O_NOFOLLOW)?, bytes_max)
}

/// The first `bytes` of a file of ours, or all of a shorter one, however long it is.
///
/// # Errors
/// As [`read_own`].
pub fn read_own_start(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OFlag::O_NOFOLLOW)?;
    require_regular(&file.metadata()?)?;
    let mut start = Vec::new();
    file.take(bytes).read_to_end(&mut start).map(|_| start)
}

/// The end of a regular file, of at most `bytes`, from the beginning of a line.
///
/// # Errors
/// Of opening and reading; what the file is, where it is no regular one.
pub fn read_end(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path, OFlag::empty())?;
    let data = file.metadata()?;
    require_regular(&data)?;
    let skipped = data.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    if skipped > 0 {
        let line = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
        end.drain(..line);
    }
    Ok(end)
}

/// To open a FIFO without `O_NONBLOCK` takes until somebody writes to it.
fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Opens a file to be read piece by piece, following links.
///
/// # Errors
/// Of the kernel, and of what is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open(path, OFlag::empty())?;
    require_regular(&file.metadata()?)?;
    Ok(file)
}

/// As [`read`], of a file that is open.
///
/// # Errors
/// As [`read`].
pub fn read_opened(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    /// For a file of /proc, which says that it has nothing.
    const ROOM: usize = 512;
    let data = file.metadata()?;
    require_regular(&data)?;
    if data.len() > bytes_max {
        return Err(too_large(data.len(), bytes_max));
    }
    let expected = usize::try_from(data.len()).unwrap_or_default();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(expected.max(ROOM)).map_err(|_| ErrorKind::OutOfMemory)?;
    // Where a file says how much it has, nobody asks for more: that would be one more call. What is
    // written behind that meanwhile is not read: who must see all of it holds a lock.
    let limit = if expected > 0 { data.len() } else { bytes_max.saturating_add(1) };
    file.take(limit).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(too_large(bytes_max.saturating_add(1), bytes_max));
    }
    Ok(bytes)
}

fn too_large(bytes: u64, bytes_max: u64) -> io::Error {
    let msg = format!("it has {bytes} bytes or more, and may have {bytes_max}");
    io::Error::new(ErrorKind::FileTooLarge, msg)
}

/// # Errors
/// Saying what it is instead.
pub fn require_regular(data: &Metadata) -> io::Result<()> {
    let kind = data.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

/// That a new file takes the place of nothing but a file: not that of a device.
///
/// # Errors
/// Saying what is there instead.
pub fn require_no_other_kind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        data => require_regular(&data?),
    }
}

/// How files of ours are opened for writing: made for root alone if they are not
/// there. Neither a FIFO nor a symbolic link holds us up or leads us elsewhere.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    options
}

/// About as much as an entry of the journal holds.
const PROBE_BYTES: usize = 1024;

/// Writes `bytes` beside `path` and renames them into place, mode 0600. A kill
/// in between leaves a file that [`sweep`] knows.
///
/// # Errors
/// That of the failing call; the temporary file is removed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    let temporary = directory.join(format!(".{}.{}", unique(), name.to_string_lossy()));
    let write = || {
        private().create_new(true).open(&temporary)?.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// As [`replace`], of a file that everybody may read and that must survive a loss of power:
/// what is in place is whole, and stays there.
///
/// # Errors
/// As for [`replace`].
pub fn replace_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    let temporary = directory.join(format!(".{}.{}", unique(), name.to_string_lossy()));
    let write = || {
        let mut file = private().mode(0o644).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// A name that nobody else has now: process ids of two containers may be the same,
/// and the clock may show one time twice.
pub fn unique() -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}.{:x}", process::id(), now.as_nanos())
    });
    format!("{process}.{:x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes what writers of a directory left that were killed in the middle, as far
/// as `concerns` says so of its name. Only where none can be at work.
pub fn sweep(directory: &Path, concerns: impl Fn(&str) -> bool) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let of_a_process = name.strip_prefix('.').and_then(|name| name.split('.').next());
        if of_a_process.is_some_and(|id| id.parse::<u32>().is_ok()) && concerns(&name) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Writes into a file of that directory that never gets a name (O_TMPFILE,
/// open(2)): whether the next one could be written. Where the file system knows no
/// such files, that has to be found out by writing one.
///
/// # Errors
/// No space, no right, a file system that is read-only.
pub fn probe(directory: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlag::O_TMPFILE.bits()).mode(0o600);
    match options.open(directory).and_then(|mut file| file.write_all(&[0; PROBE_BYTES])) {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
        outcome => outcome,
    }
}

/// Makes a directory of ours, and those above it, for root's eyes: it tells who
/// runs where, and its locks hold up the node's pods.
///
/// # Errors
/// That of the failing call; a directory that exists is none.
pub fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory that everybody may read and root alone may change, and those
/// above it.
///
/// # Errors
/// As for [`directory`].
pub fn readable_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// What a directory is whose files are believed, behind a symbolic link that root
/// made. Where others may write into it that is ended, for they could put links
/// into it and remove what they like.
///
/// # Errors
/// Of looking at it; for a link that another user made.
pub fn guarded_directory(path: &Path) -> io::Result<Metadata> {
    let mut data = fs::symlink_metadata(path)?;
    if data.is_symlink() {
        if is_anothers(&data) {
            let msg = format!(
                "{} is a symbolic link of user {}, which is not followed: remove it",
                path.display(),
                data.uid()
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, msg));
        }
        data = fs::metadata(path)?;
    }
    if data.is_dir() && (data.mode() & WRITABLE_BY_OTHERS != 0 || is_anothers(&data)) {
        close(path, &data);
        // Who could write here could write above as well, by the same umask.
        let above: Option<PathBuf> = path.parent().map(Path::to_owned);
        if let Some((above, data)) =
            above.and_then(|path| Some((path.clone(), fs::metadata(path).ok()?)))
            && data.mode() & WRITABLE_BY_OTHERS != 0
            && data.mode() & STICKY == 0
        {
            close(&above, &data);
        }
    }
    Ok(data)
}

/// Whether neither root nor this user owns it.
pub fn is_anothers(data: &Metadata) -> bool {
    data.uid() != 0 && data.uid() != geteuid().as_raw()
}

fn close(path: &Path, data: &Metadata) {
    let owner = if is_anothers(data) { chown(path, Some(geteuid()), None) } else { Ok(()) };
    let mode = fs::Permissions::from_mode(data.mode() & 0o7777 & !WRITABLE_BY_OTHERS);
    let outcome = owner.map_err(io::Error::from).and_then(|()| fs::set_permissions(path, mode));
    let (path, mode) = (path.display(), data.mode() & 0o7777);
    match outcome {
        Ok(()) => log::warn!(
            "{path} had mode {mode:o} and owner {}: others could change leases; now root alone can",
            data.uid()
        ),
        Err(error) => log::warn!("{path} has mode {mode:o}: others can change leases; {error}"),
    }
}

/// Whether an operation was refused because of a symbolic link.
pub fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ELOOP as i32)
}

#[cfg(test)]
mod tests;
