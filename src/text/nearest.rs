// SPDX-License-Identifier: Apache-2.0
//! Which known word somebody meant.

use crate::list::Gather;

/// `: did you mean X?`, or nothing where no known word is near.
pub fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!(": did you mean {near}?")).unwrap_or_default()
}

/// The known word that differs least from `word`, if it differs in no more than
/// a third of it. Case does not count.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let limit = (folded.len() / 3).max(1);
    let near = known.filter_map(|candidate| {
        let other = fold(candidate);
        let same_start = folded.len() >= 3 && other.starts_with(&folded);
        let distance = distance(&folded, &other);
        (distance <= limit || same_start).then_some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).gather()
}

/// Insertions, deletions, replacements and swaps of neighbours (the restricted
/// Damerau-Levenshtein distance).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=other.len()).gather();
    for (row, from) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in other.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&previous, column) + usize::from(from != to);
            let inserted = at(&current, column) + 1;
            let deleted = at(&previous, column + 1) + 1;
            let mut least = replaced.min(inserted).min(deleted);
            let swapped = row > 0
                && column > 0
                && one.get(row - 1) == Some(to)
                && other.get(column - 1) == Some(from);
            if swapped {
                least = least.min(at(&before, column - 1) + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(one: &str, other: &str) -> usize {
        distance(&fold(one), &fold(other))
    }

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "mtu", 3),
            ("mtu", "", 3),
            ("mtu", "MTU", 0),
            ("mut", "mtu", 1),
            ("ipMsq", "ipMasq", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(between(one, other), expected, "{one} {other}");
            assert_eq!(between(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = || ["mtu", "mtuMode", "mode", "peersFile", "ipMasq"].into_iter();
        assert_eq!(nearest("mtumode", known()), Some("mtuMode"));
        assert_eq!(nearest("mut", known()), Some("mtu"));
        assert_eq!(nearest("peers", known()), Some("peersFile"));
        assert_eq!(nearest("ipmasquerade", known()), None);
        assert_eq!(nearest("x", known()), None);
        assert_eq!(nearest("", known()), None);
    }
}
