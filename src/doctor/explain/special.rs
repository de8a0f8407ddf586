// SPDX-License-Identifier: Apache-2.0
//! Addresses that are no host's: no route is looked up for them as for others.

use std::net::IpAddr;

use super::{Explanation, Outcome, Question, Step, Verdict};

/// What an address is that no host has.
fn told(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the address that stands for none"),
        _ if address.is_multicast() => Some("a group's, not a host's"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("that of all hosts on the sender's link"),
        _ => None,
    }
}

/// What becomes of a packet that has such an address; nothing is said of others.
pub(super) fn explain(question: Question) -> Option<Explanation> {
    let Question { source, destination, .. } = question;
    let (what, address) = match (told(source), told(destination)) {
        (Some(_), _) => ("source", source),
        (None, Some(_)) => ("destination", destination),
        (None, None) => return None,
    };
    let is = format!("{address} is {}", told(address).unwrap_or_default());
    let follows = match (what, address) {
        ("source", _) => "no packet that is forwarded or answered has it as its source",
        (_, _) if address.is_unspecified() => "nothing can be sent there",
        // IPMR of the kernel forwards groups where a daemon asks for it, and nobody does here.
        (_, _) if address.is_multicast() => {
            "what is sent there is for the members on the sender's link, and this node forwards none \
             of it"
        }
        _ => "what is sent there never leaves that link, and this node forwards none of it",
    };
    let step = Step { what, text: is.clone(), by: String::new() };
    let text = format!("not forwarded: {is}, and {follows}");
    let verdict = Verdict { outcome: Outcome::Dropped, text, check: None };
    Some(Explanation { steps: vec![step], verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hosts_is_told_in_a_sentence() {
        let of = |source: &str, destination: &str| {
            let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
            explain(Question { source, destination, protocol: 6, port: None })
        };
        for (source, destination, words) in [
            ("10.1.0.5", "224.0.0.1", "224.0.0.1 is a group's, not a host's"),
            ("fd00::5", "ff02::1", "ff02::1 is a group's, not a host's"),
            ("10.1.0.5", "255.255.255.255", "never leaves that link"),
            ("10.1.0.5", "0.0.0.0", "nothing can be sent there"),
            ("fd00::5", "::", ":: is the address that stands for none"),
            ("0.0.0.0", "10.1.0.5", "as its source"),
            ("224.0.0.1", "10.1.0.5", "as its source"),
        ] {
            let Explanation { steps, verdict } = of(source, destination).unwrap();
            assert!(verdict.text.contains(words), "{words}: {}", verdict.text);
            assert_eq!((steps.len(), verdict.outcome), (1, Outcome::Dropped), "no route is told");
        }
        assert_eq!(of("10.1.0.5", "10.1.0.6"), None);
        assert_eq!(of("10.1.0.5", "127.0.0.1"), None, "that has its own sentence");
    }
}
