// SPDX-License-Identifier: Apache-2.0
//! What the layers below report, as a runtime is told.

use std::{io, path::Path};

use crate::{
    cni::{Code, Error},
    net,
    node::{self, Kind},
};

impl From<node::Error> for Error {
    fn from(error: node::Error) -> Self {
        let code = match error.kind {
            Kind::Configuration => Code::INVALID_CONFIG,
            Kind::Environment => Code::INVALID_ENVIRONMENT,
            Kind::Unavailable => Code::UNAVAILABLE,
            Kind::Busy => Code::TRY_AGAIN,
            Kind::Conflict => Code::CONFLICT,
            Kind::File => Code::IO,
            Kind::Kernel => Code::KERNEL,
        };
        Self::new(code, error.message()).details(error.next.as_str())
    }
}

/// What the kernel refused, as the runtime is told.
pub(super) fn kernel(error: net::Error) -> Error {
    node::kernel(error).into()
}

/// What the file system refused, as the runtime is told.
pub(super) fn file(what: &str, path: &Path, error: &io::Error) -> Error {
    node::file(what, path, error).into()
}
