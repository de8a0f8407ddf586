// SPDX-License-Identifier: Apache-2.0
//! A reader of pages that is stricter than a browser: every element is one that a page of ours
//! has, each is closed, every attribute is in double quotes, and nothing leads elsewhere.

use std::collections::BTreeSet;

const ELEMENTS: &str = "a article b body br circle code dd defs details div dl dt footer g h1 h2 h3 \
    h4 head header html li main meta nav ol p path rect section span style summary svg symbol table \
    tbody td text th thead title tr use";
const ATTRIBUTES: &str = "aria-hidden aria-label charset class content cx cy d height href http-equiv \
    id lang name open r role rx scope tabindex text-anchor viewBox width x y";
const VOID: [&str; 2] = ["meta", "br"];

/// What a page has.
#[derive(Debug, Default)]
pub(super) struct Markup {
    /// All text that is shown, with a space between elements.
    pub(super) text: String,
    /// How often an element begins.
    pub(super) elements: Vec<String>,
    links: BTreeSet<String>,
    ids: BTreeSet<String>,
}

impl Markup {
    /// Reads a page, and fails where it is not as it should be.
    pub(super) fn read(page: &str) -> Self {
        let strange = |c: &char| c.is_control() && *c != '\n';
        assert_eq!(page.chars().find(strange), None, "a control character");
        let mut markup = Self::default();
        let mut open: Vec<String> = Vec::new();
        let mut rest = page.strip_prefix("<!doctype html>").unwrap();
        while !rest.is_empty() {
            let (text, tag) = rest.split_once('<').unwrap_or((rest, ""));
            if open.last().is_some_and(|name| name == "style") {
                assert!(tag.starts_with("/style>"), "{tag:.80}");
            } else {
                markup.text.push_str(&plain(text));
                markup.text.push(' ');
            }
            if tag.is_empty() {
                break;
            }
            // No value has one that is not escaped.
            let (tag, after) = tag.split_once('>').unwrap();
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed at {after:.80}");
                continue;
            }
            let (tag, is_closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert!(is_one(name, ELEMENTS), "element {name}");
            markup.attributes(attributes);
            markup.elements.push(name.to_owned());
            if !is_closed && !VOID.contains(&name) {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
        let lost: Vec<&String> = markup.links.difference(&markup.ids).collect();
        assert!(lost.is_empty(), "nothing has these ids: {lost:?}");
        markup
    }

    fn attributes(&mut self, mut rest: &str) {
        while !rest.trim_start().is_empty() {
            rest = rest.trim_start();
            let end = rest.find(['=', ' ']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            assert!(is_one(name, ATTRIBUTES), "attribute {name}");
            let Some(after) = after.strip_prefix('=') else {
                assert_eq!(name, "open", "an attribute without a value");
                rest = after;
                continue;
            };
            let (value, after) = after.strip_prefix('"').unwrap().split_once('"').unwrap();
            assert!(after.is_empty() || after.starts_with(' '), "behind {value}: {after}");
            let value = plain(value);
            match name {
                "href" => drop(self.links.insert(value.strip_prefix('#').unwrap().to_owned())),
                "id" => assert!(self.ids.insert(value.clone()), "two elements are {value}"),
                _ => {}
            }
            rest = after;
        }
    }

    pub(super) fn count(&self, element: &str) -> usize {
        self.elements.iter().filter(|one| *one == element).count()
    }
}

fn is_one(word: &str, of: &str) -> bool {
    of.split_whitespace().any(|one| one == word)
}

/// The text that is meant.
fn plain(text: &str) -> String {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, after) = part.split_once(';').unwrap();
        plain.push_str(match name {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            other => panic!("&{other};"),
        });
        plain.push_str(after);
    }
    assert!(!text.contains('>'), "{text}");
    plain
}
