// SPDX-License-Identifier: Apache-2.0
//! How long ago something was, for a table.

use std::time::Duration;

use crate::list::Gather;

/// A length of time in its two largest units.
pub(super) fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m")];
    let mut words: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .gather();
    words.push(format!("{}s", seconds % 60));
    words.truncate(2);
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_two_units() {
        for (seconds, words) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90061, "1d1h")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
