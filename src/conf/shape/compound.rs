// SPDX-License-Identifier: Apache-2.0
//! Values that are made of others.

use serde_json::Value;

use super::{Described, Keys, Literal, Shape};
use crate::cni::Code;

/// A list of texts.
pub(in crate::conf) struct Texts;

impl Shape for Texts {
    type Value = Vec<String>;

    fn absent(&self) -> Vec<String> {
        Vec::new()
    }

    fn read(&self, value: &Value) -> Result<Vec<String>, String> {
        let texts = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()
        });
        texts.ok_or_else(|| "give a list of strings".to_owned())
    }
}

/// What may be left out, so that something else holds.
pub(in crate::conf) struct Optional<S> {
    pub(in crate::conf) of: S,
    pub(in crate::conf) unset: Option<Literal>,
    pub(in crate::conf) otherwise: &'static str,
}

impl<S: Shape> Optional<S> {
    /// A value of this shape, and what holds without one.
    pub(in crate::conf) const fn new(of: S, otherwise: &'static str) -> Self {
        Self { of, unset: None, otherwise }
    }

    /// The same with a value that means none.
    pub(in crate::conf) const fn unset(mut self, literal: Literal) -> Self {
        self.unset = Some(literal);
        self
    }
}

impl<S: Shape> Shape for Optional<S> {
    type Value = Option<S::Value>;

    fn absent(&self) -> Option<S::Value> {
        None
    }

    fn read(&self, value: &Value) -> Result<Option<S::Value>, String> {
        let is_unset = self.unset.is_some_and(|unset| unset.is(value));
        if is_unset { Ok(None) } else { self.of.read(value).map(Some) }
    }

    fn code(&self) -> Code {
        self.of.code()
    }

    fn members(&self, value: &Value) -> Option<Keys> {
        self.of.members(value)
    }
}

/// An object of these keys, and what holds without one.
pub(in crate::conf) struct Object(
    pub(in crate::conf) &'static [&'static dyn Described],
    pub(in crate::conf) &'static str,
);

impl Shape for Object {
    type Value = ();

    fn absent(&self) {}

    fn read(&self, value: &Value) -> Result<(), String> {
        if value.is_object() { Ok(()) } else { Err("give an object".to_owned()) }
    }

    fn members(&self, _value: &Value) -> Option<Keys> {
        Some(self.0.to_vec())
    }
}

/// What is read elsewhere, for it is more than a value; its type in JSON, or nothing.
pub(in crate::conf) struct Part(pub(in crate::conf) &'static str);

impl Shape for Part {
    type Value = Option<Value>;

    fn absent(&self) -> Option<Value> {
        None
    }

    fn read(&self, value: &Value) -> Result<Option<Value>, String> {
        Ok(Some(value.clone()))
    }
}
