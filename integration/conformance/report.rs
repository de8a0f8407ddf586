// SPDX-License-Identifier: Apache-2.0
//! What the suite says: a line per rule, a summary, and the document of
//! differences.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::rule::Rule;

/// What came of a rule.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It is broken, and how.
    Fail(String),
    /// It could not be tested here, and why.
    Skip(String),
    /// It is not kept on purpose, and why.
    Differs(String),
    /// It does not speak to a plugin; whom it speaks to.
    Elsewhere(&'static str),
}

/// One rule and what came of it.
#[derive(Clone)]
pub struct Line {
    /// The rule.
    pub rule: Rule,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match &self.outcome {
            Outcome::Pass => ("PASS", None),
            Outcome::Fail(why) => ("FAIL", Some(why.as_str())),
            Outcome::Skip(why) => ("SKIP", Some(why.as_str())),
            Outcome::Differs(why) => ("DIFF", Some(why.as_str())),
            Outcome::Elsewhere(whose) => ("SKIP", Some(*whose)),
        };
        write!(f, "{word}  {}", title(&self.rule))?;
        match (&self.outcome, why) {
            (Outcome::Fail(_), Some(why)) => {
                write!(f, "\n        {}", why.replace('\n', "\n        "))
            }
            (_, Some(why)) => write!(f, " ({why})"),
            (_, None) => Ok(()),
        }
    }
}

/// Number, level and sentence of a rule.
pub fn title(rule: &Rule) -> String {
    format!("{:>3} {:<3} {}", rule.number, rule.level.letter(), rule.title)
}

/// The closing lines: how many of each, by level.
pub fn summary(kind: &str, lines: &[Line]) -> String {
    let mut failed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut passed, mut skipped, mut differing, mut elsewhere) = (0, 0, 0, 0);
    for line in lines {
        match line.outcome {
            Outcome::Pass => passed += 1,
            Outcome::Fail(_) => {
                failed.entry(line.rule.level.letter()).or_default().push(line.rule.number);
            }
            Outcome::Skip(_) => skipped += 1,
            Outcome::Differs(_) => differing += 1,
            Outcome::Elsewhere(_) => elsewhere += 1,
        }
    }
    let broken: usize = failed.values().map(Vec::len).sum();
    let mut text = format!(
        "\n{kind}: {passed} hold, {broken} broken, {skipped} not tested, \
         {elsewhere} not a plugin's to keep\n"
    );
    if differing > 0 {
        let _ = writeln!(text, "  {differing} not kept on purpose");
    }
    for (level, numbers) in failed {
        let _ = writeln!(text, "  broken {level}: {}", numbers.join(" "));
    }
    text
}

/// The document: every rule that a plugin breaks, and the remarks.
pub fn markdown(runs: &[(String, Vec<Line>)]) -> String {
    let names: Vec<&str> = runs.iter().map(|(kind, _)| kind.as_str()).collect();
    let mut text = String::from(include_str!("about.md"));
    let _ = writeln!(text, "\n| rule | level | sentence | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(names.len()));
    let mut notes = String::new();
    let count = runs.first().map_or(0, |(_, lines)| lines.len());
    for at in 0..count {
        let row: Vec<&Line> = runs.iter().map(|(_, lines)| &lines[at]).collect();
        if row.iter().all(|line| matches!(line.outcome, Outcome::Pass | Outcome::Elsewhere(_))) {
            continue;
        }
        let rule = row[0].rule;
        let cells: Vec<&str> = row.iter().map(|line| cell(&line.outcome)).collect();
        let (number, level) = (rule.number, rule.level.letter());
        let _ = writeln!(text, "| {number} | {level} | {} | {} |", rule.title, cells.join(" | "));
        for (name, line) in names.iter().zip(&row) {
            if let Outcome::Fail(why) | Outcome::Skip(why) | Outcome::Differs(why) = &line.outcome {
                let _ = writeln!(notes, "- **{number}** {name}: {}", steady(why));
            }
        }
    }
    for (name, (_, lines)) in names.iter().zip(runs) {
        text.push_str(&summary(name, lines).replace("\n  ", "\n\n"));
    }
    let _ = write!(text, "\n## What was seen\n\n{notes}\n{}", include_str!("remarks.md"));
    text
}

fn cell(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "holds",
        Outcome::Fail(_) => "**broken**",
        Outcome::Skip(_) => "not tested",
        Outcome::Differs(_) => "differs",
        Outcome::Elsewhere(_) => "–",
    }
}

/// A violation's text in which what differs from run to run is replaced, so that
/// the document changes only when a plugin does.
fn steady(why: &str) -> String {
    let mut text = String::new();
    let mut rest = why;
    while let Some(first) = rest.chars().next() {
        let hex = |text: &str| text.chars().take_while(char::is_ascii_hexdigit).count();
        let mac =
            rest.get(..17).is_some_and(|word| word.split(':').filter(|x| hex(x) == 2).count() == 6);
        let (put, skip) = if rest.starts_with("/proc/") {
            ("NETNS", rest.find(|c: char| !(c.is_alphanumeric() || c == '/')).unwrap_or(rest.len()))
        } else if rest.starts_with("/tmp/manx-test-") {
            ("TMP", rest.find(|c: char| !(c.is_alphanumeric() || "/-".contains(c))).unwrap_or(0))
        } else if rest.strip_prefix("veth").is_some_and(|tail| hex(tail) >= 8) {
            ("vethN", 12)
        } else if mac {
            ("MAC", 17)
        } else {
            (&rest[..first.len_utf8()], first.len_utf8())
        };
        text.push_str(put);
        rest = &rest[skip.max(first.len_utf8())..];
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    if text.chars().count() <= 240 {
        return text;
    }
    text.chars().take(240).chain("…".chars()).collect()
}
