// SPDX-License-Identifier: Apache-2.0
//! A change as it is told: as a line of a diff, as JSON, and to a check.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kinds of objects.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A link: that it is there, is up, is marked.
    Link,
    /// The MTU of a link.
    Mtu,
    /// An address of a link.
    Address,
    /// A route.
    Route,
    /// A policy rule.
    Rule,
    /// A neighbour.
    Neighbour,
    /// A forwarding entry.
    Forwarding,
    /// A parameter below /proc/sys.
    Sysctl,
    /// An nftables table.
    Table,
}

/// What is to be done to an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Make it.
    Create,
    /// Put another in its place.
    Replace,
    /// Remove it.
    Delete,
    /// Nothing: it belongs to somebody else.
    Conflict,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Conflict => "conflict",
        }
    }

    /// The sign that a line of a diff begins with.
    fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Replace => '~',
            Self::Delete => '-',
            Self::Conflict => '!',
        }
    }
}

/// A change to one object, as it is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The kind of the object.
    pub kind: Kind,
    /// What is to be done.
    pub action: Action,
    /// The object's name.
    pub object: String,
    /// What it is.
    pub before: Option<String>,
    /// What it is to be.
    pub after: Option<String>,
}

impl Told {
    /// The change as plan's JSON has it.
    pub fn encode(&self) -> Value {
        let Self { action, object, before, after, .. } = self;
        json!({"action": action.as_str(), "object": object, "before": before, "after": after})
    }

    /// The line of a diff without the sign, which is for those who read several.
    pub fn words(&self) -> String {
        let Self { action, object, before, after, .. } = self;
        match (before, after) {
            (Some(before), Some(after)) if *action == Action::Conflict => {
                format!("{object}: wanted {after}, but there is {before}")
            }
            (Some(before), Some(after)) => format!("{object}: {before} -> {after}"),
            (Some(only), None) | (None, Some(only)) => format!("{object}: {only}"),
            (None, None) => object.clone(),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action.sign(), self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_as_a_line_and_as_json() {
        let text = |value: &str| Some(value.to_owned());
        for (action, before, after, line) in [
            (Action::Create, None, text("new"), "+ route x: new"),
            (Action::Replace, text("old"), text("new"), "~ route x: old -> new"),
            (Action::Delete, text("old"), None, "- route x: old"),
            (Action::Delete, None, None, "- route x"),
            (Action::Conflict, text("old"), text("new"), "! route x: wanted new, but there is old"),
        ] {
            let object = "route x".to_owned();
            let json = json!({"action": action.as_str(), "object": "route x", "before": before,
                              "after": after});
            let change = Told { kind: Kind::Route, action, object, before, after };
            assert_eq!(change.to_string(), line);
            assert_eq!(change.encode(), json);
            assert_eq!(line.get(2..), Some(change.words().as_str()));
            let again: Told = serde_json::from_value(json!(change)).unwrap();
            assert_eq!(again, change);
        }
    }
}
