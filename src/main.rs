// SPDX-License-Identifier: Apache-2.0
//! The manx binary: a CNI plugin when `CNI_COMMAND` is set and there are no
//! arguments, a command-line tool otherwise.

use std::{
    collections::TryReserveError,
    env,
    hint::black_box,
    io::{self, Read, Write},
    panic,
    process::ExitCode,
};

use manx::{
    cli,
    cni::{Code, Error, Version},
    verb::{self, Role},
};
use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

/// Most configurations are shorter, in bytes: they come by one read.
const STDIN_BYTES: usize = 4096;
/// No configuration is longer, in bytes: what is endless is not read to its end.
const STDIN_BYTES_MAX: u64 = 16 << 20;

/// More than a verb needs on a node of some hundred peers, in bytes. The allocator
/// asks the kernel for it at once and keeps it, so that a node without memory, or a
/// runtime with a limit (RLIMIT_AS), is told before anything has been done: what
/// fails later ends the process without a word.
const MEMORY_BYTES: usize = 1 << 20;

/// musl's own allocator asks the kernel for each growth and gives back each
/// shrinking: an ADD with a local configuration makes 113 calls of mmap, munmap
/// and brk and takes 210 page faults, with this one 5 and 81, and 3.7 ms instead
/// of 4.9. With glibc (83 faults, 4.1 ms) it changes nothing that can be
/// measured, so it serves both. Nothing is allocated between fork and exec,
/// which it could not bear where there are threads (`cni/delegate/spawn.rs`).
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    // First, so that the allocator asks the kernel for nothing else.
    let reserved = reserve_memory();
    // A file that may not grow (RLIMIT_FSIZE), such as a log's, costs what was to be
    // written and not this process.
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGXFSZ);
    let _ = ignored.thread_block();
    let is_plugin = env::var_os("CNI_COMMAND").is_some_and(|verb| !verb.is_empty());
    if env::args_os().len() > 1 || !is_plugin {
        return cli::run(env::args_os());
    }
    panic::set_hook(Box::new(|panic| {
        let error = Error::new(Code::INTERNAL, format!("internal error: {panic}"))
            .details("this is a bug of manx: please report it with this text");
        let _ = print(&error.encode(Version::NEWEST));
        std::process::exit(1);
    }));
    if reserved.is_err() {
        let error = Error::new(Code::TRY_AGAIN, "the kernel gives this process no memory")
            .details("see free, and the memory limits of the container runtime (RLIMIT_AS)");
        let _ = print(&error.encode(Version::NEWEST));
        return ExitCode::FAILURE;
    }
    let program = env::args_os().next().unwrap_or_default();
    match verb::run(
        Role::of_program(program.as_ref()),
        |name| env::var_os(name),
        read_stdin,
        &print,
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, version)) => {
            let _ = print(&error.encode(version));
            ExitCode::FAILURE
        }
    }
}

fn reserve_memory() -> Result<(), TryReserveError> {
    let mut memory = Vec::<u8>::new();
    memory.try_reserve_exact(MEMORY_BYTES)?;
    // The compiler leaves out what nobody looks at.
    black_box(&memory);
    Ok(())
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(STDIN_BYTES);
    let length = io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > STDIN_BYTES_MAX {
        let words = format!("it is longer than {STDIN_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}

/// The only place that writes to the runtime: one JSON document per call.
fn print(document: &Value) -> io::Result<()> {
    let mut line = document.to_string();
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}
