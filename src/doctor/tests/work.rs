// SPDX-License-Identifier: Apache-2.0
//! How much a function does.

use std::{fs, thread::yield_now};

/// The time that the processor has for a function in nanoseconds, the least of five: waits for
/// a processor are not in it.
pub(in crate::doctor) fn work(function: impl Fn()) -> u64 {
    let spent = || -> u64 {
        // The kernel counts as it takes a processor away.
        yield_now();
        let counted = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        counted.split(' ').next().unwrap().parse().unwrap()
    };
    let one = || {
        let before = spent();
        function();
        spent() - before
    };
    (0..5).map(|_| one()).min().unwrap()
}
