// SPDX-License-Identifier: Apache-2.0
//! What the text of a bundle may come to in memory, before anything is made of it: a bundle is
//! anybody's, and `{}` is two bytes of text and a whole [`Network`](super::Network).

/// What a bundle may come to, in bytes. One of 64 MiB that a node wrote comes to half of it.
const BYTES_MAX: usize = 512 << 20;
/// What an object or an array comes to at most, in bytes, besides what is in it.
const CONTAINER_BYTES: usize = 512;
/// The same of every other value.
const VALUE_BYTES: usize = 32;

/// That JSON does not come to more than a bundle may.
///
/// # Errors
/// What it would come to.
pub(super) fn require_bearable(json: &[u8]) -> Result<(), String> {
    let (mut containers, mut values) = (0_usize, 1_usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => containers += 1,
            b',' => values += 1,
            _ => {}
        }
    }
    let bytes = json.len() + containers * CONTAINER_BYTES + values * VALUE_BYTES;
    if bytes <= BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "it has {containers} objects and lists and {values} values, which may take {} MiB of memory, \
         and a bundle may take {}",
        bytes >> 20,
        BYTES_MAX >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_strings_counts_for_nothing() {
        let mut json = br#"{"a\"{": [1, 2, "#.to_vec();
        json.extend(br#""{[,\\\"{[,\\","#.repeat(1 << 20));
        assert_eq!(require_bearable(&json), Ok(()));
        let open = [&json[..], &b"{},".repeat(900_000)].concat();
        let said = require_bearable(&open).unwrap_err();
        assert!(said.contains("900002 objects and lists and 1948579 values"), "{said}");
        assert!(said.contains("may take 5") && said.ends_with("may take 512"), "{said}");
    }
}
