// SPDX-License-Identifier: Apache-2.0
//! The verbs of `manx-ipam`, for another plugin that delegates to this binary
//! under that name: no link, no journal, addresses only.

use std::path::Path;

use super::{
    builtin::{self, Recipient},
    status,
};
use crate::{
    cni::{Code, Command, Error, json::member},
    conf::BUILT_IN,
    list::Gather,
    net::Socket,
    verb::{Call, Emit, conditions, fabric, file, kernel, usable::Usable},
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
    let tunnels = fabric::tunnel_addresses(&call.root);
    let mut usable = Usable::for_delegator(&call.root, &call.config, tunnels);
    let mut host = None;
    let mut decide = |address, choice| {
        let host = match &mut host {
            Some(host) => host,
            none => none.insert(Socket::open().map_err(kernel)?),
        };
        usable.objection(host, address, choice)
    };
    match environment.command {
        Command::Add => {
            let result = builtin::add(call, &mut decide, Recipient::Delegator)
                .map_err(|refused| refused.error)?;
            let words: Vec<String> =
                result.ips.iter().map(|ip| ip.address.ip().to_string()).gather();
            let told = result.encode(call.config.version).and_then(|value| {
                emit(&value).map_err(|error| file("write the result", Path::new("stdout"), &error))
            });
            told.map_err(|cause| {
                let undone = builtin::release_own(call, call.document.ipam()).err();
                let errors = [cause.clone()].into_iter().chain(undone).gather();
                Error::join(errors).unwrap_or(cause)
            })?;
            Ok(format!("addresses={}", words.join(",")))
        }
        Command::Del => {
            let count = builtin::release_own(call, call.document.ipam())?;
            Ok(format!("released={count}"))
        }
        Command::Check => builtin::check(call).map(|()| String::new()),
        Command::Gc => builtin::gc(call).map(|count| format!("released={count}")),
        Command::Status => {
            let told = status::status(call, &mut decide);
            conditions::tell(&call.root, &format!("{BUILT_IN} {}", call.subject()), &told);
            told.map(|_| String::new())
        }
        Command::Version | Command::Unknown(_) => Ok(String::new()),
    }
}
