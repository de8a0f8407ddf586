// SPDX-License-Identifier: Apache-2.0
//! What the targets share: an allocator that counts, a directory for state files, and how one
//! input is several.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use manx::state::Root;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs it, and refuses that it held more than so many bytes at once.
pub fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let done = run();
    let held = MOST.load(Relaxed).saturating_sub(before);
    assert!(held <= bytes, "it held {held} bytes, and may hold {bytes}");
    done
}

/// A root for state files, in the directory for temporary files.
pub fn root() -> &'static Root {
    static ROOT: LazyLock<(PathBuf, Root)> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("manx-fuzz-{}", std::process::id()));
        (path.clone(), Root::new(path))
    });
    &ROOT.1
}

/// The first byte, which chooses, and what is behind it.
pub fn chosen(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// The text before the first byte that no text has, and what is behind.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0xff)
}

/// Whether a document has a number that is no integer: its digits may differ when it is
/// written and read again.
pub fn has_fraction(value: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match value {
        Number(number) => number.is_f64(),
        Array(all) => all.iter().any(has_fraction),
        Object(members) => members.values().any(has_fraction),
        _ => false,
    }
}
