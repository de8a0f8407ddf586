//! `manx bundle`: a node at one moment, in a file that is read elsewhere.

use std::path::{Path, PathBuf};

use super::{
    args::{Args, Operands, Shape},
    console::Console,
    doctor::look::with_translations,
    subcommand::{Failure, Status, Subcommand, failed},
};
use crate::state::{file::require_no_other_kind, replace};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "bundle",
    summary: "write what doctor looks at into a file, to be read elsewhere",
    help: "\
Usage: manx bundle FILE [OPTION…]

Writes what manx doctor and manx plan look at into FILE, with mode 0600, or to
stdout where FILE is -, and changes nothing else. On any machine, manx doctor
and manx plan say by it what they say here.

It holds the names and addresses of pods, nodes and links, the list of peers,
routes, rules, neighbours, leases, and what the configurations come to. What
runtimes and IPAM plugins were told besides is left out. Of the text of
configurations and the peers file, and of what plugins print, there is what
doctor quotes where something is wrong.

  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR",
    shape: Shape { flags: &[], values: &["conf", "bin", "root"], operands: Operands::AtMost(1) },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(file) = args.operands.first().map(PathBuf::from) else {
        return Err(SUBCOMMAND.usage("name the file to write"));
    };
    let to_stdout = [Path::new("-"), Path::new("/dev/stdout")].contains(&file.as_path());
    let failed = |error| failed(format_args!("write {}", file.display()), &error);
    if !to_stdout {
        require_no_other_kind(&file).map_err(failed)?;
    }
    let bytes = with_translations(args)?
        .without_secrets()
        .encode()
        .map_err(|error| failed(error.into()))?;
    if to_stdout {
        console.verbatim().write_all(&bytes)?;
        return Ok(Status::Fine);
    }
    std::path::absolute(&file).and_then(|path| replace(&path, &bytes)).map_err(failed)?;
    console.line(format_args!("{}: written; manx doctor --bundle reads it", file.display()))?;
    Ok(Status::Fine)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use crate::cli::tests::manx;

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
}
