// SPDX-License-Identifier: Apache-2.0
//! `manx version`.

use serde_json::json;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};
use crate::{cni::Version, node::version::PEERS_SCHEMA};

/// The commit that the binary is built from, with "+" where its source differs
/// from that. `hack/build-static` gives it: with a build script, every commit
/// would make cargo build anew.
pub(super) const REVISION: Option<&str> = option_env!("MANX_REVISION");

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "version",
    summary: "print the version, the revision and the CNI versions spoken",
    help: "\
Usage: manx version [--json]

  --json  {\"version\", \"revision\", \"cniVersions\", \"schemas\"}; revision is null
          where the build did not know it; schemas.peers is the newest form of
          the peers file that it reads",
    shape: Shape { flags: &["json"], values: &[], operands: Operands::AtMost(0) },
    run: |args, console| print(REVISION, args, console),
};

fn print(
    revision: Option<&str>,
    args: &Args,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let spoken = Version::ALL.map(Version::as_str);
    if args.flag("json") {
        let schemas = json!({"peers": PEERS_SCHEMA});
        let told = json!({"version": version, "revision": revision, "cniVersions": spoken,
            "schemas": schemas});
        console.json(&told)?;
        return Ok(Status::Fine);
    }
    console.line(format_args!("manx {version}"))?;
    if let Some(revision) = revision {
        console.line(format_args!("revision {revision}"))?;
    }
    console.line(format_args!("CNI {}", spoken.join(", ")))?;
    Ok(Status::Fine)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::tests::manx;

    #[test]
    fn the_version_is_that_of_the_package() {
        let (code, text, _) = manx(&["version"]);
        assert!(code == 0 && text.starts_with(concat!("manx ", env!("CARGO_PKG_VERSION"), "\n")));
        assert_eq!(manx(&["--version"]).1, text);
        let json: Value = serde_json::from_str(&manx(&["--version", "--json"]).1).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(json["cniVersions"][6], "1.1.0");
        assert_eq!(json["schemas"]["peers"], PEERS_SCHEMA);
    }

    #[test]
    fn the_revision_is_told_where_the_build_knew_it() {
        let with = |revision: Option<&str>, flags: &[&str]| {
            let arguments = flags.iter().map(Into::into).collect();
            let args = Args::parse(arguments, &SUBCOMMAND.shape).unwrap().unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            print(revision, &args, &mut Console::new(&mut out, &mut err)).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(with(Some("abc+"), &[]).contains("\nrevision abc+\n"));
        assert!(!with(None, &[]).contains("revision"));
        let json =
            |revision| -> Value { serde_json::from_str(&with(revision, &["--json"])).unwrap() };
        assert_eq!(json(Some("abc+"))["revision"], "abc+");
        assert_eq!(json(None)["revision"], Value::Null);
    }
}
