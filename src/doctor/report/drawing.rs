// SPDX-License-Identifier: Apache-2.0
//! The drawing of a cluster: nodes with their pods, what carries packets between them,
//! and where that is broken. Twice, for a wide page and for a narrow one.

use std::{
    cmp::Reverse,
    fmt::{self, Write},
};

use super::{
    cluster::{Cluster, End, Other},
    fault::{Fault, faults},
    html::{Mark, Text, count, cut, joined, remark},
    view::{Pod, View},
};
use crate::list::{Gather, Ordered, distinct};

/// So many nodes with a bundle are drawn, and so many without.
const VIEWS_MAX: usize = 16;
const OTHERS_MAX: usize = 6;
/// So many nodes that have trouble with many others are told.
const FOLDED_MAX: usize = 12;

/// Sizes in the unit of the drawing.
const HEIGHT: usize = 116;
const HEIGHT_HOLLOW: usize = 58;
const GAP: usize = 18;
const TOP: usize = 34;
/// Room for the word beside a name.
const STATE_WIDTH: usize = 72;
/// A sign of a fault at the edge of a node: its distance from the top, and from the next.
const SIGN_TOP: usize = 36;
const SIGN_STEP: usize = 20;

/// Where things are.
struct Frame {
    class: &'static str,
    width: usize,
    card: usize,
    /// The left edges of the columns.
    columns: &'static [usize],
    /// The middle of the line that stands for the network between nodes.
    bus: usize,
    /// Characters of a line of a node.
    line: usize,
    /// So many pods are drawn of each node.
    pods: usize,
}

const FRAMES: [Frame; 2] = [
    Frame {
        class: "broad",
        width: 920,
        card: 370,
        columns: &[0, 550],
        bus: 460,
        line: 46,
        pods: 14,
    },
    Frame { class: "narrow", width: 360, card: 290, columns: &[70], bus: 8, line: 36, pods: 8 },
];

/// What is drawn at one place.
struct Card<'a> {
    what: What<'a>,
    end: Option<End>,
    x: usize,
    y: usize,
    height: usize,
}

enum What<'a> {
    View(&'a View),
    Other(&'a Other),
    /// Nodes that are not drawn.
    Rest(String),
}

/// Draws it, with what is wrong below.
pub(super) fn draw(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let faults = faults(cluster);
    let (ends, rest) = chosen(cluster, &faults.drawn);
    for frame in &FRAMES {
        let cards = placed(cluster, frame, &ends, &rest);
        svg(out, cluster, frame, &cards, &faults.drawn)?;
    }
    if !cluster.domain.is_empty() {
        remark(out, &format!("All names end with {}.", cluster.domain))?;
    }
    out.write_str("<p class=\"legend\">Squares are pods: filled up, hollow down, crossed without a link, dashed unnoted. A dashed box is a node that gave no bundle.</p>\n")?;
    if !faults.drawn.is_empty() {
        out.write_str("<ol class=\"faults\">\n")?;
        for Fault { from, to, text } in &faults.drawn {
            let (from, to) = (cluster.name(*from), cluster.name(*to));
            writeln!(out, "<li><b>{} → {}</b>: {}</li>", Text(from), Text(to), Text(text))?;
        }
        out.write_str("</ol>\n")?;
    }
    for words in faults.folded.iter().take(FOLDED_MAX) {
        writeln!(out, "<p class=\"faults\">{}</p>", Text(words))?;
    }
    match faults.folded.len().saturating_sub(FOLDED_MAX) {
        0 => Ok(()),
        more => remark(out, &format!("The same of {}.", count(more, "more node", "more nodes"))),
    }
}

/// Who is drawn, and in words who is not.
fn chosen(cluster: &Cluster, faults: &[Fault]) -> (Vec<End>, Vec<String>) {
    let is_told = |end: End| faults.iter().any(|fault| [fault.from, fault.to].contains(&end));
    let mut views: Vec<usize> = (0..cluster.views.len()).gather();
    let worst = |place: &usize| {
        let view = cluster.views.get(*place);
        let counts = view.map_or((0, 0), |view| (view.errors, view.warnings));
        Reverse((is_told(End::View(*place)), counts))
    };
    if views.len() > VIEWS_MAX {
        views.order_by_key(worst);
    }
    let mut others: Vec<usize> = (0..cluster.others.len()).gather();
    let degraded = |place: &usize| {
        let degraded = cluster.others.get(*place).map_or(0, |other| other.degraded);
        Reverse((is_told(End::Other(*place)), degraded))
    };
    others.order_by_key(degraded);
    let mut rest = Vec::new();
    if views.len() > VIEWS_MAX {
        let more = count(views.len() - VIEWS_MAX, "more node", "more nodes");
        rest.push(format!("{more} with a bundle"));
    }
    if others.len() > OTHERS_MAX {
        let more = count(others.len() - OTHERS_MAX, "more node", "more nodes");
        rest.push(format!("{more} without a bundle"));
    }
    views.truncate(VIEWS_MAX);
    others.truncate(OTHERS_MAX);
    views.order();
    let views = views.into_iter().map(End::View);
    (views.chain(others.into_iter().map(End::Other)).gather(), rest)
}

/// Each in the column that ends first.
fn placed<'a>(cluster: &'a Cluster, frame: &Frame, ends: &[End], rest: &[String]) -> Vec<Card<'a>> {
    let nodes = ends.iter().filter_map(|end| {
        let what = match *end {
            End::View(place) => What::View(cluster.views.get(place)?),
            End::Other(place) => What::Other(cluster.others.get(place)?),
        };
        Some((what, Some(*end)))
    });
    let rest = rest.iter().map(|words| (What::Rest(words.clone()), None));
    let mut bottoms: Vec<(usize, usize)> = frame.columns.iter().map(|x| (TOP, *x)).gather();
    let cards = nodes.chain(rest).filter_map(|(what, end)| {
        let height = if matches!(what, What::View(_)) { HEIGHT } else { HEIGHT_HOLLOW };
        let (bottom, x) = bottoms.iter_mut().min()?;
        let y = *bottom;
        *bottom += height + GAP;
        Some(Card { what, end, x: *x, y, height })
    });
    cards.gather()
}

fn svg(
    out: &mut String,
    cluster: &Cluster,
    frame: &Frame,
    cards: &[Card<'_>],
    faults: &[Fault],
) -> fmt::Result {
    let Frame { class, width, bus, card: breadth, line, .. } = frame;
    let height = cards.iter().map(|card| card.y + card.height).max().unwrap_or(TOP) + 6;
    let label = carried(cluster);
    writeln!(
        out,
        r#"<svg class="drawing {class}" viewBox="0 0 {width} {height}" role="img" aria-label="nodes and what carries packets between them">"#
    )?;
    let (anchor, at) = if *bus < 100 { ("start", 0) } else { ("middle", *bus) };
    let shown = cut(&label, line + 8);
    writeln!(
        out,
        r#"<text class="carrier" x="{at}" y="16" text-anchor="{anchor}">{}</text>"#,
        Text(&shown)
    )?;
    writeln!(out, r#"<path class="bus" d="M{bus} {}V{}"/>"#, TOP - 8, height - 6)?;
    for card in cards {
        let edge = inner_edge(card, *breadth, *bus);
        let y = card.y + 16;
        let kind = if matches!(card.what, What::View(_)) { "spoke" } else { "spoke unknown" };
        writeln!(out, r#"<path class="{kind}" d="M{bus} {y}H{edge}"/>"#)?;
    }
    for card in cards {
        let Card { x, y, height, .. } = card;
        writeln!(out, r#"<svg x="{x}" y="{y}" width="{breadth}" height="{height}">"#)?;
        let name = card.end.map_or("", |end| cluster.short(end));
        match &card.what {
            What::View(view) => draw_view(out, view, name, frame)?,
            What::Other(other) => draw_other(out, other, name, frame)?,
            What::Rest(words) => {
                hollow(out, *breadth)?;
                line_of(out, "fact", 33, words, *line)?;
            }
        }
        out.write_str("</svg>\n")?;
    }
    arrows(out, frame, cards, faults)?;
    out.write_str("</svg>\n")
}

/// The edge of a node that looks at the network between nodes.
fn inner_edge(card: &Card<'_>, breadth: usize, bus: usize) -> usize {
    if card.x < bus { card.x + breadth } else { card.x }
}

/// What carries packets between the nodes, in words.
fn carried(cluster: &Cluster) -> String {
    let told: Vec<&str> =
        cluster.views.iter().flat_map(|view| &view.ways).map(|way| way.told.as_str()).gather();
    let told = distinct(told);
    match told.as_slice() {
        [] => "no list of nodes".to_owned(),
        ["direct"] => "direct: plain routes".to_owned(),
        [one] => (*one).to_owned(),
        _ => "the nodes differ: see above".to_owned(),
    }
}

fn line_of(out: &mut String, class: &str, y: usize, text: &str, max: usize) -> fmt::Result {
    let text = cut(text, max);
    writeln!(out, r#"<text class="{class}" x="14" y="{y}">{}</text>"#, Text(&text))
}

fn draw_view(out: &mut String, view: &View, name: &str, frame: &Frame) -> fmt::Result {
    let Frame { card: breadth, line, pods: drawn, .. } = *frame;
    let mark = view.mark().class();
    let (width, height) = (breadth - 2, HEIGHT - 2);
    writeln!(
        out,
        r#"<rect class="card {mark}" x="1" y="1" width="{width}" height="{height}" rx="6"/>"#
    )?;
    writeln!(
        out,
        r##"<g class="mark {mark}"><use href="#{mark}" x="14" y="10" width="14" height="14"/></g>"##
    )?;
    let name = fitting(name, breadth - 49 - STATE_WIDTH);
    writeln!(out, r#"<text class="name" x="35" y="22">{}</text>"#, Text(&name))?;
    let end = breadth - 14;
    writeln!(
        out,
        r#"<text class="state" x="{end}" y="22" text-anchor="end">{}</text>"#,
        view.state.as_str()
    )?;
    line_of(out, "fact", 42, &joined(&view.own_addresses()), line)?;
    line_of(out, "fact", 59, &format!("pods {}", joined(&view.pod_cidrs())), line)?;
    let devices = view.ways.iter().flat_map(|way| {
        let sizes =
            way.sizes.iter().map(|size| format!("{} {}", size.uplink.device, size.uplink.mtu));
        let devices = way.devices.iter().map(|one| format!("{} {}", one.name, one.mtu));
        sizes.chain(devices)
    });
    let mut devices: Vec<String> = devices.gather();
    let mut told = Vec::new();
    devices.retain(|one| {
        let is_new = !told.contains(one);
        told.push(one.clone());
        is_new
    });
    line_of(out, "fact", 76, &format!("MTU {}", joined(&devices)), line)?;
    pods(out, &view.pods, drawn, end)
}

/// Those first that are not up.
fn pods(out: &mut String, pods: &[Pod], drawn: usize, end: usize) -> fmt::Result {
    let (up, other): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| pod.state == "up");
    for (place, pod) in other.iter().chain(&up).take(drawn).enumerate() {
        let (x, state, name) = (14 + place * 13, pod.state, Text(&pod.name));
        write!(
            out,
            r#"<g class="pod {state}"><title>{name} {state}</title><rect x="{x}" y="89" width="10" height="10" rx="2"/>"#
        )?;
        if state == "missing" {
            write!(out, r#"<path d="M{x} 89l10 10m0-10l-10 10"/>"#)?;
        }
        out.write_str("</g>")?;
    }
    let words = match pods.len() {
        more if more > drawn => {
            format!("+{} of {}", more - drawn, count(more, "pod", "pods"))
        }
        all => count(all, "pod", "pods"),
    };
    writeln!(out, r#"<text class="fact" x="{end}" y="98" text-anchor="end">{words}</text>"#)
}

fn hollow(out: &mut String, breadth: usize) -> fmt::Result {
    let (width, height) = (breadth - 2, HEIGHT_HOLLOW - 2);
    writeln!(
        out,
        r#"<rect class="card hollow" x="1" y="1" width="{width}" height="{height}" rx="6"/>"#
    )
}

fn draw_other(out: &mut String, other: &Other, name: &str, frame: &Frame) -> fmt::Result {
    let Frame { card: breadth, line, .. } = *frame;
    hollow(out, breadth)?;
    let (name, end) = (fitting(name, breadth - 28 - STATE_WIDTH), breadth - 14);
    writeln!(out, r#"<text class="name" x="14" y="22">{}</text>"#, Text(&name))?;
    writeln!(out, r#"<text class="state" x="{end}" y="22" text-anchor="end">no bundle</text>"#)?;
    let facts = format!("{} · pods {}", joined(&other.addresses), joined(&other.pod_cidrs));
    line_of(out, "fact", 42, &facts, line)
}

/// As much of a name as there is room for: letters of bold type are of very different
/// widths, and which type it is the reader's browser decides.
fn fitting(name: &str, room: usize) -> String {
    let name = cut(name, room);
    let mut widths = name.chars().scan(0, |sum, letter| {
        *sum += match letter {
            '.' | '-' | ':' | '/' | 'i' | 'j' | 'l' => 6,
            'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 15,
            letter if letter.is_ascii_uppercase() => 12,
            letter if letter.is_ascii() => 10,
            _ => 16,
        };
        Some(*sum)
    });
    match widths.position(|width| width > room) {
        None => name,
        // The sign is as wide as two letters at most.
        Some(place) => name.chars().take(place.saturating_sub(2)).chain(['…']).collect(),
    }
}

/// What is broken, from node to node, by its number.
fn arrows(out: &mut String, frame: &Frame, cards: &[Card<'_>], faults: &[Fault]) -> fmt::Result {
    let mut taken = vec![0; cards.len()];
    let mut port = |end: End| {
        let place = cards.iter().position(|card| card.end == Some(end))?;
        let (card, taken) = (cards.get(place)?, taken.get_mut(place)?);
        let y = card.y + (SIGN_TOP + *taken * SIGN_STEP).min(card.height - 10);
        *taken += 1;
        Some((inner_edge(card, frame.card, frame.bus), y))
    };
    for (place, fault) in faults.iter().enumerate() {
        let (Some(from), Some(to)) = (port(fault.from), port(fault.to)) else { continue };
        arrow(out, frame, from, to, place + 1)?;
    }
    Ok(())
}

fn arrow(
    out: &mut String,
    frame: &Frame,
    (x, y): (usize, usize),
    (to_x, to_y): (usize, usize),
    number: usize,
) -> fmt::Result {
    let is_left = |x: usize| x < frame.bus;
    // Each end leaves and comes straight, towards the network between nodes.
    let bend = |x: usize| if is_left(x) { x + 62 } else { x.saturating_sub(62) };
    let tip = if is_left(to_x) { to_x + 9 } else { to_x.saturating_sub(9) };
    let (start, end) = (bend(x), bend(to_x));
    writeln!(
        out,
        r#"<path class="fault" d="M{x} {y}C{start} {y} {end} {to_y} {tip} {to_y}"/><path class="tip" d="M{to_x} {to_y}L{tip} {}V{}z"/>"#,
        to_y - 5,
        to_y + 5
    )?;
    let sign = if is_left(x) { x + 20 } else { x.saturating_sub(20) };
    writeln!(
        out,
        r#"<circle class="tip" cx="{sign}" cy="{y}" r="9"/><text class="number" x="{sign}" y="{}" text-anchor="middle">{number}</text>"#,
        y + 4
    )
}

impl View {
    /// How bad the worst is.
    pub(super) fn mark(&self) -> Mark {
        match (self.errors, self.warnings) {
            (0, 0) => Mark::Fine,
            (0, _) => Mark::Warning,
            _ => Mark::Error,
        }
    }
}
