// SPDX-License-Identifier: Apache-2.0
//! `manx bundle`: a node at one moment, in a file that is read elsewhere.

mod gather;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use super::{
    args::{Args, Operands, Shape},
    console::Console,
    doctor::look::with_translations,
    subcommand::{Failure, Status, Subcommand, failed},
};
use crate::{
    node::Snapshot,
    state::{file::require_no_other_kind, gzip::compress, replace},
};

/// What a bundle has at most, packed, in bytes: what trackers of issues and mail take.
const BYTES_MAX: usize = 1_000_000;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "bundle",
    summary: "write what doctor looks at into a file, to be read elsewhere",
    help: "\
Usage: manx bundle [--plain] FILE [OPTION…]

Writes into FILE, with mode 0600, or to stdout where FILE is -, how this node
stands, and changes nothing else. FILE is JSON packed by gzip. On any machine
manx doctor, status, explain, plan, peers and tune read it by their option
bundle, and zcat FILE | jq .support shows what is for people:

  texts     configurations, the peers file, sysctl.d of manx
  logs      the last lines of logFile, of the agent, and of the journal
  versions  of manx, the kernel and the system

Names and addresses of pods, nodes and links are in it. Keys, passwords, tokens,
the users of URLs, environments, and what runtimes and IPAM plugins were told
are not: (redacted) stands for them. FILE has less than 1 MB: for that
logs are cut first, then texts are left out, and FILE says what is missing.

  --plain      do not pack it
  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["plain"],
        values: &["conf", "bin", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(file) = args.operands.first().map(PathBuf::from) else {
        return Err(SUBCOMMAND.usage("name the file to write"));
    };
    let to_stdout = [Path::new("-"), Path::new("/dev/stdout")].contains(&file.as_path());
    let plain = args.flag("plain");
    if to_stdout && !plain && io::stdout().is_terminal() {
        return Err(SUBCOMMAND.usage("a terminal cannot show what is packed: add --plain"));
    }
    let failed = |error| failed(format_args!("write {}", file.display()), &error);
    if !to_stdout {
        require_no_other_kind(&file).map_err(failed)?;
    }
    let mut snapshot = with_translations(args)?.without_secrets();
    snapshot.support = Some(gather::support(args, &snapshot));
    let (unpacked, packed) = fitting(&mut snapshot, BYTES_MAX)
        .map_err(|problem| Failure::Failed(format!("{}: {problem}", file.display())))?;
    let bytes = if plain { &unpacked } else { &packed };
    if to_stdout {
        console.verbatim().write_all(bytes)?;
    } else {
        std::path::absolute(&file).and_then(|path| replace(&path, bytes)).map_err(failed)?;
        console.line(format_args!("{}: written; manx doctor --bundle reads it", file.display()))?;
    }
    for what in snapshot.support.iter().flat_map(|support| &support.left_out) {
        console.remark(format_args!("left out: {what}"))?;
    }
    if packed.len() >= BYTES_MAX {
        let (size, of) = (packed.len(), BYTES_MAX);
        console
            .remark(format_args!("it has {size} bytes, more than {of}: the node is that large"))?;
    }
    Ok(Status::Fine)
}

/// The text of a bundle, and the same packed, with as much of what is for people as there is room
/// for.
fn fitting(snapshot: &mut Snapshot, bytes_max: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
    loop {
        let unpacked = snapshot.encode()?;
        let packed = compress(&unpacked);
        let mut support = snapshot.support.as_mut();
        if packed.len() < bytes_max || !support.as_mut().is_some_and(|support| support.shorten()) {
            return Ok((unpacked, packed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;
    use crate::{
        cli::tests::manx,
        node::{Support, Text},
    };

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let directory = std::env::temp_dir().join(format!("manx-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (pipe, link) = (directory.join("pipe"), directory.join("link"));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        symlink(&pipe, &link).unwrap();
        for (path, kind) in [(&pipe, "a pipe"), (&link, "a symbolic link"), (&directory, "a dir")] {
            let (code, out, err) = manx(&["bundle", path.to_str().unwrap()]);
            assert!(code == 1 && out.is_empty() && err.contains(kind), "{err}");
        }
        assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(link.is_symlink());
        std::fs::remove_dir_all(directory).unwrap();
    }

    /// Text that nothing makes shorter.
    fn noise(lines: u32) -> String {
        let mut state = lines;
        let mut line = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{state:08x}\n")
        };
        (0..lines).map(|_| line()).collect()
    }

    #[test]
    fn what_is_too_large_loses_logs_then_texts_and_nothing_that_doctor_reads() {
        let text = |(source, lines): (&str, u32)| {
            (lines > 0).then(|| Text { source: source.to_owned(), text: noise(lines) })
        };
        let node = |a, b, c| {
            let mut snapshot = Snapshot { version: 1, ..Snapshot::default() };
            snapshot.kernel.sysctls.insert("net/x".to_owned(), noise(1000));
            let texts = [("a", a), ("b", b)].into_iter().filter_map(text).collect();
            let logs = text(("c", c)).into_iter().collect();
            snapshot.support = Some(Support { texts, logs, ..Support::default() });
            snapshot
        };
        // With room for notes of what is missing.
        let size = |a, b, c| fitting(&mut node(a, b, c), usize::MAX).unwrap().1.len() + 200;
        for (bytes_max, texts, logs, missing, fits) in [
            (BYTES_MAX, &[2000, 4000][..], &[20_000][..], 0, true),
            (size(2000, 4000, 10_000), &[2000, 4000], &[9999], 1, true),
            (size(2000, 4000, 0), &[2000, 4000], &[], 1, true),
            (size(2000, 0, 0), &[2000], &[], 2, true),
            (1000, &[], &[], 3, false),
        ] {
            let mut snapshot = node(2000, 4000, 20_000);
            let (unpacked, packed) = fitting(&mut snapshot, bytes_max).unwrap();
            assert_eq!(packed.len() < bytes_max, fits);
            assert_eq!(Snapshot::decode(&unpacked), Ok(snapshot.clone()));
            assert_eq!(Snapshot::decode(&packed), Ok(snapshot.clone()));
            assert_eq!(snapshot.kernel.sysctls["net/x"], noise(1000));
            let support = snapshot.support.unwrap();
            let lines =
                |all: &[Text]| all.iter().map(|text| text.text.len() / 9).collect::<Vec<_>>();
            assert_eq!(
                (lines(&support.texts), lines(&support.logs)),
                (texts.to_vec(), logs.to_vec())
            );
            assert_eq!(support.left_out.len(), missing);
        }
    }
}
