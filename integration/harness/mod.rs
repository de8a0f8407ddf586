// SPDX-License-Identifier: Apache-2.0
//! What the integration tests share: network namespaces, a node made of one,
//! and a way to run a plugin as a runtime does.
//!
//! It is included by path in each test crate (`#[path = "../harness/mod.rs"]
//! mod harness;`). It must not know manx: everything here drives a binary
//! through the CNI interface and looks at the kernel through `ip`, so that a
//! fault in manx cannot hide itself. Nothing is made on the machine: namespaces
//! are open files that go with the process, directories are removed on drop.
//!
//! ```ignore
//! let host = Host::new();
//! let pod = Pod::new("a");
//! let plugin = Plugin::new(&host, env!("CARGO_BIN_EXE_manx")).config(json!({…}));
//! let result = plugin.add(&pod).ok();
//! let links = pod.netns.ip(&["link"]);
//! ```

// Each test crate uses its own part of this module, in code that clippy does
// not recognise as a test; a failed expectation here is a failed test.
#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod host;
mod netns;
pub mod packet;
mod plugin;
mod process;
pub mod schema;
mod scratch;
mod strace;
mod uninterrupted;

use std::thread;
use std::time::{Duration, Instant};

pub use host::{Host, connect};
pub use netns::Netns;
pub use plugin::{Call, Plugin, Pod, Reply, plugin_dir};
pub use process::{Finished, Stdin, run};
pub use scratch::Scratch;
pub use strace::transactions;
pub use uninterrupted::uninterrupted;

/// How long anything may take before it counts as hung: a command, an answer, or what the kernel does
/// in its own time. Long, for only a failing test waits for it, and the machine may have much else to do.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The same for the arguments of ping, in seconds.
pub const PING_SECONDS: &str = "60";

/// Asks `condition` until it holds, at most for `limit`. True if it held.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
