// SPDX-License-Identifier: Apache-2.0
//! Calling another plugin, as a rule an IPAM plugin (SPEC 1.1.0, "Plugin
//! Delegation").
//!
//! It exists because a delegate is a stranger: it may hang, print prose, ignore
//! its input, or fail after it has allocated. What comes back from here is a
//! result or an error in its own words, in bounded time, and no process. What a
//! delegate is asked for and when is the verbs' business.

use crate::list::Gather;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use log::Level;
use serde_json::Value;

use super::env::split_path;
use super::json::member;
use super::{AddResult, Code, Command, Environment, Error, Version, cidr};

mod exec;
#[cfg(fuzzing)]
pub mod fuzzing;
mod spawn;
#[cfg(test)]
mod tests;

pub(crate) use exec::{Beside, printed};
use exec::{Failure, Output};

/// How much of a delegate's unreadable output an error repeats, in characters.
const MAX_QUOTE_CHARS: usize = 300;

/// As many lines of a delegate's standard error are logged.
const MAX_SAID_LINES: usize = 50;

/// As many values may be in what a delegate prints: one of two bytes takes some
/// hundred times as much memory.
const MAX_VALUES: usize = 1 << 16;

/// Variable that every delegate finds in its environment. A plugin of this
/// program that finds it was called by itself, by whichever name.
pub const DELEGATED: &str = "MANX_DELEGATED";

/// The specification's error for a container that does not exist, upon which a
/// runtime may leave out the DEL.
const UNKNOWN_CONTAINER: Code = Code(3);

/// Key of `CNI_ARGS` that makes the reference plugins overlook unknown ones
/// (CONVENTIONS.md, "CNI_ARGS").
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// A plugin that was found on the search path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegate {
    /// The `type` of the configuration.
    pub plugin_type: String,
    /// Its program.
    pub binary: PathBuf,
}

impl Delegate {
    /// Finds the plugin of a `type`: the first regular file of that name in the
    /// directories of `CNI_PATH`. Whether it is executable shows when it runs.
    ///
    /// # Errors
    /// Code 7 for a type that is empty or holds a `/`; code 4 if there is no
    /// search path; code 103 naming the type and the directories if it is in none.
    pub fn find(plugin_type: &str, path: &[PathBuf]) -> Result<Self, Error> {
        if plugin_type.is_empty() || plugin_type.contains('/') {
            return Err(Error::new(
                Code::INVALID_CONFIG,
                format!("type {plugin_type:?} is not the name of a plugin"),
            )
            .details("a type is a file name without directories, looked for in CNI_PATH"));
        }
        if path.is_empty() {
            return Err(Error::new(
                Code::INVALID_ENVIRONMENT,
                format!("CNI_PATH is missing, which plugin {plugin_type:?} is looked for in"),
            )
            .details("the container runtime sets it to its directories of CNI plugins"));
        }
        match path.iter().map(|directory| directory.join(plugin_type)).find(|path| path.is_file()) {
            Some(binary) => Ok(Self { plugin_type: plugin_type.to_owned(), binary }),
            // Not "not found": a runtime takes a DEL that says so for done.
            None => Err(Error::new(
                Code::DELEGATE,
                format!("no plugin {plugin_type:?} in CNI_PATH {}", list(path)),
            )
            .details("install that plugin there, or correct the type in the configuration")),
        }
    }

    /// Runs the plugin for `command`, with `stdin`, which is our own input whole,
    /// and with our own environment, overlaid with `environment`. Returns the
    /// JSON that it printed, if any. The beginning of its stderr is logged. It
    /// gets `limit` of time. When it has ended, or its time has, whoever is left
    /// of its process group is killed; only what left the group (setsid(2)), as
    /// daemons do, lives on. It is killed as well when the calling thread ends.
    ///
    /// # Errors
    /// The delegate's own error with its code, its type before the message. Code
    /// 11 when it took too long; code 103 when it could not be run, or when what
    /// it said makes no sense.
    pub fn invoke(
        &self,
        command: &Command,
        environment: &Environment,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<Option<Value>, Error> {
        let mut child = self.prepare(command, environment);
        self.understand(exec::run(&mut child, stdin, limit), command, limit)
    }

    /// Its program with what it is told by its environment.
    fn prepare(&self, command: &Command, environment: &Environment) -> process::Command {
        let mut child = process::Command::new(&self.binary);
        child.env(DELEGATED, "1");
        for (name, value) in variables(command, environment) {
            child.env(name, value);
        }
        child
    }

    /// What came of a run.
    fn understand(
        &self,
        run: exec::Run,
        command: &Command,
        limit: Duration,
    ) -> Result<Option<Value>, Error> {
        let exec::Run { outcome, said } = run;
        let succeeded = outcome.as_ref().is_ok_and(|output| output.status.success());
        self.relay(&said, if succeeded { Level::Info } else { Level::Error });
        let output = outcome.map_err(|failure| self.explain(&failure, command, limit))?;
        if succeeded {
            self.read(&output.stdout, command)
        } else {
            Err(self.refusal(&output, &said, command))
        }
    }

    /// Logs what a run said on its standard error.
    fn relay(&self, said: &[u8], level: Level) {
        let text = String::from_utf8_lossy(said);
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        for line in lines.by_ref().take(MAX_SAID_LINES) {
            log::log!(level, "{}: {line}", self.plugin_type);
        }
        if lines.next().is_some() {
            log::log!(level, "{}: and more lines, left out", self.plugin_type);
        }
    }

    /// Whether the plugin is this very program, by whichever name or link. A copy
    /// is not told by this; it finds [`DELEGATED`].
    pub fn is_this_program(&self) -> bool {
        let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
        let own = identity(Path::new("/proc/self/exe"));
        own.is_some() && own == identity(&self.binary)
    }

    /// The versions of the specification that the plugin says it speaks.
    ///
    /// # Errors
    /// As [`Delegate::invoke`]; code 103 for an answer without a list.
    pub fn versions(
        &self,
        environment: &Environment,
        limit: Duration,
    ) -> Result<Vec<String>, Error> {
        let mut all = Self::versions_of(&[self], environment, limit);
        all.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The same of several plugins, which run at once: they have `limit` together.
    ///
    /// # Errors
    /// Of each as [`Delegate::versions`].
    pub fn versions_of(
        plugins: &[&Self],
        environment: &Environment,
        limit: Duration,
    ) -> Vec<Result<Vec<String>, Error>> {
        let stdin = serde_json::json!({"cniVersion": Version::NEWEST.as_str()}).to_string();
        let command = Command::Version;
        let programs = plugins.iter().map(|plugin| plugin.prepare(&command, environment));
        let runs = exec::run_all(&mut programs.collect::<Vec<_>>(), stdin.as_bytes(), limit);
        let told = plugins.iter().zip(runs).map(|(plugin, run)| {
            let answer = plugin.understand(run, &command, limit)?;
            let list = answer.as_ref().and_then(|answer| member(answer, "supportedVersions"));
            let texts = list.and_then(Value::as_array).map(|list| {
                list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            });
            texts.ok_or_else(|| plugin.fault(&command, "answered without supportedVersions"))
        });
        told.gather()
    }

    /// Runs an ADD and reads its result, which is of version `assumed` unless it
    /// says otherwise. A failed ADD may have allocated, so a DEL follows it, with
    /// as much time again.
    ///
    /// Not for a container that may be alive already: that DEL would release
    /// its address.
    ///
    /// # Errors
    /// The cause, as [`Delegate::try_add`] has it, and after it whatever the DEL
    /// had to say.
    pub fn add(
        &self,
        environment: &Environment,
        stdin: &[u8],
        assumed: Version,
        limit: Duration,
    ) -> Result<AddResult, Error> {
        self.try_add(environment, stdin, assumed, limit).map_err(|cause| {
            let undo = self.invoke(&Command::Del, environment, stdin, limit).err();
            let errors = [cause.clone()].into_iter().chain(undo).gather();
            Error::join(errors).unwrap_or(cause)
        })
    }

    /// Runs an ADD that the caller undoes if it fails.
    ///
    /// # Errors
    /// As [`Delegate::invoke`] or [`AddResult::decode`] have it; code 101 for an
    /// IPv4-mapped address, which would be read as another one.
    pub fn try_add(
        &self,
        environment: &Environment,
        stdin: &[u8],
        assumed: Version,
        limit: Duration,
    ) -> Result<AddResult, Error> {
        let value = self.invoke(&Command::Add, environment, stdin, limit)?.unwrap_or_default();
        if let Some(mapped) = mapped_address(&value) {
            let what = "an IPv4-mapped address (::ffff:0:0/96), which no pod can have";
            let error = Error::new(Code::CONFLICT, format!("IPAM gave {mapped}, {what}"));
            return Err(self.sign(error.details("give the pod the IPv4 address itself")));
        }
        AddResult::decode(&value, assumed).map_err(|error| self.sign(error))
    }

    /// Runs a STATUS. A plugin that knows no such verb has nothing against an ADD,
    /// if it speaks the `version` of the configuration at all.
    ///
    /// # Errors
    /// As [`Delegate::invoke`]; code 50 for a plugin that is too old.
    pub fn status(
        &self,
        environment: &Environment,
        stdin: &[u8],
        version: Version,
        limit: Duration,
    ) -> Result<(), Error> {
        match self.invoke(&Command::Status, environment, stdin, limit) {
            Ok(_) => return Ok(()),
            Err(error) if !status_unsupported(&error) => return Err(error),
            Err(_) => {}
        }
        // One that cannot say what it speaks is older than the question.
        let Ok(spoken) = self.versions(environment, limit) else { return Ok(()) };
        if spoken.iter().any(|spoken| spoken == version.as_str()) {
            return Ok(());
        }
        let msg =
            format!("speaks CNI {}, and the configuration is of {version}", spoken.join(", "));
        let binary = self.binary.display();
        Err(self.sign(Error::new(Code::UNAVAILABLE, msg)).details(format!(
            "install a newer {binary}, or offer only versions that it speaks in cniVersion and \
             cniVersions"
        )))
    }

    /// What a successful run printed. Only ADD and VERSION have something to say;
    /// elsewhere noise is nothing worse.
    fn read(&self, stdout: &[u8], command: &Command) -> Result<Option<Value>, Error> {
        let needed = matches!(command, Command::Add | Command::Version);
        if values(stdout) > MAX_VALUES {
            let what = format!("printed more than {MAX_VALUES} values, which is no result");
            return Err(self.fault(command, &what));
        }
        match serde_json::from_slice(stdout) {
            Ok(value) => Ok(Some(value)),
            Err(_) if !needed => Ok(None),
            Err(_) if stdout.trim_ascii().is_empty() => {
                Err(self.fault(command, "succeeded and printed no result"))
            }
            Err(error) => {
                let text = quote(stdout);
                Err(self.fault(command, &format!("printed what is not JSON ({error}): {text}")))
            }
        }
    }

    /// The error of a run that failed.
    fn refusal(&self, output: &Output, said: &[u8], command: &Command) -> Error {
        let small = values(&output.stdout) <= MAX_VALUES;
        let told = small.then(|| serde_json::from_slice(&output.stdout).ok()).flatten();
        if let Some(mut error) = told.as_ref().and_then(Error::decode) {
            // To repeat this would tell the runtime that no DEL is due, while the
            // delegate may well hold an address (SPEC 1.1.0, "Error").
            if *command == Command::Add && error.code == UNKNOWN_CONTAINER {
                error.code = Code::DELEGATE;
            }
            return self.sign(error);
        }
        let status = output.status;
        if output.stdout.trim_ascii().is_empty() {
            let words = match said.trim_ascii() {
                [] => String::new(),
                said => format!(", saying {}", quote(said)),
            };
            return self
                .fault(command, &format!("failed without an error on stdout ({status}){words}"));
        }
        self.fault(command, &format!("failed ({status}): {}", quote(&output.stdout)))
    }

    fn explain(&self, failure: &Failure, command: &Command, limit: Duration) -> Error {
        let binary = self.binary.display();
        match failure {
            Failure::Deadline => Error::new(
                Code::TRY_AGAIN,
                format!(
                    "{}: {command} took longer than {limit:?} and was killed",
                    self.plugin_type
                ),
            )
            .details(format!("find out what {binary} waits for")),
            Failure::Flood => self.fault(
                command,
                &format!("printed more than {} bytes and was killed", exec::MAX_OUTPUT_BYTES),
            ),
            // The kernel says "No such file" of a script whose interpreter is not
            // there, and a runtime takes a DEL with these words for done.
            Failure::Start(error) if error.kind() == ErrorKind::NotFound => {
                self.fault(command, &format!("cannot run {binary}: its interpreter is missing"))
            }
            Failure::Start(error) => self.fault(command, &format!("cannot run {binary}: {error}")),
            Failure::Io(error) => self.fault(command, &format!("talking to {binary}: {error}")),
        }
    }

    fn fault(&self, command: &Command, what: &str) -> Error {
        self.sign(Error::new(Code::DELEGATE, format!("{command} {what}")))
            .details(format!("the plugin is {}", self.binary.display()))
    }

    /// Says whose error it is.
    fn sign(&self, mut error: Error) -> Error {
        error.msg = format!("{}: {}", self.plugin_type, error.msg);
        error
    }
}

/// Whether a STATUS failed merely for being unknown: a verb that the plugin never
/// heard of, or a version in which it does not exist. Plugins older than 1.1.0
/// answer so. A code of its own there is for the version alone: of what else is wrong
/// with the environment, a verb is told apart by the words, in another's program.
pub fn status_unsupported(error: &Error) -> bool {
    match error.code {
        Code::INCOMPATIBLE_VERSION => true,
        Code::INVALID_ENVIRONMENT => error.msg.to_ascii_lowercase().contains("command"),
        _ => false,
    }
}

/// What differs from our own environment, for the child: the verb, and whatever
/// `environment` says other than the runtime did.
fn variables(command: &Command, environment: &Environment) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![
        ("CNI_COMMAND", command.as_str().into()),
        ("CNI_CONTAINERID", OsString::from(&environment.container_id)),
        ("CNI_NETNS", namespace(&environment.netns)),
        ("CNI_IFNAME", OsString::from(&environment.ifname)),
    ];
    variables.push(("CNI_ARGS", arguments(environment.args.text()).into()));
    let inherited = std::env::var_os("CNI_PATH").unwrap_or_default();
    if split_path(&inherited) != environment.path {
        // A part came from splitting at colons, so that joining cannot fail.
        variables.push(("CNI_PATH", std::env::join_paths(&environment.path).unwrap_or_default()));
    }
    // Where the runtime set nothing, the delegate finds nothing set.
    variables.retain(|(name, value)| !value.is_empty() || std::env::var_os(name).is_some());
    variables
}

/// The namespace to name to a delegate. The reference plugins open it, which takes
/// for ever where somebody put a FIFO there.
fn namespace(path: &str) -> OsString {
    let waits = fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    if waits { OsString::new() } else { path.into() }
}

/// `CNI_ARGS` as a delegate can read it. The reference IPAM plugins fail, a DEL
/// too, on a key that they do not know and on a part that is not one key, one
/// `=` and one value; runtimes add keys as they please. So the former are
/// declared harmless, as Calico does for its delegates, whatever the runtime says
/// of them, and the latter are left out.
fn arguments(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let readable = |pair: &&str| {
        pair.matches('=').count() == 1 && !pair.starts_with(&format!("{IGNORE_UNKNOWN}="))
    };
    let ignore = format!("{IGNORE_UNKNOWN}=1");
    [&*ignore].into_iter().chain(text.split(';').filter(readable)).collect::<Vec<_>>().join(";")
}

/// How many JSON values a text holds at most, by the characters that part them.
fn values(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count()
}

/// The first IPv4-mapped address of a result, as it is written.
fn mapped_address(result: &Value) -> Option<&str> {
    let list = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let listed = list.filter_map(|ip| ip.get("address")?.as_str());
    let single = result.get("ip6").and_then(|ip| ip.get("ip")?.as_str());
    listed.chain(single).find(|text| cidr::is_mapped(text))
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut quoted: String = text.trim().chars().take(MAX_QUOTE_CHARS).collect();
    if text.trim().chars().count() > MAX_QUOTE_CHARS {
        quoted.push('…');
    }
    format!("{quoted:?}")
}

fn list(path: &[PathBuf]) -> String {
    path.iter().map(|directory| Path::display(directory).to_string()).collect::<Vec<_>>().join(":")
}
