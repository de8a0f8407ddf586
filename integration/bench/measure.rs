// SPDX-License-Identifier: Apache-2.0
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
use std::sync::{Barrier, RwLock};
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
    /// Where all that it prints goes if that may be more than a pipe holds: nobody reads a pipe before the
    /// program's end, and a full one would keep it from ending.
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
        let [stdout, stderr] = match &self.output {
            Some(path) => both(&create(path)).map(Stdio::from),
            None => [Stdio::piped(), Stdio::piped()],
        };
        command.stdout(stdout).stderr(stderr);
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
        let kept = |path| text(Some(open(path)).filter(|_| status != 0));
        let kept = self.output.as_deref().map(kept).unwrap_or_default();
        assert!(status == 0, "{self:#?}\nended with {status}: {stdout}{kept}\n{stderr}");
        Sample { wall, user, system, stdout }
    }
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One place in a file for what is written by either of two.
fn both(file: &File) -> [File; 2] {
    [(); 2].map(|()| file.try_clone().expect("one more descriptor"))
}

fn start(command: Command) -> (Instant, Child) {
    let begin = Instant::now();
    (begin, spawn(command))
}

fn spawn(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()))
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    stream.map(|mut stream| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Many runs that were asked for at the same moment.
#[derive(Clone, Debug)]
pub struct Burst {
    /// In the order of the jobs; each from that moment until its end.
    pub samples: Vec<Sample>,
    /// From that moment until the last one ended.
    pub took: Duration,
}

impl Burst {
    /// Runs a second.
    pub fn per_second(&self) -> f64 {
        self.samples.len() as f64 / self.took.as_secs_f64()
    }

    /// Processor time a second of all runs together: how many processors were
    /// busy with them.
    pub fn processors(&self) -> f64 {
        let spent: Duration = self.samples.iter().map(Sample::cpu).sum();
        spent.as_secs_f64() / self.took.as_secs_f64()
    }
}

/// Runs all jobs at once, each started by a thread of its own.
///
/// There is one beginning for all of them: the clock is read while every thread
/// is ready and none can go on. With fewer processors than jobs a thread may be
/// scheduled long after that, also the one that reads the clock: read later, the
/// time would lack what others did meanwhile, and each job's the time that it
/// waited for its turn.
pub fn at_once(jobs: &[Job]) -> Burst {
    let ready = Barrier::new(jobs.len() + 1);
    let gate = RwLock::new(Instant::now());
    let samples: Vec<Sample> = thread::scope(|scope| {
        let mut closed = gate.write().expect("nobody else has it yet");
        let threads: Vec<_> = jobs
            .iter()
            .map(|job| {
                let (ready, gate) = (&ready, &gate);
                scope.spawn(move || {
                    let command = job.command();
                    ready.wait();
                    let begin = *gate.read().expect("whoever had it goes on");
                    job.finish((begin, spawn(command)))
                })
            })
            .collect();
        ready.wait();
        *closed = Instant::now();
        drop(closed);
        threads.into_iter().map(|thread| thread.join().expect("a run that ended")).collect()
    });
    let took = samples.iter().map(|sample| sample.wall).max().unwrap_or_default();
    Burst { samples, took }
}
