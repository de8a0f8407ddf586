// SPDX-License-Identifier: Apache-2.0
//! What the files of sysctl.d say, in the order in which they are applied.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    doctor::tune::key_of,
    list::Gather,
    node::Assignment,
    state::{Root, file::TEXT_BYTES_MAX, read_text},
};

/// A file hides those of the same name in directories further down.
const DIRECTORIES: [&str; 4] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
/// systemd does not read it, others read it last.
const LAST: &str = "/etc/sysctl.conf";

/// The lines that are of the network.
pub(in crate::cli) fn assignments(root: &Root) -> Vec<Assignment> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES {
        let entries = fs::read_dir(root.path(directory)).into_iter().flatten().flatten();
        let named = entries.map(|entry| entry.path());
        for path in named.filter(|path| path.extension().is_some_and(|end| end == "conf")) {
            let Some(name) = path.file_name() else { continue };
            files.entry(name.to_owned()).or_insert_with(|| path.clone());
        }
    }
    let files = files.into_values().chain([root.path(LAST)]);
    files.flat_map(|path| read(&path)).gather()
}

/// Nothing of what cannot be read: a link to /dev/null hides what is of the same name.
fn read(path: &Path) -> Vec<Assignment> {
    let text = read_text(path, TEXT_BYTES_MAX).unwrap_or_default();
    let line = |(at, line): (usize, &str)| {
        let line = line.trim();
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim().trim_start_matches('-'), Some(value.trim())),
            // Keeps patterns off.
            None => (line.strip_prefix('-')?.trim(), None),
        };
        let key = key_of(name);
        let is_comment = line.starts_with(['#', ';']);
        (key.starts_with("net/") && !is_comment).then(|| Assignment {
            file: path.to_owned(),
            line: at + 1,
            key,
            value: value.map(str::to_owned),
        })
    };
    text.lines().enumerate().filter_map(line).gather()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_read_in_the_order_of_their_names() {
        let directory = std::env::temp_dir().join(format!("manx-sysctl-{}", std::process::id()));
        let root = Root::new(&directory);
        let file = |path: &str, text: &str| {
            let path = root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("/usr/lib/sysctl.d/10-a.conf", "net.a = hidden\n");
        file("/etc/sysctl.d/10-a.conf", "# net.a=0\n\n net.a = 1\nkernel.x = 1\n; net.a = 2\n");
        file("/usr/lib/sysctl.d/20-b.conf", "-net.b=2\n-net.c\nnet.d\n");
        file("/run/sysctl.d/15-c.conf", "net/e.1/f=3");
        file("/usr/local/lib/sysctl.d/30-d.conf", "net.a = hidden\n");
        symlink("/dev/null", root.path("/etc/sysctl.d/30-d.conf")).unwrap();
        file("/etc/sysctl.d/no", "net.a = 4\n");
        file("/etc/sysctl.conf", "net.a = 5\n");
        let all = assignments(&root);
        let told: Vec<String> = all
            .iter()
            .map(|one| {
                let file = one.file.strip_prefix(&directory).unwrap().display();
                format!("{file}:{} {} {:?}", one.line, one.key, one.value.as_deref())
            })
            .collect();
        assert_eq!(
            told,
            [
                "etc/sysctl.d/10-a.conf:3 net/a Some(\"1\")",
                "run/sysctl.d/15-c.conf:1 net/e.1/f Some(\"3\")",
                "usr/lib/sysctl.d/20-b.conf:1 net/b Some(\"2\")",
                "usr/lib/sysctl.d/20-b.conf:2 net/c None",
                "etc/sysctl.conf:1 net/a Some(\"5\")",
            ]
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
