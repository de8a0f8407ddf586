//! Delegates that hang, flood, close their pipes or leave somebody behind.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Instant;

use super::*;

/// A process that must end, and is ended with the test if it does not.
struct Pid(i32);

impl Pid {
    /// Waits for a script to write a process id.
    fn written(directory: &Directory, name: &str) -> Self {
        let mut pid = None;
        until(|| {
            let text = fs::read_to_string(directory.0.join(name)).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|text| text.parse().ok());
            pid.is_some()
        });
        Self(pid.unwrap())
    }

    fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    fn kill(&self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}

impl Drop for Pid {
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
        }
    }
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + AMPLE;
    while !condition() {
        assert!(Instant::now() < end, "still not so after {AMPLE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_megabyte_of_input_is_read_whole() {
    let directory = Directory::new();
    let fake = directory.script("echo \"{\\\"read\\\": $(wc -c)}\"");
    let stdin = vec![b' '; 1 << 20];
    assert_eq!(add(&fake, &stdin).unwrap(), Some(json!({"read": 1 << 20})));
}

#[test]
fn a_megabyte_of_input_may_be_ignored() {
    let directory = Directory::new();
    for body in ["echo '{}'", "exec <&-; echo '{}'", "head -c 10 >/dev/null; echo '{}'"] {
        let fake = directory.script(body);
        assert_eq!(add(&fake, &vec![b' '; 1 << 20]).unwrap(), Some(json!({})), "{body}");
    }
}

#[test]
fn output_before_input_is_no_deadlock() {
    let directory = Directory::new();
    let fake = directory
        .script("printf '\"'; head -c 1000000 /dev/zero | tr '\\0' x; printf '\"'; cat >/dev/null");
    let value = add(&fake, &vec![b' '; 1 << 20]).unwrap().unwrap();
    assert_eq!(value.as_str().map(str::len), Some(1_000_000));
}

#[test]
fn endless_output_ends() {
    let directory = Directory::new();
    let error = add(&directory.script("exec yes"), b"{}").unwrap_err();
    assert_eq!(error.code, Code::DELEGATE);
    assert!(error.msg.contains("16777216 bytes"), "{error}");
}

#[test]
fn a_deadline_ends_the_delegate_and_all_that_it_started() {
    // The first has a child that holds the pipes, the second closed them all,
    // the third listens to nobody.
    let bodies = [
        "sleep 1000 & echo $! >$D/child; echo $$ >$D/self; wait",
        "exec </dev/null >/dev/null; sleep 1000 & echo $! >$D/child; echo $$ >$D/self; wait",
        "trap '' TERM INT HUP; sleep 1000 & echo $! >$D/child; echo $$ >$D/self; wait",
    ];
    let limit = Duration::from_secs(2);
    let ends = |body: &str| {
        let directory = Directory::new();
        let fake = directory.script(body);
        let start = Instant::now();
        let error = fake.invoke(&Command::Add, &environment(), b"{}", limit).unwrap_err();
        assert!(start.elapsed() >= limit && start.elapsed() < AMPLE, "{:?}", start.elapsed());
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.msg.contains("fake: ADD took longer than 2s"), "{error}");
        for name in ["self", "child"] {
            let pid = Pid::written(&directory, name);
            until(|| !pid.is_alive());
        }
    };
    thread::scope(|scope| {
        for body in bodies {
            scope.spawn(move || ends(body));
        }
    });
}

#[test]
fn a_grandchild_that_holds_the_pipes_is_not_waited_for() {
    let directory = Directory::new();
    let fake = directory.script("sleep 1000 & echo $! >$D/child; echo '{\"a\": 1}'");
    let start = Instant::now();
    assert_eq!(add(&fake, b"{}").unwrap(), Some(json!({"a": 1})));
    assert!(start.elapsed() < AMPLE, "{:?}", start.elapsed());
    // Nor is it killed: a delegate may start a daemon.
    assert!(Pid::written(&directory, "child").is_alive());
}

#[test]
fn a_delegate_dies_with_us() {
    const TEST: &str = "running::a_delegate_dies_with_us";
    if let Some(fake) = role() {
        // Killed before it comes back.
        let _ = add(&fake, b"{}");
        return;
    }
    let directory = Directory::new();
    directory.script("echo $$ >$D/self; exec sleep 1000");
    let mut parent =
        in_process(TEST, &directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let delegate = Pid::written(&directory, "self");
    assert!(delegate.is_alive());
    parent.kill().unwrap();
    assert_eq!(parent.wait().unwrap().signal(), Some(9));
    until(|| !delegate.is_alive());
}

#[test]
fn r18_a_program_that_is_being_written_is_waited_for() {
    let directory = Directory::new();
    let fake = directory.script("echo '{}'");
    let writer = fs::File::options().append(true).open(&fake.binary).unwrap();
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let error = fake.invoke(&Command::Add, &environment(), b"{}", limit).unwrap_err();
    assert!(error.msg.contains("Text file busy"), "{error}");
    assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
    thread::scope(|scope| {
        let run = scope.spawn(|| add(&fake, b"{}"));
        drop(writer);
        assert_eq!(run.join().unwrap().unwrap(), Some(json!({})));
    });
}
