// SPDX-License-Identifier: Apache-2.0
//! The error object that a runtime reads from stdout.

use std::fmt;

use serde_json::{Value, json};

use super::{
    json::field,
    version::{Unsupported, Version},
};
use crate::boxed::Boxed;

/// A CNI error code (SPEC 1.1.0, "Error"). 1 to 99 belong to the specification,
/// those from 100 on are ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code(pub u32);

impl Code {
    /// The configuration's `cniVersion` is not one of ours, or too old for the verb.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// A field of the configuration asks for something that we do not do.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// A variable of the environment is missing or malformed.
    pub const INVALID_ENVIRONMENT: Self = Self(4);
    /// Reading or writing failed.
    pub const IO: Self = Self(5);
    /// What was read is not JSON of the expected shape.
    pub const DECODE: Self = Self(6);
    /// The configuration is well-formed and wrong.
    pub const INVALID_CONFIG: Self = Self(7);
    /// Nothing is wrong that time does not mend.
    pub const TRY_AGAIN: Self = Self(11);
    /// STATUS: an ADD would fail now.
    pub const UNAVAILABLE: Self = Self(50);
    /// The kernel refused a request.
    pub const KERNEL: Self = Self(100);
    /// A link, an address or a route belongs to somebody else.
    pub const CONFLICT: Self = Self(101);
    /// CHECK: the kernel differs from what the attachment needs.
    pub const CHECK_FAILED: Self = Self(102);
    /// A delegated plugin could not be run or spoke no CNI.
    pub const DELEGATE: Self = Self(103);
    /// A fault of ours.
    pub const INTERNAL: Self = Self(199);
}

/// What went wrong, in the shape of the specification: `msg` is one line that
/// names the object and the cause, `details` says what to do.
pub type Error = Boxed<Problem>;

/// What an error object says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The numeric code.
    pub code: Code,
    /// One line: what failed, on which object, in whose words.
    pub msg: String,
    /// The next step for the reader; may be empty.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Problem { code, msg: msg.into(), details: String::new() }.into()
    }

    /// The same error with `details` set.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same error with another code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Reads the error object of another plugin. `None` if it has neither a code
    /// nor a message. Without a usable code it counts as [`Code::DELEGATE`].
    pub fn decode(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let text = |key| field(object, key).and_then(Value::as_str).unwrap_or_default();
        let code = field(object, "code")
            .and_then(Value::as_u64)
            .and_then(|code| u32::try_from(code).ok())
            .filter(|code| *code != 0);
        if code.is_none() && text("msg").is_empty() {
            return None;
        }
        let code = code.map_or(Code::DELEGATE, Code);
        Some(Self::new(code, text("msg")).details(text("details")))
    }

    /// Joins the errors of a best-effort operation: the first one's code, all
    /// messages in order. `None` if there are none.
    pub fn join(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut joined = errors.next()?;
        for error in errors {
            if error.msg != joined.msg {
                joined.msg = format!("{}; {}", joined.msg, error.msg);
            }
            if joined.details.is_empty() {
                joined.details = error.unbox().details;
            } else if !joined.details.contains(&error.details) {
                joined.details = format!("{}; {}", joined.details, error.details);
            }
        }
        Some(joined)
    }

    /// The JSON object for stdout.
    pub fn encode(&self, version: Version) -> Value {
        let mut object = json!({
            "cniVersion": version.as_str(),
            "code": self.code.0,
            "msg": self.msg,
        });
        if let (false, Some(map)) = (self.details.is_empty(), object.as_object_mut()) {
            map.insert("details".into(), self.details.clone().into());
        }
        object
    }
}

impl From<Unsupported> for Error {
    fn from(Unsupported(text): Unsupported) -> Self {
        Self::new(Code::INCOMPATIBLE_VERSION, format!("cniVersion {text:?} is not supported"))
            .details(format!("supported: {}", Version::all()))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.msg)?;
        if !self.details.is_empty() {
            write!(f, " ({})", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r38_an_error_object_is_read_as_it_was_written() {
        let error = Error::new(Code(11), "later").details("in a minute");
        assert_eq!(Error::decode(&error.encode(Version::NEWEST)), Some(error));
    }

    #[test]
    fn joined_errors_give_the_same_advice_once() {
        let error = |msg: &str, details: &str| Error::new(Code::KERNEL, msg).details(details);
        let errors =
            vec![error("a", ""), error("b", "look"), error("c", "look"), error("d", "ask")];
        let joined = Error::join(errors).unwrap();
        assert_eq!(joined.to_string(), "a; b; c; d (look; ask)");
    }

    #[test]
    fn keys_match_without_regard_to_case_and_the_code_may_be_missing() {
        let error = Error::decode(&json!({"Code": 7, "Msg": "bad", "Details": null}));
        assert_eq!(error, Some(Error::new(Code::INVALID_CONFIG, "bad")));
        for code in [json!(null), json!(0), json!(-1), json!("7"), json!(1u64 << 40)] {
            let error = Error::decode(&json!({"code": code, "msg": "bad"}));
            assert_eq!(error, Some(Error::new(Code::DELEGATE, "bad")), "{code}");
        }
    }

    #[test]
    fn what_is_no_error_object_is_not_taken_for_one() {
        for value in [json!({}), json!([]), json!("msg"), json!({"ips": []}), json!({"code": 0})] {
            assert_eq!(Error::decode(&value), None, "{value}");
        }
    }
}
