//! One run of one program, timed from its start to the moment its end is known.
//!
//! It knows no plugin and no namespace: the caller's thread is where the program
//! is to run. Nothing that is not the program's own happens between the two
//! readings of the clock: its input is a file, and its output fits into a pipe
//! that is read afterwards.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Call;
use crate::wait::{self, Ended};

/// A program with all that it is given.
#[derive(Clone, Debug)]
pub struct Job {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The file that is its standard input; none is `/dev/null`.
    pub stdin: Option<PathBuf>,
    /// Where standard output goes if it may be more than a pipe holds.
    pub output: Option<PathBuf>,
}

/// What one run took and said.
#[derive(Clone, Debug)]
pub struct Sample {
    pub wall: Duration,
    pub user: Duration,
    pub system: Duration,
    pub stdout: String,
}

impl Sample {
    /// Processor time of the process and of those it waited for.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

impl Job {
    /// A plugin's call, whose configuration is in this file.
    pub fn of_call(call: &Call, stdin: PathBuf) -> Self {
        let command = call.command();
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let env = command.get_envs();
        Self {
            program: command.get_program().into(),
            args: Vec::new(),
            env: env.map(|(key, value)| (text(key), text(value.unwrap_or_default()))).collect(),
            stdin: Some(stdin),
            output: None,
        }
    }

    /// The same behind another program, with these arguments before its own.
    #[must_use]
    pub fn behind(&self, program: &Path, args: &[&str]) -> Self {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        all.push(self.program.display().to_string());
        all.extend(self.args.iter().cloned());
        Self { program: program.into(), args: all, ..self.clone() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().cloned());
        command.stdin(match &self.stdin {
            Some(path) => open(path).into(),
            None => Stdio::null(),
        });
        command.stderr(Stdio::piped()).stdout(match &self.output {
            Some(path) => create(path).into(),
            None => Stdio::piped(),
        });
        command
    }

    /// Runs it in the caller's namespace.
    ///
    /// # Panics
    /// If it cannot be started or does not succeed, with what it said: a time
    /// of something that failed is no measurement.
    #[track_caller]
    pub fn run(&self) -> Sample {
        self.finish(start(self.command()))
    }

    #[track_caller]
    fn finish(&self, (begin, mut child): (Instant, Child)) -> Sample {
        let ended = wait::wait(&child).expect("wait for a child");
        let wall = begin.elapsed();
        let stdout = text(child.stdout.take());
        let stderr = text(child.stderr.take());
        let Ended { status, user, system, .. } = ended;
        assert!(status == 0, "{self:#?}\nended with {status}: {stdout}\n{stderr}");
        Sample { wall, user, system, stdout }
    }
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn start(mut command: Command) -> (Instant, Child) {
    let begin = Instant::now();
    let child =
        command.spawn().unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
    (begin, child)
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    stream.map(|mut stream| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs all jobs at once, each started by a thread of its own once all are
/// ready. Gives the samples in order, and the time until the last one ended.
pub fn at_once(jobs: &[Job]) -> (Vec<Sample>, Duration) {
    let ready = Barrier::new(jobs.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| {
                let ready = &ready;
                scope.spawn(move || {
                    let command = job.command();
                    ready.wait();
                    let sample = job.finish(start(command));
                    (sample, Instant::now())
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        let ended: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a run that ended")).collect();
        let last = ended.iter().map(|(_, end)| *end).max().unwrap_or(begin);
        (ended.into_iter().map(|(sample, _)| sample).collect(), last - begin)
    })
}
