// SPDX-License-Identifier: Apache-2.0
//! What values a key may have: how they are read, and what holds where there is none.

mod address;
mod compound;

use std::ops::RangeInclusive;

use log::LevelFilter;
use serde_json::Value;

use crate::cni::Code;
use crate::list::Gather;

pub(super) use address::{Address, Families, Networks, NextHop, Subnet};
pub(super) use compound::{Object, Optional, Part, Texts};

/// Keys by which an object may be looked at.
pub(super) type Keys = Vec<&'static dyn Described>;

/// A key, whatever its values are.
pub(super) trait Described: Sync {
    fn name(&self) -> &'static str;
    /// Calico's name of it.
    fn calicos(&self) -> Option<&'static str>;
    /// The keys that its value may have, if that is an object of known keys.
    fn members(&self, value: &Value) -> Option<Keys>;
    /// How it is told.
    #[cfg(test)]
    fn told(&self) -> Property;
}

/// How a shape is told, of which only tests make use (`schema.rs`): no binary has it.
#[cfg(not(test))]
pub(super) trait Told {}
#[cfg(not(test))]
impl<T> Told for T {}

/// How a shape is told: what holds where the key is absent, and what values are read.
#[cfg(test)]
pub(super) trait Told {
    fn told(&self) -> (Fallback, Value);
}

/// How a key is told.
#[cfg(test)]
pub(super) struct Property {
    /// What it is good for.
    pub(super) meaning: &'static str,
    /// Whether the table of docs/configuration.md has it.
    pub(super) in_table: bool,
    pub(super) fallback: Fallback,
    /// The values that it may have, as JSON Schema.
    pub(super) schema: Value,
}

/// What holds where a key is absent.
#[cfg(test)]
pub(super) enum Fallback {
    /// This value.
    Value(Value),
    /// What is said here.
    Words(&'static str),
    /// Nothing: the key is needed.
    Required,
}

/// The values of a key.
pub(super) trait Shape: Told + Sync {
    /// What the configuration has of them.
    type Value;

    /// What holds where the key is absent.
    fn absent(&self) -> Self::Value;

    /// Reads a value; else what to do instead.
    fn read(&self, value: &Value) -> Result<Self::Value, String>;

    /// The code of the error for others.
    fn code(&self) -> Code {
        Code::INVALID_CONFIG
    }

    /// The keys of a value, where no others have a meaning.
    fn members(&self, _value: &Value) -> Option<Keys> {
        None
    }
}

/// A boolean, also as the text `true` or `false`.
pub(super) struct Flag(pub(super) bool);

impl Shape for Flag {
    type Value = bool;

    fn absent(&self) -> bool {
        self.0
    }

    fn read(&self, value: &Value) -> Result<bool, String> {
        let flag = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_bool(),
        };
        flag.ok_or_else(|| "give true or false".to_owned())
    }
}

/// A whole number of a range, and what holds without one.
pub(super) struct Number<T>(pub(super) RangeInclusive<u32>, pub(super) T);

impl<T: TryFrom<u32> + Into<Value> + Copy + Sync> Shape for Number<T> {
    type Value = T;

    fn absent(&self) -> T {
        self.1
    }

    fn read(&self, value: &Value) -> Result<T, String> {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| self.0.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            format!("give a whole number from {} to {}", self.0.start(), self.0.end())
        })
    }
}

/// A text.
pub(super) struct Text;

impl Shape for Text {
    type Value = String;

    fn absent(&self) -> String {
        String::new()
    }

    fn read(&self, value: &Value) -> Result<String, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "give a string".to_owned())
    }
}

/// A name that not every text can be.
pub(super) struct Name {
    pub(super) absent: &'static str,
    pub(super) is: fn(&str) -> bool,
    /// The same as a regular expression, as far as one can say it.
    pub(super) pattern: &'static str,
    /// The same in words.
    pub(super) advice: &'static str,
}

impl Shape for Name {
    type Value = String;

    fn absent(&self) -> String {
        self.absent.to_owned()
    }

    fn read(&self, value: &Value) -> Result<String, String> {
        let name = Text.read(value)?;
        if (self.is)(&name) { Ok(name) } else { Err(self.advice.to_owned()) }
    }
}

/// A value that stands in the source.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Literal {
    Bool(bool),
    Word(&'static str),
    Zero,
}

impl Literal {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::Bool(flag) => value.as_bool() == Some(flag),
            Self::Word(word) => value.as_str() == Some(word),
            Self::Zero => value.as_u64() == Some(0),
        }
    }
}

impl From<Literal> for Value {
    fn from(literal: Literal) -> Self {
        match literal {
            Literal::Bool(flag) => flag.into(),
            Literal::Word(word) => word.into(),
            Literal::Zero => 0.into(),
        }
    }
}

/// One of a few values, and what holds without one.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(Literal, T)], pub(super) T);

impl<T: Copy + PartialEq + Sync> Shape for Choice<T> {
    type Value = T;

    fn absent(&self) -> T {
        self.1
    }

    fn read(&self, value: &Value) -> Result<T, String> {
        let chosen = self.0.iter().find(|(word, _)| word.is(value));
        chosen.map(|(_, meant)| *meant).ok_or_else(|| {
            let words = self.0.iter().filter(|(word, _)| *word != Literal::Word(""));
            let words: Vec<String> = words.map(|(word, _)| Value::from(*word).to_string()).gather();
            format!("give one of {}", words.join(", "))
        })
    }
}

/// How much is logged.
pub(super) struct Level(pub(super) LevelFilter);

impl Shape for Level {
    type Value = LevelFilter;

    fn absent(&self) -> LevelFilter {
        self.0
    }

    fn read(&self, value: &Value) -> Result<LevelFilter, String> {
        let level = value.as_str().and_then(|text| text.parse().ok());
        level.ok_or_else(|| "give error, warn, info, debug or trace".to_owned())
    }
}
