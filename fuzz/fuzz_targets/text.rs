// SPDX-License-Identifier: Apache-2.0
//! Small texts: networks, addresses, hardware addresses, resolv.conf, what is escaped, and secrets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::{
    cni::{Dns, cidr},
    net::fuzzing::mac,
    text::{escaped, secrets},
};
use serde_json::Value;

const SECRET: &str = "hunter2-hunter2";

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    mac(&text);
    if let Ok(network) = cidr::parse(&text) {
        assert_eq!(cidr::parse(&network.to_string()), Ok(network));
    }
    if let Ok(address) = cidr::parse_address(&text) {
        assert_eq!(cidr::parse_address(&address.to_string()), Ok(address));
    }
    let dns = Dns::of_resolv_conf(&text);
    assert!(dns.nameservers.iter().chain(&dns.search).all(|word| !word.contains('\n')));
    assert!(!escaped(&text).chars().any(|one| one.is_control() && one != '\t'));
    let _ = secrets::redacted_document(&text);
    // A line that says a secret, whatever stands around it.
    let (before, behind) = text.split_once('\u{fffd}').unwrap_or((&text, ""));
    let said = format!("{before}\npassword={SECRET}\n{behind}");
    let clean = secrets::redacted(&said);
    assert!(!clean.contains(SECRET) || text.contains(SECRET), "{said:?}: {clean:?}");
    if let Ok(mut document) = serde_json::from_slice::<Value>(data) {
        secrets::redact_texts(&mut document);
        let _ = document.to_string();
    }
});
