//! The manx binary: a CNI plugin when `CNI_COMMAND` is set and there are no
//! arguments, a command-line tool otherwise.

use std::{
    env,
    io::{self, Read, Write},
    panic,
    process::ExitCode,
};

use manx::{
    cli,
    cni::{Code, Error, Version},
    verb::{self, Role},
};
use serde_json::Value;

/// Most configurations are shorter, in bytes: they come by one read.
const STDIN_BYTES: usize = 4096;

/// musl's own allocator asks the kernel for each growth and gives back each
/// shrinking: an ADD with a local configuration makes 113 calls of mmap, munmap
/// and brk and takes 210 page faults, with this one 5 and 81, and 3.7 ms instead
/// of 4.9. With glibc (83 faults, 4.1 ms) it changes nothing that can be
/// measured, so it serves both. Nothing is allocated between fork and exec,
/// which it could not bear where there are threads (`cni/delegate/spawn.rs`).
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
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

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(STDIN_BYTES);
    io::stdin().lock().read_to_end(&mut bytes)?;
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
