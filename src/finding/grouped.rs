// SPDX-License-Identifier: Apache-2.0
//! Findings that say the same of several objects.

use std::collections::BTreeMap;

use super::Finding;

/// Findings that differ in their object alone are one group,
/// in the order of the first of each.
pub fn grouped<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<Vec<&'a Finding>> {
    let mut places = BTreeMap::new();
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let place = *places.entry(key(finding)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

/// What is said of any such object: `link cali1` is called `cali1` too.
fn key(finding: &Finding) -> (&str, [String; 3]) {
    let Finding { id, object, evidence, fix, undo, .. } = finding;
    let name = object.rsplit(' ').next().unwrap_or_default();
    let of_any = |text: &String| match name.is_empty() {
        true => text.clone(),
        false => text.replace(name, "\u{0}"),
    };
    (id, [evidence, fix, undo].map(of_any))
}
