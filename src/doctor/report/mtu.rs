// SPDX-License-Identifier: Apache-2.0
//! Where the MTU of each node's pods comes from.

use std::{
    collections::HashMap,
    fmt::{self, Write},
};

use super::{
    html::{CLOSE_TABLE, count, joined, open_table, remark, row},
    view::View,
};
use crate::list::Gather;
use crate::text::few::some_of;

/// From more nodes on those with the same numbers have one row.
const SINGLE_MAX: usize = 8;
/// So many rows are shown.
const ROWS_MAX: usize = 100;

/// Family, device, its MTU, overhead, what is left, and what pods get.
type Numbers = [String; 6];

/// A row of each node, or of each that differs.
pub(super) fn draw(out: &mut String, views: &[View]) -> fmt::Result {
    let headers = ["Node", "Family", "Device", "Its MTU", "− Overhead", "= For pods", "Pods get"];
    open_table(out, "MTU of each node", &headers)?;
    let rows = rows(views);
    for (names, [family, device, whole, overhead, left, get]) in rows.iter().take(ROWS_MAX) {
        let names = some_of(names);
        row(out, &[&names, family, device, whole, overhead, left, get])?;
    }
    out.write_str(CLOSE_TABLE)?;
    match rows.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => remark(out, &count(more, "more row.", "more rows.")),
    }
}

fn rows(views: &[View]) -> Vec<(Vec<&str>, Numbers)> {
    let mut places: HashMap<Numbers, usize> = HashMap::new();
    let mut rows: Vec<(Vec<&str>, Numbers)> = Vec::new();
    for view in views {
        for numbers in numbers(view) {
            let place = match views.len() > SINGLE_MAX {
                true => *places.entry(numbers.clone()).or_insert(rows.len()),
                false => rows.len(),
            };
            match rows.get_mut(place) {
                Some((names, _)) => names.push(&view.name),
                None => rows.push((vec![&view.name], numbers)),
            }
        }
    }
    rows
}

fn numbers(view: &View) -> Vec<Numbers> {
    let get: Vec<&str> = view.networks.iter().filter_map(|net| net.mtu.as_deref()).gather();
    let get = joined(&get);
    let sizes = view.ways.iter().flat_map(|way| &way.sizes);
    let numbers = sizes.map(|size| {
        let configured = if size.configured.is_some() { " (configured)" } else { "" };
        [
            size.family.to_string(),
            size.uplink.device.clone(),
            size.uplink.mtu.to_string(),
            size.overhead.to_string(),
            format!("{}{configured}", size.mtu()),
            get.clone(),
        ]
    });
    let numbers: Vec<Numbers> = numbers.gather();
    match numbers.is_empty() {
        true => vec![["-", "-", "-", "-", "-", &get].map(str::to_owned)],
        false => numbers,
    }
}
