// SPDX-License-Identifier: Apache-2.0
//! What a token of Kubernetes says of itself. Nobody's word is taken for it: who has it on
//! the disk asked for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::text::json;

/// What is said, as far as anything here depends on it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Said {
    /// Of the Node that it is bound to.
    pub(super) uid: Box<str>,
    pub(super) given: SystemTime,
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    uid: Box<str>,
}

/// Reads the middle part of a token; none of what is no token that is bound to a Node.
pub(super) fn read(token: &str) -> Option<Said> {
    let claims = decode(token.trim().split('.').nth(1)?)?;
    let Claims { iat, exp, kubernetes } = json::read(&claims).ok()?;
    let given = UNIX_EPOCH.checked_add(Duration::from_secs(iat))?;
    Some(Said { uid: kubernetes.node.uid, given, life: Duration::from_secs(exp.checked_sub(iat)?) })
}

/// Base 64 for addresses (RFC 4648, section 5), without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A token as an API server gives it.
    pub(in super::super) fn token(uid: &str, given: SystemTime, life: Duration) -> String {
        let iat = given.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"aud": ["https://kubernetes.default.svc"], "exp": iat + life.as_secs(),
            "iat": iat, "kubernetes.io": {"namespace": "manx-system",
            "node": {"name": "node-1", "uid": uid}}, "sub": "system:serviceaccount"});
        format!("e30.{}.c2ln", encode(claims.to_string().as_bytes()))
    }

    fn encode(bytes: &[u8]) -> String {
        let alphabet: Vec<char> =
            ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']).collect();
        let bits: Vec<u8> =
            bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
        let value =
            |bits: &[u8]| (0..6).fold(0, |value, at| value << 1 | bits.get(at).unwrap_or(&0));
        bits.chunks(6).map(|bits| alphabet[usize::from(value(bits))]).collect()
    }

    #[test]
    fn a_token_says_whose_it_is_and_until_when() {
        let given = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let life = Duration::from_secs(43_200);
        for uid in ["u", "u1", "u12", "a>b?c~"] {
            let said = read(&format!("{}\n", token(uid, given, life))).unwrap();
            assert_eq!(said, Said { uid: uid.into(), given, life });
        }
        assert_eq!(decode("eyJhIjoxfQ").unwrap(), br#"{"a":1}"#);
        let lists = format!("a.{}.c", encode(br#"[1, 2, [["u"]]]"#));
        for text in ["", "a.b", "a.e30.c", "a.ey.c", "a.e+0.c", &lists] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
