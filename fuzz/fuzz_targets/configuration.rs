// SPDX-License-Identifier: Apache-2.0
//! The network configuration: what every plugin has, our keys, the section ipam, the pod's
//! annotations, and what validate says of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::{
    cni::{Args, Document, Version},
    conf::{Config, IpamKeys},
};
use manx_fuzz::{has_fraction, within};
use serde_json::{Value, json};

fn read(bytes: Vec<u8>) -> Option<(String, String)> {
    let document = Document::parse(bytes).ok()?;
    let version = document.version().unwrap_or(Version::UNSTATED);
    let (config, complaints) = Config::read(&document, version);
    let args = Args::parse("IP=10.1.0.7");
    let (ipam, of_ipam) = IpamKeys::read(&document, &args, version);
    for complaint in complaints.iter().chain(&of_ipam) {
        assert!(!complaint.error.msg.is_empty());
    }
    let _ = document.valid_attachments();
    Some((document.name, format!("{config:?} {ipam:?}")))
}

fuzz_target!(|data: &[u8]| {
    manx::node::fuzzing::configuration(data);
    within((64 << 10) + 2048 * data.len(), || manx::cli::fuzzing::configuration(data));
    let first = read(data.to_vec());
    // The same document in other bytes is the same configuration.
    if let (Some((name, told)), Ok(object)) = (first, serde_json::from_slice::<Value>(data)) {
        if !has_fraction(&object) {
            assert_eq!(read(object.to_string().into_bytes()), Some((name, told)));
        }
    }
    // What a runtime makes of the annotations of a pod.
    let texts: Vec<_> = manx_fuzz::parts(data).map(String::from_utf8_lossy).collect();
    if let [mac, addresses, families, sources] = texts.as_slice() {
        let annotations = json!({"cni.projectcalico.org/hwAddr": mac,
            "cni.projectcalico.org/ipAddrs": addresses,
            "cni.projectcalico.org/ipFamilies": families,
            "cni.projectcalico.org/allowedSourcePrefixes": sources});
        let document = json!({"cniVersion": "1.1.0", "name": "n", "type": "manx",
            "sourceSpoofing": "Any", "ipam": {"type": "manx-ipam"},
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}});
        let document = Document::parse(document.to_string().into_bytes()).unwrap();
        let (config, _) = Config::read(&document, Version::V1_1_0);
        let asked = &config.annotations;
        assert!(
            asked.addresses.len() <= 2
                && asked.addresses.iter().all(|one| {
                    asked.addresses.iter().filter(|other| one.is_ipv4() == other.is_ipv4()).count()
                        == 1
                })
        );
        for (place, one) in asked.sources.iter().enumerate() {
            let mut others = asked.sources[..place].iter();
            assert!(
                !others.any(|other| other.contains(one.ip()) && one.prefix() >= other.prefix()
                    || one.contains(other.ip()) && other.prefix() >= one.prefix()),
                "{asked:?}"
            );
        }
    }
});
