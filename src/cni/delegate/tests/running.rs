// SPDX-License-Identifier: Apache-2.0
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
    assert!(error.msg.contains("1048576 bytes"), "{error}");
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
    let limit = Duration::from_secs(5);
    let ends = |body: &str| {
        let directory = Directory::new();
        let fake = directory.script(body);
        let start = Instant::now();
        let error = fake.invoke(&Command::Add, &environment(), b"{}", limit).unwrap_err();
        assert!(start.elapsed() >= limit && start.elapsed() < AMPLE, "{:?}", start.elapsed());
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.msg.contains("fake: ADD took longer than 5s"), "{error}");
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
fn who_is_left_of_a_delegate_that_ended_is_ended() {
    // The first child holds the pipes, the second has closed them; both belong to
    // a delegate that succeeded. The third is that of one that failed.
    for body in [
        "sleep 1000 & echo $! >$D/child; echo '{\"a\": 1}'",
        "echo '{\"a\": 1}'; (exec >&- 2>&- </dev/null; exec sleep 1000) & echo $! >$D/child",
        "sleep 1000 & echo $! >$D/child; exit 1",
    ] {
        let directory = Directory::new();
        let fake = directory.script(body);
        let start = Instant::now();
        let answer = add(&fake, b"{}");
        assert!(body.ends_with("exit 1") || answer == Ok(Some(json!({"a": 1}))), "{answer:?}");
        assert!(start.elapsed() < AMPLE, "{:?}", start.elapsed());
        let child = Pid::written(&directory, "child");
        until(|| !child.is_alive());
    }
}

#[test]
fn a_daemon_that_left_the_group_lives_on() {
    let directory = Directory::new();
    let body = "setsid sh -c 'echo $$ >$1; exec sleep 1000' sh $D/child >/dev/null 2>&1 &\n\
                until [ -s $D/child ]; do sleep 0.01; done; echo '{}'";
    let fake = directory.script(body);
    assert_eq!(add(&fake, b"{}"), Ok(Some(json!({}))));
    assert!(Pid::written(&directory, "child").is_alive());
}

#[test]
fn endless_words_on_stderr_neither_hang_nor_fill_the_memory() {
    let directory = Directory::new();
    let fake = directory.script("head -c 3000000 /dev/zero >&2; echo '{}'");
    assert_eq!(add(&fake, b"{}"), Ok(Some(json!({}))));
    let fake = directory.script("exec yes >&2");
    let limit = Duration::from_millis(300);
    let error = fake.invoke(&Command::Add, &environment(), b"{}", limit).unwrap_err();
    assert_eq!(error.code, Code::TRY_AGAIN, "{error}");
}

#[test]
fn a_text_of_very_many_values_is_not_read() {
    let directory = Directory::new();
    for (item, command) in [("[],", Command::Add), ("{\"\":0},", Command::Del)] {
        for end in ["0]'; exit 0", "0]'; exit 1"] {
            let body = format!("printf '['; yes '{item}' | head -n 70000; echo '{end}");
            let error = directory.script(&body).invoke(&command, &environment(), b"{}", AMPLE);
            let error = error.unwrap_err();
            assert_eq!(error.code, Code::DELEGATE, "{error}");
            assert!(error.to_string().len() < 2000, "{}", error.to_string().len());
        }
    }
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
