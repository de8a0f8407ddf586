// SPDX-License-Identifier: Apache-2.0
//! What a rule is, and the few words in which its test speaks.

use serde_json::Value;

use crate::harness::Reply;
use crate::suite::Suite;

/// How binding a rule is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// The specification says MUST, or defines the format.
    Must,
    /// The specification says SHOULD.
    Should,
    /// Not in the prose; libcni or a runtime needs it in fact.
    DeFacto,
    /// The conventions document.
    Convention,
    /// A promise of manx alone.
    Own,
}

impl Level {
    /// The letter of the report.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Must => "M",
            Self::Should => "S",
            Self::DeFacto => "D",
            Self::Convention => "C",
            Self::Own => "own",
        }
    }

    /// Whether a plugin that breaks such a rule fails the suite.
    pub fn binding(self) -> bool {
        self != Self::Convention
    }
}

/// How a rule is tested.
#[derive(Clone, Copy)]
pub enum Test {
    /// By this function.
    Run(fn(&Suite) -> Verdict),
    /// Not at all, since it does not speak to a plugin; whom it speaks to.
    Elsewhere(&'static str),
}

/// One rule. A rule with parts of different levels has one entry for each: `2`
/// and `2b`.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The number, stable over time.
    pub number: &'static str,
    /// How binding it is.
    pub level: Level,
    /// The rule in a sentence.
    pub title: &'static str,
    /// Its test.
    pub test: Test,
}

/// An entry of the registry.
pub const fn rule(
    number: &'static str,
    level: Level,
    title: &'static str,
    run: fn(&Suite) -> Verdict,
) -> Rule {
    Rule { number, level, title, test: Test::Run(run) }
}

/// An entry for a rule that is not a plugin's to keep.
pub const fn elsewhere(
    number: &'static str,
    level: Level,
    title: &'static str,
    whose: &'static str,
) -> Rule {
    Rule { number, level, title, test: Test::Elsewhere(whose) }
}

/// Why a test ended early.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The plugin breaks the rule: what it did.
    Broken(String),
    /// The rule cannot be tested here: why.
    Skip(String),
    /// The plugin does otherwise on purpose: why.
    Differs(String),
}

/// The end of a test.
pub type Verdict = Result<(), Stop>;

/// Ends the test with a violation unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::rule::Stop::Broken(format!($($words)+)));
        }
    };
}
pub(crate) use ensure;

/// A run in a few words, for a violation's text.
pub fn brief(reply: &Reply) -> String {
    let mut words = if reply.timed_out {
        format!("{} hung for {:?}", reply.verb, reply.took)
    } else {
        format!("{} ended with {}", reply.verb, reply.status)
    };
    let out: String = reply.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    if !out.is_empty() {
        words.push_str(", stdout ");
        words.extend(out.chars().take(300));
    } else if reply.status != 0 {
        words.push_str(", stderr ");
        words.extend(reply.stderr.trim().chars().take(300));
    }
    words
}

/// The document of a run that must succeed; `Null` if it says nothing.
pub fn ok(reply: Reply) -> Result<Value, Stop> {
    ensure!(reply.succeeded(), "{}", brief(&reply));
    ensure!(
        reply.stdout.is_empty() || reply.json.is_some(),
        "stdout is not one JSON document: {}",
        brief(&reply)
    );
    Ok(reply.json.unwrap_or_default())
}

/// The error object of a run that must fail, checked for its shape.
pub fn fails(reply: Reply) -> Result<Value, Stop> {
    ensure!(!reply.timed_out, "{}", brief(&reply));
    ensure!(reply.status != 0, "it should fail: {}", brief(&reply));
    let error = reply.json.clone().unwrap_or_default();
    ensure!(
        error["code"].as_u64().is_some_and(|code| code > 0)
            && error["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
        "no error object with code and msg: {}",
        brief(&reply)
    );
    Ok(error)
}

/// The error object of a run that must fail with `code`.
pub fn fails_with(code: u64, reply: Reply) -> Result<Value, Stop> {
    let said = brief(&reply);
    let error = fails(reply)?;
    ensure!(error["code"] == code, "code {code} expected: {said}");
    Ok(error)
}

/// `msg` and `details` of an error object as one text.
pub fn words(error: &Value) -> String {
    format!(
        "{} {}",
        error["msg"].as_str().unwrap_or_default(),
        error["details"].as_str().unwrap_or_default()
    )
}

/// Puts the case in front of a violation.
pub fn in_case<T>(case: &str, result: Result<T, Stop>) -> Result<T, Stop> {
    result.map_err(|stop| match stop {
        Stop::Broken(why) => Stop::Broken(format!("{case}: {why}")),
        Stop::Skip(why) => Stop::Skip(format!("{case}: {why}")),
        Stop::Differs(why) => Stop::Differs(format!("{case}: {why}")),
    })
}
