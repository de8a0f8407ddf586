// SPDX-License-Identifier: Apache-2.0
//! What an agent that was stopped has left in a firewall of iptables, in the text that
//! `iptables-save` prints, and the text by which `iptables-restore --noflush` takes it
//! out. Each table is changed as one.

use std::fmt::Write;

use ipnetwork::IpNetwork;

use crate::list::{Gather, PushAll};

/// Whose chains and rules are looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Marks {
    /// What the names of its chains begin with.
    pub(super) chain: &'static str,
    /// What the comments of its rules in the chains of others begin with.
    pub(super) comment: &'static str,
}

impl Marks {
    /// Whether a rule of another's chain is an agent's.
    fn is_hook(self, rule: &str) -> bool {
        let target = [format!("-j {}", self.chain), format!("-g {}", self.chain)];
        let comment =
            [format!("--comment \"{}", self.comment), format!("--comment {}", self.comment)];
        target.iter().chain(&comment).any(|words| rule.contains(words.as_str()))
    }
}

/// Felix writes a digest behind it.
pub(super) const CALICO: Marks = Marks { chain: "cali-", comment: "cali:" };
pub(super) const FLANNEL: Marks = Marks { chain: "FLANNEL-", comment: "flanneld" };

/// What of one table is an agent's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Left {
    pub(super) table: String,
    pub(super) chains: Vec<String>,
    /// How many rules those have.
    pub(super) rules: usize,
    /// Its rules in chains of others, as they were appended.
    hooks: Vec<String>,
    /// What links may send from besides their pods' addresses.
    pub(super) sources: Vec<(String, IpNetwork)>,
}

/// Felix's chain that accepts what Calico's annotation allowedSourcePrefixes allows. In its
/// own tables the name begins with that of a table of iptables.
const SPOOFING: &str = "cali-rpf-skip";

/// Whether a chain of Felix's own tables is that one.
pub(super) fn is_of_sources(chain: &str) -> bool {
    chain.strip_suffix(SPOOFING).is_some_and(|table| table.is_empty() || table.ends_with('-'))
}

/// What such a chain accepts, in the text that `nft list chain` prints.
pub(super) fn sources_of_nft(text: &str) -> Vec<(String, IpNetwork)> {
    let of_rule = |rule| source(value(rule, "iifname"), value(rule, "saddr"));
    text.lines().filter_map(of_rule).gather()
}

fn source(link: Option<String>, network: Option<String>) -> Option<(String, IpNetwork)> {
    Some((link?.trim_matches('"').to_owned(), network?.parse().ok()?))
}

/// The name of a chain, in its own line or in that of a rule.
fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// What follows an option of a rule.
fn value(rule: &str, option: &str) -> Option<String> {
    rule.split_whitespace().skip_while(|word| *word != option).nth(1).map(str::to_owned)
}

/// Reads what is left.
pub(super) fn left(text: &str, marks: Marks) -> Vec<Left> {
    let mut tables: Vec<Left> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Left { table: name.trim().to_owned(), ..Left::default() });
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let name = first_word(chain);
            if name.starts_with(marks.chain) {
                table.chains.push(name.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            table.read(rule, marks);
        }
    }
    tables.retain(|table| !table.chains.is_empty() || !table.hooks.is_empty());
    tables
}

impl Left {
    fn read(&mut self, rule: &str, marks: Marks) {
        let chain = first_word(rule);
        if chain.starts_with(marks.chain) {
            self.rules += 1;
            if chain == SPOOFING {
                self.sources.push_all(source(value(rule, "-i"), value(rule, "-s")));
            }
            return;
        }
        if marks.is_hook(rule) {
            self.hooks.push(rule.to_owned());
        }
    }

    /// How many rules stand in chains of others.
    pub(super) fn hooks(&self) -> usize {
        self.hooks.len()
    }
}

/// The same text as it is without what is an agent's.
pub(super) fn without(text: &str, marks: Marks) -> String {
    let is_own = |line: &&str| match (line.strip_prefix(':'), line.strip_prefix("-A ")) {
        (Some(chain), _) => first_word(chain).starts_with(marks.chain),
        (_, Some(rule)) => first_word(rule).starts_with(marks.chain) || marks.is_hook(rule),
        (None, None) => false,
    };
    let mut kept: Vec<&str> = text.lines().filter(|line| !is_own(line)).gather();
    kept.push("");
    kept.join("\n")
}

/// The text that takes it out: first what leads to its chains, then what is in them, for
/// they lead to each other.
pub(super) fn removal(tables: &[Left]) -> String {
    let mut text = String::new();
    for table in tables {
        let _ = writeln!(text, "*{}", table.table);
        for rule in &table.hooks {
            let _ = writeln!(text, "-D {rule}");
        }
        for (option, chains) in [("-F", &table.chains), ("-X", &table.chains)] {
            for chain in chains {
                let _ = writeln!(text, "{option} {chain}");
            }
        }
        text += "COMMIT\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
# Generated by iptables-save v1.8.9 (nf_tables) on Fri Nov 27 13:00:00 2026
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m comment --comment \"Policy explicitly accepted packet.\" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A KUBE-FORWARD -j ACCEPT
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-from-wl-dispatch -m comment --comment \"Unknown interface\" -j DROP
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
COMMIT
";

    #[test]
    fn what_felix_left_is_taken_out_and_nothing_else() {
        let found = left(SAVED, CALICO);
        let [filter] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((filter.chains.len(), filter.rules, filter.hooks()), (2, 2, 2));
        let wanted = "\
*filter
-D FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-D FORWARD -m comment --comment \"cali:S93hcgKJrXEqnTfs\" -m comment --comment \"Policy explicitly accepted packet.\" -m mark --mark 0x10000/0x10000 -j ACCEPT
-F cali-FORWARD
-F cali-from-wl-dispatch
-X cali-FORWARD
-X cali-from-wl-dispatch
COMMIT
";
        assert_eq!(removal(&found), wanted);
        let rest = without(SAVED, CALICO);
        assert!(rest.contains(":FORWARD DROP") && rest.contains("-j KUBE-FORWARD"), "{rest}");
        assert!(!rest.contains("cali"), "{rest}");
        let spaced = SAVED.replace(":cali", ":  cali").replace("-A cali", "-A  cali");
        assert_eq!((left(&spaced, CALICO), without(&spaced, CALICO)), (found, rest));
        assert_eq!(left(SAVED, FLANNEL), []);
        assert_eq!(left("", CALICO), []);
    }

    #[test]
    fn what_pods_may_send_from_is_read() {
        let text = "*raw\n:cali-rpf-skip - [0:0]\n-A cali-rpf-skip -s 10.9.0.0/16 -i cali1 -m \
            comment --comment \"cali:x\" -j ACCEPT\nCOMMIT\n";
        let wanted = [("cali1".to_owned(), "10.9.0.0/16".parse().unwrap())];
        assert_eq!(left(text, CALICO)[0].sources, wanted);
        let text = "table ip calico {\n\tchain raw-cali-rpf-skip {\n\t\tiifname \"cali1\" ip \
            saddr 10.9.0.0/16 counter packets 0 bytes 0 accept\n\t}\n}\n";
        assert_eq!(sources_of_nft(text), wanted);
        assert!(is_of_sources("raw-cali-rpf-skip") && is_of_sources(SPOOFING));
        assert!(!is_of_sources("raw-cali-PREROUTING"));
    }

    #[test]
    fn flannels_rules_are_known_by_their_chain_or_comment() {
        let text = "*nat\n:FLANNEL-POSTRTG - [0:0]\n\
            -A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
            -A FLANNEL-POSTRTG -s 10.244.0.0/16 -j RETURN\nCOMMIT\n";
        let found = left(text, FLANNEL);
        assert_eq!((found[0].chains.len(), found[0].rules, found[0].hooks()), (1, 1, 1));
    }
}
