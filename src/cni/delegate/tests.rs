// SPDX-License-Identifier: Apache-2.0
//! Delegates are shell scripts. Each test names the numbered conformance rule
//! that it holds, where there is one.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::*;
use crate::cni::Args;

mod running;

/// Longer than any test takes on a busy machine.
const AMPLE: Duration = Duration::from_secs(120);

/// Set in the process that a test starts to be killed or listened to.
const ROLE: &str = "MANX_TEST_DELEGATE_DIRECTORY";

/// A directory of this test, gone when it ends.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("manx-delegate-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes a delegate of type `fake`; `$D` in it is this directory.
    fn script(&self, body: &str) -> Delegate {
        let text = format!("#!/bin/sh\nD='{}'\n{body}\n", self.0.display());
        let binary = self.0.join("fake");
        fs::write(&binary, text).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        Delegate::find("fake", std::slice::from_ref(&self.0)).unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn environment() -> Environment {
    Environment {
        command: Command::Add,
        container_id: "c1".into(),
        netns: "/var/run/netns/t".into(),
        ifname: "eth0".into(),
        path: vec!["/b".into(), "/a".into()],
        args: Args::parse("K8S_POD_NAME=web"),
        netns_override: false,
    }
}

fn add(delegate: &Delegate, stdin: &[u8]) -> Result<Option<Value>, Error> {
    delegate.invoke(&Command::Add, &environment(), stdin, AMPLE)
}

/// This test again in a process of its own, where [`role`] finds `directory`.
fn in_process(test: &str, directory: &Directory) -> process::Command {
    let mut command = process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("cni::delegate::tests::{test}")]);
    command.env(ROLE, &directory.0).stdin(Stdio::null());
    command
}

fn role() -> Option<Delegate> {
    let directory = PathBuf::from(std::env::var_os(ROLE)?);
    Some(Delegate::find("fake", &[directory]).unwrap())
}

#[test]
fn r37_the_first_directory_wins_and_only_files_count() {
    let (first, second, third) = (Directory::new(), Directory::new(), Directory::new());
    fs::create_dir(first.0.join("ipam")).unwrap();
    // Neither the executable bit nor the content is looked at.
    fs::write(second.0.join("ipam"), "x").unwrap();
    fs::write(third.0.join("ipam"), "x").unwrap();
    let path = [first.0.clone(), second.0.clone(), third.0.clone()];
    assert_eq!(Delegate::find("ipam", &path).unwrap().binary, second.0.join("ipam"));
}

#[test]
fn r39_a_type_is_no_path() {
    let directory = Directory::new();
    directory.script("");
    for bad in ["../fake", "/fake", "./fake", "a/b", ""] {
        let error = Delegate::find(bad, std::slice::from_ref(&directory.0)).unwrap_err();
        assert_eq!(error.code, Code::INVALID_CONFIG, "{bad}");
        assert!(error.msg.contains(&format!("{bad:?}")), "{error}");
    }
}

#[test]
fn a_type_that_is_nowhere_is_named_with_the_directories() {
    let error = Delegate::find("whereabouts", &["/b1".into(), "/b2".into()]).unwrap_err();
    assert_eq!(error.code, Code::DELEGATE);
    assert!(error.msg.contains("\"whereabouts\"") && error.msg.contains("/b1:/b2"), "{error}");
    assert!(!error.to_string().contains("not found"), "{error}");
    let error = Delegate::find("whereabouts", &[]).unwrap_err();
    assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
    assert!(error.msg.contains("CNI_PATH"), "{error}");
}

#[test]
fn r37_the_delegate_gets_our_environment_and_our_whole_input() {
    let directory = Directory::new();
    let fake = directory.script(
        "cat /proc/$$/environ >$D/environ; echo $PPID >$D/parent; cat >$D/stdin; echo '{}'",
    );
    let stdin = br#"{"name":"n","ipam":{"type":"fake"},"unknown":[1,2]}"#;
    let result = fake.invoke(&Command::Del, &environment(), stdin, AMPLE).unwrap();
    assert_eq!(result, Some(json!({})));
    assert_eq!(directory.text("stdin").as_bytes(), stdin);
    let environ = directory.text("environ");
    // The tests' own CNI_PLUGIN_DIR is none of the protocol's.
    let protocol = |var: &&str| var.starts_with("CNI_") && !var.starts_with("CNI_PLUGIN_DIR=");
    let mut ours: Vec<&str> = environ.split_terminator('\0').filter(protocol).collect();
    ours.sort_unstable();
    // Each exactly once, the verb overridden, unknown arguments made harmless.
    assert_eq!(
        ours,
        [
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web",
            "CNI_COMMAND=DEL",
            "CNI_CONTAINERID=c1",
            "CNI_IFNAME=eth0",
            "CNI_NETNS=/var/run/netns/t",
            "CNI_PATH=/b:/a",
        ]
    );
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    assert!(environ.split_terminator('\0').any(|var| var == path), "{environ}");
    // No process between us and it.
    assert_eq!(directory.text("parent").trim(), process::id().to_string());
}

#[test]
fn r37_what_the_runtime_left_unset_stays_unset() {
    let mut bare = environment();
    (bare.netns, bare.args) = (String::new(), Args::default());
    bare.path.clear();
    let names: Vec<_> = variables(&Command::Gc, &bare).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"]);
}

#[test]
fn r74_a_delegate_gets_arguments_that_it_can_read() {
    for (given, told) in [
        ("A=1", "IgnoreUnknown=1;A=1"),
        ("IgnoreUnknown=0;A=1", "IgnoreUnknown=1;A=1"),
        ("B=;IgnoreUnknown=true;A=1;IgnoreUnknown=1", "IgnoreUnknown=1;B=;A=1"),
        ("FOO;A=1;;B=1=2;C=3;", "IgnoreUnknown=1;A=1;C=3"),
        ("FOO", "IgnoreUnknown=1"),
    ] {
        let environment = Environment { args: Args::parse(given), ..environment() };
        let variables = variables(&Command::Del, &environment);
        assert!(variables.contains(&("CNI_ARGS", told.into())), "{given}: {variables:?}");
    }
}

#[test]
fn r38_an_error_keeps_its_code_and_says_whose_it_is() {
    let directory = Directory::new();
    let fake = directory.script(
        r#"echo '{"cniVersion":"1.0.0","code":117,"msg":"pool is empty","details":"10.0.0.0/30"}'; exit 1"#,
    );
    let error = add(&fake, b"{}").unwrap_err();
    let expected = Error::new(Code(117), "fake: pool is empty").details("10.0.0.0/30");
    assert_eq!(error, expected);
}

#[test]
fn r06_a_failed_add_is_never_an_unknown_container() {
    let directory = Directory::new();
    let fake = directory.script(r#"echo '{"code":3,"msg":"who?"}'; exit 1"#);
    assert_eq!(add(&fake, b"{}").unwrap_err().code, Code::DELEGATE);
    let error = fake.invoke(&Command::Check, &environment(), b"{}", AMPLE).unwrap_err();
    assert_eq!(error.code, Code(3));
}

#[test]
fn r38_a_failure_without_an_error_object_is_told_in_the_words_of_stderr() {
    let directory = Directory::new();
    let fake = directory.script("printf 'no cheese\\n\\033[2J' >&2; exit 3");
    let error = add(&fake, b"{}").unwrap_err();
    assert!(error.msg.contains(r#"exit status: 3), saying "no cheese\n\u{1b}[2J""#), "{error}");
}

#[test]
fn what_is_not_json_is_quoted() {
    let directory = Directory::new();
    for (body, verb, expected) in [
        ("echo out of cheese; exit 3", Command::Add, "out of cheese"),
        ("exit 3", Command::Del, "exit status: 3"),
        ("kill -9 $$", Command::Del, "signal: 9"),
        ("echo '{\"half\":'; exit 1", Command::Add, "half"),
        ("echo '{}'; exit 1", Command::Del, "{}"),
        ("echo all is well", Command::Add, "all is well"),
        ("exit 0", Command::Add, "printed no result"),
        ("echo", Command::Version, "printed no result"),
    ] {
        let fake = directory.script(body);
        let error = fake.invoke(&verb, &environment(), b"{}", AMPLE).unwrap_err();
        assert_eq!(error.code, Code::DELEGATE, "{body}: {error}");
        assert!(error.msg.starts_with("fake: ") && error.msg.contains(expected), "{body}: {error}");
    }
}

#[test]
fn r53_only_add_and_version_have_to_speak() {
    let directory = Directory::new();
    for verb in [Command::Del, Command::Check, Command::Gc, Command::Status] {
        for body in ["exit 0", "echo all is well"] {
            let fake = directory.script(body);
            assert_eq!(fake.invoke(&verb, &environment(), b"{}", AMPLE), Ok(None), "{verb}");
        }
    }
}

#[test]
fn a_program_that_cannot_run_is_named() {
    let directory = Directory::new();
    let fake = directory.script("");
    fs::set_permissions(&fake.binary, fs::Permissions::from_mode(0o644)).unwrap();
    let denied = add(&fake, b"{}").unwrap_err();
    fs::set_permissions(&fake.binary, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&fake.binary, "#!/nonexistent/interpreter\n").unwrap();
    let absent = fake.invoke(&Command::Del, &environment(), b"{}", AMPLE).unwrap_err();
    for (error, words) in [(denied, "Permission denied"), (absent, "interpreter is missing")] {
        assert_eq!(error.code, Code::DELEGATE);
        assert!(error.msg.contains(&fake.binary.display().to_string()), "{error}");
        assert!(error.msg.contains(words), "{error}");
        // A runtime takes a DEL with these words for done.
        let text = error.to_string().to_lowercase();
        assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");
    }
}

#[test]
fn r34_an_add_gives_a_result_in_the_version_that_was_assumed() {
    let directory = Directory::new();
    let fake = directory.script(r#"echo '{"ip4": {"ip": "10.0.0.2/24"}}'"#);
    let result = fake.add(&environment(), b"{}", Version::V0_2_0, AMPLE).unwrap();
    assert_eq!(result.ips.len(), 1);
    assert!(result.interfaces.is_empty());
    assert_eq!(result.ips[0].interface, None);
}

#[test]
fn r40_a_failed_add_is_followed_by_a_del() {
    let directory = Directory::new();
    let log = "echo $CNI_COMMAND >>$D/log; [ $CNI_COMMAND = DEL ] && exit 0;";
    for (body, expected) in [
        (r#"echo '{"code":11,"msg":"later"}'; exit 1"#, "fake: later"),
        ("exit 0", "printed no result"),
        (r#"echo '{"ips":[{"address":"10.0.0.2"}]}'"#, "fake: result: ips[0].address"),
    ] {
        let fake = directory.script(&format!("{log} {body}"));
        let error = fake.add(&environment(), b"{}", Version::V1_1_0, AMPLE).unwrap_err();
        assert!(error.msg.contains(expected), "{error}");
        assert_eq!(directory.text("log"), "ADD\nDEL\n");
        fs::remove_file(directory.0.join("log")).unwrap();
    }
    let fake = directory.script(&format!("{log} echo '{{}}'"));
    fake.add(&environment(), b"{}", Version::V1_1_0, AMPLE).unwrap();
    assert_eq!(directory.text("log"), "ADD\n");
}

#[test]
fn r42_a_failed_cleanup_does_not_hide_the_cause() {
    let directory = Directory::new();
    let fake =
        directory.script(r#"echo "{\"code\":120,\"msg\":\"no $CNI_COMMAND today\"}"; exit 1"#);
    let error = fake.add(&environment(), b"{}", Version::V1_1_0, AMPLE).unwrap_err();
    assert_eq!(error.code, Code(120));
    assert_eq!(error.msg, "fake: no ADD today; fake: no DEL today");
}

#[test]
fn r68_a_status_that_is_unknown_is_no_failure() {
    let directory = Directory::new();
    let status = |body: &str| {
        directory
            .script(body)
            .status(&environment(), b"{}", Version::V1_1_0, AMPLE)
            .map_err(|error| error.code)
    };
    let says = |json: &str| format!("echo '{json}'; exit 1");
    assert_eq!(status("exit 0"), Ok(()));
    for tolerated in [
        r#"{"code":4,"msg":"unknown CNI_COMMAND: STATUS"}"#,
        r#"{"code":4,"msg":"Unknown command STATUS"}"#,
        r#"{"code":1,"msg":"incompatible CNI versions"}"#,
    ] {
        assert_eq!(status(&says(tolerated)), Ok(()), "{tolerated}");
    }
    for (refused, code) in [
        (r#"{"code":50,"msg":"pool is full"}"#, Code::UNAVAILABLE),
        (r#"{"code":4,"msg":"required env variables [CNI_PATH] missing"}"#, Code(4)),
        ("who knows", Code::DELEGATE),
    ] {
        assert_eq!(status(&says(refused)), Err(code), "{refused}");
    }
}

#[test]
fn a_plugin_too_old_for_the_configuration_fails_the_status() {
    let directory = Directory::new();
    let body = |versions: &str, answer: &str| {
        format!(
            r#"if [ $CNI_COMMAND = VERSION ]; then echo '{{"supportedVersions":{versions}}}'; exit 0; fi
               echo '{answer}'; exit 1"#
        )
    };
    // Of one that checks the version first, and of one that checks the verb first.
    for answer in [
        r#"{"code":1,"msg":"incompatible CNI versions"}"#,
        r#"{"code":4,"msg":"unknown CNI_COMMAND: STATUS"}"#,
    ] {
        let status = |versions: &str, version| {
            let fake = directory.script(&body(versions, answer));
            fake.status(&environment(), b"{}", version, AMPLE)
        };
        let old = r#"["0.4.0","1.0.0"]"#;
        let error = status(old, Version::V1_1_0).unwrap_err();
        assert_eq!(error.code, Code::UNAVAILABLE, "{answer}");
        assert!(error.msg.contains("fake: speaks CNI 0.4.0, 1.0.0"), "{error}");
        assert!(error.msg.contains("1.1.0") && error.details.contains("cniVersions"), "{error}");
        assert_eq!(status(r#"["1.0.0","1.1.0"]"#, Version::V1_1_0), Ok(()), "{answer}");
        assert_eq!(status("7", Version::V1_1_0), Ok(()), "one that does not know VERSION");
    }
}

#[test]
fn every_delegate_is_told_who_called_it() {
    let directory = Directory::new();
    let fake = directory.script("echo \"\\\"$MANX_DELEGATED\\\"\"");
    assert_eq!(add(&fake, b"{}").unwrap(), Some(json!("1")));
}

#[test]
fn a_plugin_is_this_program_by_any_link() {
    let directory = Directory::new();
    let own = std::env::current_exe().unwrap();
    let find = |name: &str| Delegate::find(name, std::slice::from_ref(&directory.0)).unwrap();
    std::os::unix::fs::symlink(&own, directory.0.join("symbolic")).unwrap();
    assert!(find("symbolic").is_this_program());
    directory.script("");
    assert!(!find("fake").is_this_program());
    // Where the directory is on another file system there is no hard link.
    if fs::hard_link(&own, directory.0.join("hard")).is_ok() {
        assert!(find("hard").is_this_program());
    }
}

/// The lint that forbids unsafe code is only as good as its exceptions.
#[test]
fn one_file_alone_may_be_unsafe() {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path).unwrap().contains(concat!("allow(", "unsafe_code)"))
            {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert_eq!(found, [root.join("cni/delegate/spawn.rs")]);
}
