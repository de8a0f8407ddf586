// SPDX-License-Identifier: Apache-2.0
//! The environment of a call, CNI_ARGS among it.

#![no_main]

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use libfuzzer_sys::fuzz_target;
use manx::cni::{Args, Command, Environment};

const NAMES: [&str; 7] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
    "CNI_NETNS_OVERRIDE",
];

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let args = Args::parse(&text);
    assert_eq!(args.text(), text);
    if let Some(pod) = args.pod() {
        assert_eq!(args.value("K8S_POD_NAME"), Some(pod.name.as_str()));
        assert!(!pod.namespace.is_empty() && !pod.name.contains(';'));
    }
    // Variables as the kernel hands them over: no byte of them is zero.
    let values: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let look_up = |name: &str| {
        let place = NAMES.iter().position(|one| *one == name)?;
        values.get(place).map(|value| OsStr::from_bytes(value).to_owned())
    };
    let Ok(environment) = Environment::from_vars(look_up) else { return };
    if environment.validate_syntax().is_err() {
        return;
    }
    assert!(!matches!(environment.command, Command::Unknown(_)));
    if matches!(environment.command, Command::Add | Command::Check | Command::Del) {
        let safe =
            |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        assert!(safe(&environment.container_id) && safe(&environment.ifname));
        assert!(environment.ifname.len() < 16);
    }
    assert!(environment.path.iter().all(|directory| !directory.as_os_str().is_empty()));
});
