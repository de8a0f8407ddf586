// SPDX-License-Identifier: Apache-2.0
//! What a bundle holds for a person to read, beside what programs go by: texts of configurations,
//! the ends of logs, versions. It is small, and gives way where a bundle would be too large.

use serde::{Deserialize, Serialize};

/// The end of a log that is shorter than this goes altogether, in bytes.
const LOG_BYTES_MIN: usize = 4 << 10;

/// All of it, without secrets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Support {
    /// When it was taken, in RFC 3339.
    pub taken_at: String,
    /// The name of the host.
    pub host: String,
    /// Of the programs at work.
    pub versions: Versions,
    /// Files of configuration.
    pub texts: Vec<Text>,
    /// The ends of logs, each from the beginning of a line.
    pub logs: Vec<Text>,
    /// What is not in it, each with the reason.
    pub left_out: Vec<String>,
}

/// Versions of the programs at work; those of plugins are in the surroundings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Versions {
    /// This program's.
    pub manx: String,
    /// The commit that it is built from, where the build knew it.
    pub revision: Option<String>,
    /// The version that the installed plugin noted.
    pub installed: Option<String>,
    /// The kernel's.
    pub kernel: String,
    /// The distribution's, in its own words.
    pub system: String,
    /// The kind of processor.
    pub machine: String,
}

/// A text.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Text {
    /// The file, or whose log it is.
    pub source: String,
    /// What it says.
    pub text: String,
}

impl Support {
    /// Leaves out what is needed least: the older half of each log, then the longest text.
    /// False where nothing is left.
    pub fn shorten(&mut self) -> bool {
        if !self.logs.is_empty() {
            for log in &mut self.logs {
                log.keep_end();
            }
            let (kept, gone): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.logs).into_iter().partition(|log| !log.text.is_empty());
            for log in &kept {
                let note = format!("all but the last {} bytes, for size", log.text.len());
                self.note(&log.source, &note);
            }
            for log in &gone {
                self.note(&log.source, "for size");
            }
            self.logs = kept;
            return true;
        }
        let longest = (0..).zip(&self.texts).max_by_key(|(_, text)| text.text.len());
        let Some((place, _)) = longest else { return false };
        let gone: Text = self.texts.remove(place);
        self.note(&gone.source, "for size");
        true
    }

    /// Notes what is left out, in the place of what was noted of it before.
    fn note(&mut self, source: &str, why: &str) {
        let begin = format!("{source}: ");
        self.left_out.retain(|noted| !noted.starts_with(&begin));
        self.left_out.push(begin + why);
    }
}

impl Text {
    /// Keeps the second half, from the beginning of a line.
    fn keep_end(&mut self) {
        let middle = self.text.len() / 2;
        let end = self.text.bytes().skip(middle).position(|byte| byte == b'\n');
        let end = end.and_then(|at| self.text.get(middle + at + 1..)).unwrap_or_default();
        self.text = if end.len() < LOG_BYTES_MIN { String::new() } else { end.to_owned() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str, text: impl Into<String>) -> Text {
        Text { source: source.to_owned(), text: text.into() }
    }

    #[test]
    fn logs_go_first_from_their_beginning_then_texts_by_their_length() {
        let lines: String = (0..2000).map(|n| format!("é line {n}\n")).collect();
        let mut support = Support {
            texts: vec![text("short", "a"), text("long", "aaa"), text("middle", "aa")],
            logs: vec![
                text("much", lines.clone()),
                text("little", "x\n"),
                text("open", "x".repeat(9000)),
            ],
            left_out: vec!["other: it is a pipe".to_owned()],
            ..Support::default()
        };
        assert!(support.shorten());
        let [log] = support.logs.as_slice() else { panic!("{support:?}") };
        assert!(lines.ends_with(&log.text) && log.text.starts_with("é line "), "{}", log.text);
        assert!((lines.len() / 2 - 20..=lines.len() / 2).contains(&log.text.len()));
        let noted = format!("much: all but the last {} bytes, for size", log.text.len());
        let of_logs = ["other: it is a pipe", &noted, "little: for size", "open: for size"];
        assert_eq!(support.left_out, of_logs);
        while !support.logs.is_empty() {
            assert!(support.shorten() && support.texts.len() == 3);
        }
        for left in [&["short", "middle"][..], &["short"], &[]] {
            assert!(support.shorten());
            assert!(support.texts.iter().map(|text| text.source.as_str()).eq(left.iter().copied()));
        }
        assert!(!support.shorten());
        assert_eq!(support.left_out.len(), 7);
        assert!(support.left_out.contains(&"much: for size".to_owned()), "{:?}", support.left_out);
    }
}
