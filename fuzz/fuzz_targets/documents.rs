// SPDX-License-Identifier: Apache-2.0
//! Documents of others: objects of Kubernetes, notes of libcni, what probe printed, answers of
//! an agent, tokens. The first byte chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::{cli, doctor::report::Probed, policy, text};

#[allow(dead_code)]
#[path = "../../src/agent/calico/jwt.rs"]
mod jwt;

fuzz_target!(|data: &[u8]| {
    let Some((choice, content)) = manx_fuzz::chosen(data) else { return };
    let text = || String::from_utf8_lossy(content);
    match choice {
        b'i' => policy::fuzzing::item(content),
        b'u' => policy::fuzzing::objects(content),
        b'l' => cli::fuzzing::nodes(content),
        b'n' => cli::fuzzing::node(content),
        b'c' => cli::fuzzing::cached(content),
        b'p' => drop(Probed::decode("probe.json", content)),
        b'a' => cli::fuzzing::answer(&text()),
        b'j' => drop(jwt::read(&text())),
        // The claims of a token, which are not found behind base 64.
        b'k' => {
            use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
            drop(jwt::read(&format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(content))));
        }
        _ => {}
    }
});
