// SPDX-License-Identifier: Apache-2.0
//! What became of each call, for whoever counts them.
//!
//! An agent holds a pipe with a name below /run/manx, and a call writes a record into it
//! at its end: one write, which the kernel takes whole or not at all, without a lock. No
//! call waits for a reader. Where there is none, or one that is behind by some thousand
//! calls, nothing is counted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    mem,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::PathBuf,
    time::Duration,
};

use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};

use super::{Root, directory};
use crate::list::Gather;

/// The name of a verb has at most so many bytes.
const VERB_BYTES: usize = 8;
/// In the place of a verb: an ADD waited until something was known of its pod (code 0), or for
/// as long as it may (code 1).
pub const WAIT: &str = "WAIT";
/// The verb, a code and microseconds.
const RECORD_BYTES: usize = VERB_BYTES + 4 + 4;
/// So many records are read at once.
const RECORDS: usize = 64;

/// How a call ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// The verb.
    pub verb: String,
    /// The code of its error, 0 for none.
    pub code: u32,
    /// How long it took, in whole microseconds.
    pub took: Duration,
}

/// The end that is read.
#[derive(Debug)]
pub struct Operations(File);

fn path(root: &Root) -> PathBuf {
    root.runtime().join(".operations")
}

/// Tells who counts, if there is one, by a process that is about to end.
pub fn note(root: &Root, operation: &Operation) {
    // The pipe goes with the process.
    mem::forget(told(root, operation));
}

/// Tells it by this pipe.
fn told(root: &Root, operation: &Operation) -> Option<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let pipe = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path(root));
    let mut pipe = pipe.ok()?;
    let _ = pipe.write(&operation.encode());
    Some(pipe)
}

/// Whether somebody counts: an agent runs.
pub fn is_read(root: &Root) -> bool {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    // Without a reader the kernel refuses that (ENXIO).
    let pipe = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path(root));
    let data = pipe.and_then(|pipe| pipe.metadata());
    data.is_ok_and(|data| data.file_type().is_fifo())
}

impl Operation {
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut verb = [0; VERB_BYTES];
        verb.iter_mut().zip(self.verb.bytes()).for_each(|(to, from)| *to = from);
        let took = u32::try_from(self.took.as_micros()).unwrap_or(u32::MAX);
        let mut record = [0; RECORD_BYTES];
        let parts = verb.into_iter().chain(self.code.to_le_bytes()).chain(took.to_le_bytes());
        record.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        record
    }

    /// None for what is no record.
    pub(super) fn decode(record: &[u8]) -> Option<Self> {
        let (verb, rest) = record.split_first_chunk::<VERB_BYTES>()?;
        let (code, rest) = rest.split_first_chunk()?;
        let (took, rest) = rest.split_first_chunk()?;
        let verb = verb.split(|byte| *byte == 0).next().unwrap_or_default();
        let is_verb = verb.iter().all(u8::is_ascii_uppercase) && !verb.is_empty();
        (rest.is_empty() && is_verb).then(|| Self {
            verb: String::from_utf8_lossy(verb).into_owned(),
            code: u32::from_le_bytes(*code),
            took: Duration::from_micros(u32::from_le_bytes(*took).into()),
        })
    }
}

impl Operations {
    /// Makes the pipe, unless it is there, and holds it.
    ///
    /// # Errors
    /// Of the failing call.
    pub fn open(root: &Root) -> io::Result<Self> {
        directory(&root.runtime())?;
        let path = path(root);
        match fs::symlink_metadata(&path) {
            Ok(data) if data.file_type().is_fifo() => {}
            Ok(_) => fs::remove_file(&path).and_then(|()| make(&path))?,
            Err(_) => make(&path)?,
        }
        // For both ends, so that it is not at its end while nobody writes.
        let flags = (OFlag::O_NOFOLLOW).bits();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path)?;
        match file.metadata()?.file_type().is_fifo() {
            true => Ok(Self(file)),
            false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no pipe")),
        }
    }

    /// Waits for calls to end.
    ///
    /// # Errors
    /// Of reading.
    pub fn wait(&mut self) -> io::Result<Vec<Operation>> {
        let mut bytes = [0; RECORD_BYTES * RECORDS];
        let count = match self.0.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            count => count?,
        };
        let records = bytes.get(..count).unwrap_or_default().chunks(RECORD_BYTES);
        Ok(records.filter_map(Operation::decode).gather())
    }
}

fn make(path: &std::path::Path) -> io::Result<()> {
    Ok(mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    fn root(name: &str) -> Root {
        Root::new(env::temp_dir().join(format!("manx-operations-{name}-{}", process::id())))
    }

    fn operation(verb: &str, code: u32, micros: u64) -> Operation {
        Operation { verb: verb.to_owned(), code, took: Duration::from_micros(micros) }
    }

    #[test]
    fn what_is_noted_is_read() {
        let root = root("read");
        let mut read = Operations::open(&root).unwrap();
        let operations = [operation("ADD", 0, 3500), operation("STATUS", 50, 1_000_000)];
        operations.iter().for_each(|one| note(&root, one));
        assert_eq!(read.wait().unwrap(), operations);
        // An agent that is started again takes the pipe that is there.
        drop(read);
        note(&root, &operations[0]);
        let mut read = Operations::open(&root).unwrap();
        note(&root, &operations[1]);
        assert_eq!(read.wait().unwrap(), operations[1..], "nobody held it meanwhile");
        let _ = fs::remove_dir_all(root.path("/"));
    }

    #[test]
    fn no_call_waits_for_who_counts() {
        let root = root("full");
        note(&root, &operation("ADD", 0, 1));
        assert!(!path(&root).exists(), "nobody counts, and nothing is made");
        let mut read = Operations::open(&root).unwrap();
        (0..10_000).for_each(|_| drop(told(&root, &operation("DEL", 0, 1))));
        assert_eq!(read.wait().unwrap().len(), RECORDS, "what the pipe holds");
        let _ = fs::remove_dir_all(root.path("/"));
    }

    #[test]
    fn something_else_in_its_place_goes() {
        let root = root("else");
        directory(&root.runtime()).unwrap();
        fs::write(path(&root), "x").unwrap();
        let mut read = Operations::open(&root).unwrap();
        note(&root, &operation("GC", 7, 2));
        assert_eq!(read.wait().unwrap(), [operation("GC", 7, 2)]);
        let _ = fs::remove_dir_all(root.path("/"));
    }

    #[test]
    fn a_record_is_what_it_was_or_none() {
        for operation in [operation("ADD", 0, 0), operation("STATUS", u32::MAX, 4_294_967_295)] {
            assert_eq!(Operation::decode(&operation.encode()), Some(operation));
        }
        let long = operation("ADD", 0, u64::MAX);
        let decoded = Operation::decode(&long.encode()).unwrap();
        assert_eq!(decoded.took, Duration::from_micros(u32::MAX.into()));
        for bytes in [&[0; RECORD_BYTES][..], b"ADD", b"add\0\0\0\0\0\0\0\0\0\0\0\0\0", &[b'A'; 17]]
        {
            assert_eq!(Operation::decode(bytes), None, "{bytes:?}");
        }
    }
}
