// SPDX-License-Identifier: Apache-2.0
//! Errors by a pointer.

use std::{
    error::Error,
    fmt,
    ops::{Deref, DerefMut},
};

/// A thing behind a pointer, to be made, read and changed as the thing itself. Nearly each function may
/// return an error and hardly any does: all of them are shorter where they copy a pointer and not the error itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Boxed<T>(Box<T>);

impl<T> Boxed<T> {
    /// The thing itself, out of its box.
    pub fn unbox(self) -> T {
        *self.0
    }
}

impl<T> From<T> for Boxed<T> {
    fn from(thing: T) -> Self {
        Self(Box::new(thing))
    }
}

impl<T> Deref for Boxed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Boxed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Display> fmt::Display for Boxed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Error> Error for Boxed<T> {}
