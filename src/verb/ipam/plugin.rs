//! The verbs of `manx-ipam`, for another plugin that delegates to this binary
//! under that name: no link, no journal, addresses only.

use std::{net::IpAddr, path::Path};

use super::{
    BUILT_IN,
    builtin::{self, Giving},
};
use crate::{
    cni::{Code, Command, Error, json::member},
    verb::{Call, Emit, fabric, file},
};

/// Carries out a verb; returns what to log.
///
/// # Errors
/// What to tell the plugin that delegated.
pub(in crate::verb) fn dispatch(call: &Call, emit: Emit<'_>) -> Result<String, Error> {
    if member(call.document.ipam(), "type").and_then(|kind| kind.as_str()) != Some(BUILT_IN) {
        let msg = format!("{BUILT_IN} was called, which ipam.type does not name");
        return Err(Error::new(Code::INVALID_CONFIG, msg)
            .details("this name is for plugins that delegate; for a network of ours call manx"));
    }
    let environment = &call.environment;
    let never = || fabric::tunnel_addresses(&call.root);
    match environment.command {
        Command::Add => {
            let result = builtin::add(call, &never(), Giving::Away)?;
            let words: Vec<String> =
                result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
            let told = result.encode(call.config.version).and_then(|value| {
                emit(&value).map_err(|error| file("write the result", Path::new("stdout"), &error))
            });
            told.map_err(|cause| {
                let undone = super::release_own(call, call.document.ipam()).err();
                let errors = [cause.clone()].into_iter().chain(undone).collect();
                Error::join(errors).unwrap_or(cause)
            })?;
            Ok(format!("addresses={}", words.join(",")))
        }
        Command::Del => {
            let count = super::release_own(call, call.document.ipam())?;
            Ok(format!("released={count}"))
        }
        Command::Check => builtin::check(call).map(|()| String::new()),
        Command::Gc => builtin::gc(call).map(|count| format!("released={count}")),
        Command::Status => {
            let never: Vec<IpAddr> = never();
            builtin::status(call, &never).map(|()| String::new())
        }
        Command::Version | Command::Unknown(_) => Ok(String::new()),
    }
}
