// SPDX-License-Identifier: Apache-2.0
//! Which line of the files of sysctl.d sets a parameter (sysctl.d(5)).

use crate::node::Assignment;

/// The line that holds: of those that name the parameter the last one, else of those with
/// a pattern, unless a line keeps patterns off.
pub fn assigned<'a>(key: &str, all: &'a [Assignment]) -> Option<&'a Assignment> {
    let named = all.iter().rev().find(|one| one.key == key);
    let by_pattern = || all.iter().rev().find(|one| matches(&one.key, key));
    match named {
        Some(one) => one.value.is_some().then_some(one),
        None => by_pattern().filter(|one| one.value.is_some()),
    }
}

/// The path below /proc/sys that a file of sysctl.d means: where the first separator is a
/// dot, dots part the names, and slashes stand for dots.
pub fn key_of(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..)) {
        Some(rest) if rest.starts_with('.') => {
            let other = |c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            };
            name.chars().map(other).collect()
        }
        _ => name.to_owned(),
    }
}

/// As sysctl(8) takes it: with slashes where a link's name has dots.
pub fn dotted(key: &str) -> String {
    if key.contains('.') { key.to_owned() } else { key.replace('/', ".") }
}

/// Stars and question marks stand for anything but what parts names. The last star alone
/// is tried again, so that many of them take no more time than the square of the lengths.
fn matches(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.chars(), key.chars());
    let mut star = None;
    loop {
        let (mut wanted, mut left) = (pattern.clone(), key.clone());
        match (wanted.next(), left.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((wanted.clone(), key.clone()));
                pattern = wanted;
                continue;
            }
            (Some('?'), Some(c)) if c != '/' => {
                (pattern, key) = (wanted, left);
                continue;
            }
            (Some(one), Some(c)) if one == c => {
                (pattern, key) = (wanted, left);
                continue;
            }
            _ => {}
        }
        // The star takes one more.
        let Some((behind, mut taken)) = star.take() else { return false };
        if taken.next().is_none_or(|c| c == '/') {
            return false;
        }
        (pattern, key) = (behind.clone(), taken.clone());
        star = Some((behind, taken));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_names_it_holds_and_then_the_last_pattern() {
        let line = |key: &str, value: &str| Assignment {
            key: key_of(key),
            value: (value != "-").then(|| value.to_owned()),
            ..Assignment::default()
        };
        let key = "net/ipv4/conf/eth0/rp_filter";
        let (named, pattern) = ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.*.rp_filter");
        for (lines, expected) in [
            (vec![], None),
            (vec![(named, "1"), (named, "2")], Some("2")),
            (vec![(named, "1"), (pattern, "2")], Some("1")),
            (vec![(pattern, "1"), ("net.ipv4.conf.e*.rp_filter", "2")], Some("2")),
            (vec![("net.ipv4.*.rp_filter", "1")], None),
            (vec![("net/ipv4/conf/eth?/rp_filter", "1")], Some("1")),
            (vec![(named, "-"), (pattern, "2")], None),
            (vec![("net.ipv4.conf.all.rp_filter", "2")], None),
        ] {
            let all: Vec<_> = lines.iter().map(|(key, value)| line(key, value)).collect();
            let found = assigned(key, &all).and_then(|one| one.value.as_deref());
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn patterns_of_many_stars_take_no_longer_than_others() {
        let key = format!("net/{}", "a".repeat(200));
        let stars = |count: usize, end: &str| format!("net/{}{end}", "*a".repeat(count));
        for (pattern, expected) in [
            (stars(40, "*"), true),
            (stars(40, "b"), false),
            (stars(201, ""), false),
            ("*".repeat(300), false),
            (format!("*/{}", "*".repeat(300)), true),
            ("net?*".to_owned(), false),
            ("net/?*?".to_owned(), true),
        ] {
            assert_eq!(matches(&pattern, &key), expected, "{pattern}");
        }
        assert!(matches("", "") && matches("*", "") && !matches("?", "") && !matches("", "a"));
    }

    #[test]
    fn the_first_separator_says_what_dots_are() {
        for (name, key) in [
            ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("kernel", "kernel"),
            ("", ""),
        ] {
            assert_eq!(key_of(name), key);
        }
    }
}
