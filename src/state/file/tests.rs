// SPDX-License-Identifier: Apache-2.0
use std::os::{fd::AsRawFd, unix::fs::symlink};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manx-file-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        directory(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn only_regular_files_of_a_size_are_read() {
    let scratch = Scratch::new("kinds");
    let (fifo, sparse, full) = (scratch.path("fifo"), scratch.path("sparse"), scratch.path("full"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    File::create(&sparse).unwrap().set_len(10 << 30).unwrap();
    fs::write(&full, vec![b'x'; 1000]).unwrap();
    let words = |path: &Path| read(path, 1000).unwrap_err().to_string();
    assert_eq!(words(&fifo), "it is a pipe, not a regular file");
    assert_eq!(words(&scratch.0), "it is a directory, not a regular file");
    assert_eq!(words(Path::new("/dev/zero")), "it is a device, not a regular file");
    assert_eq!(words(&sparse), "it has 10737418240 bytes or more, and may have 1000");
    assert_eq!(read(&full, 1000).unwrap().len(), 1000);
    assert!(read(&full, 999).is_err());
    assert_eq!(read(&scratch.path("none"), 1).unwrap_err().kind(), ErrorKind::NotFound);
}

/// A pipe is read to its end, however late that comes, and without a writer it has none.
#[test]
fn pipes_of_an_operator_are_read() {
    let scratch = Scratch::new("streams");
    let fifo = scratch.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let words = read_stream(&fifo, 10).unwrap_err().to_string();
    assert_eq!(words, "it is a pipe into which nobody wrote anything");
    let (reader, mut writer) = io::pipe().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    std::thread::scope(|scope| {
        let read = scope.spawn(|| read_stream(&path, 10));
        // It waits, whether it has begun or not.
        writer.write_all(b"who").unwrap();
        writer.write_all(b"le").unwrap();
        drop(writer);
        assert_eq!(read.join().unwrap().unwrap(), b"whole");
    });
    let full = scratch.path("full");
    fs::write(&full, "whole").unwrap();
    assert_eq!(read_stream(&full, 5).unwrap(), b"whole");
    assert!(read_stream(&full, 4).is_err());
    assert_eq!(read_stream(Path::new("/dev/null"), 4).unwrap(), b"");
}

#[test]
fn files_of_the_kernel_are_read_to_their_end() {
    let text = read_text(Path::new("/proc/self/status"), TEXT_BYTES_MAX).unwrap();
    assert!(text.starts_with("Name:") && text.contains("Threads:") && text.ends_with('\n'));
    let mounts = read(Path::new("/proc/self/mountinfo"), TEXT_BYTES_MAX).unwrap();
    assert_eq!(mounts.last(), Some(&b'\n'));
    assert!(read(Path::new("/proc/self/mountinfo"), 10).is_err());
}

#[test]
fn what_is_ours_is_no_link() {
    let scratch = Scratch::new("links");
    let (file, link) = (scratch.path("file"), scratch.path("link"));
    fs::write(&file, "whole").unwrap();
    symlink(&file, &link).unwrap();
    assert_eq!(read(&link, 10).unwrap(), b"whole");
    assert!(is_link(&read_own(&link, 10).unwrap_err()));
    assert!(is_link(&private().open(&link).unwrap_err()));
    replace(&link, b"new").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"whole");
    assert_eq!(read_own(&link, 10).unwrap(), b"new");
}

#[test]
fn what_a_killed_writer_left_is_swept_and_nothing_else() {
    let scratch = Scratch::new("sweep");
    let left = format!(".{}.c1:eth0", unique());
    for name in [left.as_str(), ".17.c1:eth0", ".lock", ".fabric", "c1:eth0"] {
        fs::write(scratch.path(name), "").unwrap();
    }
    sweep(&scratch.0, |_| true);
    let mut names: Vec<_> =
        fs::read_dir(&scratch.0).unwrap().flatten().map(|f| f.file_name()).collect();
    names.sort();
    assert_eq!(names, [".fabric", ".lock", "c1:eth0"]);
}

#[test]
fn a_directory_that_others_may_write_to_is_closed() {
    let scratch = Scratch::new("modes");
    let (above, store) = (scratch.path("networks"), scratch.path("networks/net"));
    readable_directory(&store).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    open(&above, 0o777).unwrap();
    open(&store, 0o777).unwrap();
    assert!(guarded_directory(&store).unwrap().is_dir());
    assert_eq!((mode(&above), mode(&store)), (0o755, 0o755));
    // A directory such as /tmp is nobody's to close, and what is tight stays so.
    open(&above, 0o1777).unwrap();
    open(&store, 0o770).unwrap();
    guarded_directory(&store).unwrap();
    assert_eq!((mode(&above), mode(&store)), (0o1777, 0o750));
    let link = scratch.path("link");
    symlink(&store, &link).unwrap();
    let (by_link, itself) = (guarded_directory(&link).unwrap(), guarded_directory(&store).unwrap());
    assert_eq!((by_link.dev(), by_link.ino()), (itself.dev(), itself.ino()));
}

#[test]
fn the_end_of_a_file_begins_with_a_line() {
    let scratch = Scratch::new("end");
    let (log, fifo) = (scratch.path("log"), scratch.path("fifo"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::write(&log, "one\ntwo\nthree\n").unwrap();
    for (bytes, end) in [
        (100, "one\ntwo\nthree\n"),
        (14, "one\ntwo\nthree\n"),
        (12, "two\nthree\n"),
        (7, "three\n"),
        (6, ""),
        (0, ""),
    ] {
        assert_eq!(read_end(&log, bytes).unwrap(), end.as_bytes(), "{bytes}");
    }
    assert_eq!(read_end(&fifo, 10).unwrap_err().kind(), ErrorKind::InvalidInput);
}
