// SPDX-License-Identifier: Apache-2.0
//! The ids of checks, which are an interface.

use super::*;
use crate::finding::why;

#[test]
fn every_check_has_an_id_of_its_own() {
    for (place, check) in CHECKS.iter().enumerate() {
        assert!(CHECKS.iter().skip(place + 1).all(|other| other.id != check.id), "{}", check.id);
        assert!(!why(check.id).is_empty(), "{}: why it matters", check.id);
    }
}

#[test]
fn the_table_of_the_page_has_every_check() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let (_, table) = page.split_once("| check | what it finds |\n|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: Vec<&str> = rows.map(|(id, _)| id).collect();
    let mut ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
    ids.sort_unstable();
    assert_eq!(rows, ids);
}
