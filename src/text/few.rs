// SPDX-License-Identifier: Apache-2.0
//! Lists of which nobody wants to read all.

use crate::list::Gather;

/// How many names are given of many.
const NAMES_MAX: usize = 3;
/// How many reasons an error gives.
const REASONS_MAX: usize = 5;

/// The first few of many names, and how many more there are.
pub fn some_of<T: ToString>(names: &[T]) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let few = first(names, NAMES_MAX, ", ");
    if more == 0 { few } else { format!("{few} and {more} more") }
}

/// The first few of many reasons, and how many more there are.
pub fn first_of(reasons: &[String]) -> String {
    let more = reasons.len().saturating_sub(REASONS_MAX);
    let few = first(reasons, REASONS_MAX, "; ");
    if more == 0 { few } else { format!("{few}; and {more} more") }
}

fn first<T: ToString>(all: &[T], count: usize, between: &str) -> String {
    all.iter().take(count).map(T::to_string).gather().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_few_are_told() {
        let names = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned);
        assert_eq!(some_of(&names[..0]), "");
        assert_eq!(some_of(&names[..3]), "a, b, c");
        assert_eq!(some_of(&names[..5]), "a, b, c and 2 more");
        assert_eq!(first_of(&names[..2]), "a; b");
        assert_eq!(first_of(&names), "a; b; c; d; e; and 2 more");
    }
}
