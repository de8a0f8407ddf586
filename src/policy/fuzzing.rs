// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{Item, Unreads, unread};

/// An object that comes alone: a pod, a policy or a namespace, whatever it says of itself.
pub fn item(bytes: &[u8]) {
    let Ok(item) = serde_json::from_slice::<Item>(bytes) else { return };
    let (name, _) = (item.name(), item.version());
    assert!(item.clone().into_pod().name == name);
    let (policy, notes) = item.clone().into_policy();
    assert!(policy.name == name && notes.iter().all(|note| note.starts_with("NetworkPolicy ")));
    let _ = item.into_labels();
}

/// A list of objects that nothing is made of.
pub fn objects(bytes: &[u8]) {
    if let Ok(Unreads { unread, .. }) = unread(bytes) {
        assert!(unread.iter().all(|one| !one.what.is_empty() && !one.instead.is_empty()));
    }
}
