//! `manx version`.

use serde_json::json;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};
use crate::cni::Version;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "version",
    summary: "print the version and the CNI versions spoken",
    help: "\
Usage: manx version [--json]

  --json  {\"version\", \"cniVersions\"}",
    shape: Shape { flags: &["json"], values: &[], operands: Operands::AtMost(0) },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let spoken = Version::ALL.map(Version::as_str);
    if args.flag("json") {
        console.json(&json!({"version": version, "cniVersions": spoken}))?;
    } else {
        console.line(format_args!("manx {version}"))?;
        console.line(format_args!("CNI {}", spoken.join(", ")))?;
    }
    Ok(Status::Fine)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::cli::tests::manx;

    #[test]
    fn the_version_is_that_of_the_package() {
        let (code, text, _) = manx(&["version"]);
        assert!(code == 0 && text.starts_with(concat!("manx ", env!("CARGO_PKG_VERSION"), "\n")));
        assert_eq!(manx(&["--version"]).1, text);
        let json: Value = serde_json::from_str(&manx(&["--version", "--json"]).1).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(json["cniVersions"][6], "1.1.0");
    }
}
