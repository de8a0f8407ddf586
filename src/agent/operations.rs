// SPDX-License-Identifier: Apache-2.0
//! Counts the plugin's calls as they end.

use std::{sync::Arc, thread, time::Duration};

use super::status::Status;
use crate::state::{Root, operations::Operations};

/// How soon to try again where there can be no pipe.
const AGAIN: Duration = Duration::from_secs(60);

/// Counts, and comes to no end.
pub(crate) fn count(root: &Root, status: &Arc<Status>) -> ! {
    let mut told = String::new();
    loop {
        let error = match Operations::open(root) {
            Ok(operations) => read(operations, status),
            Err(error) => error,
        };
        let words = format!("calls of the plugin are not counted: {error}");
        if words != told {
            log::warn!("{words}");
            told = words;
        }
        thread::sleep(AGAIN);
    }
}

/// Why there is nothing more to read.
fn read(mut operations: Operations, status: &Status) -> std::io::Error {
    loop {
        match operations.wait() {
            Ok(ended) => ended.iter().for_each(|operation| status.ended(operation)),
            Err(error) => return error,
        }
    }
}
