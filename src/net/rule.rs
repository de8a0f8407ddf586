// SPDX-License-Identifier: Apache-2.0
//! Policy rules: which routing table answers for packets of a source address.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteHeader, RouteProtocol},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage},
};
use nix::{errno::Errno, libc::RTM_NEWRULE};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Error, Reading, Request, Socket,
    message::{encode, family_of},
};
use crate::family::{Family, HasFamily};
use crate::list::PushAll;

/// What a namespace answers whose kernel has no such rules, or not of the family.
const UNSUPPORTED: [Errno; 2] = [Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];

/// A rule that sends packets from `source` to a table. What else one of somebody else
/// asks for is not told, but that it does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Packets from there; the whole family where the rule names no source.
    pub source: IpNetwork,
    /// The routing table that is looked into; 0 where the rule has another action.
    pub table: u32,
    /// The place among all rules, the lowest first.
    pub priority: u32,
    /// Who made it.
    pub protocol: u8,
    /// Packets to there alone; none where the rule names no destination.
    #[serde(default)]
    pub destination: Option<IpNetwork>,
    /// It drops the packets.
    #[serde(default)]
    pub refuses: bool,
    /// It asks for more than addresses: a mark, a device, a user, a port.
    #[serde(default)]
    pub selective: bool,
    /// For what, where it is selective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// What the table answers by a prefix that is no longer than this is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<u32>,
    /// The rule of this priority is the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goto: Option<u32>,
}

/// What a rule asks for beside addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// It is for the packets that not all of what it asks for holds for, addresses included.
    pub inverted: bool,
    /// The device that packets come by; `lo` for what the node itself sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Name>,
    /// What is left of the packet's mark by the mask, which comes second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<(u32, u32)>,
    /// Something else: a user, a port, a socket's device.
    pub more: bool,
}

/// A link's name; one of the kernel's has less than 16 bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name([u8; 16]);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut name = Self::default();
        let is_one = text.len() < 16 && !text.contains('\0');
        match name.0.get_mut(..text.len()).filter(|_| is_one) {
            Some(room) => room.copy_from_slice(text.as_bytes()),
            None => return Err(format!("{text:?} is no name of a link")),
        }
        Ok(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(bytes))
    }
}

/// Priorities of the kernel's own: local, main, default (`fib_default_rules_init`,
/// net/ipv4/fib_rules.c).
pub const KERNELS: [u32; 3] = [0, 32_766, 32_767];

/// What the kernel says where nothing is suppressed.
const SUPPRESSED_NONE: u32 = u32::MAX;

impl Rule {
    /// A rule that sends all packets from `source` to a table.
    pub fn new(source: IpNetwork, table: u32, priority: u32, protocol: u8) -> Self {
        let (destination, refuses, selective) = (None, false, false);
        let (asked, suppressed, goto) = (None, None, None);
        Self {
            source,
            table,
            priority,
            protocol,
            destination,
            refuses,
            selective,
            asked,
            suppressed,
            goto,
        }
    }

    /// Adds the rule; the same one is refused with `EEXIST`.
    pub fn create(&self) -> Request {
        let message = RouteNetlinkMessage::NewRule(self.describe());
        encode(message, NLM_F_CREATE | NLM_F_EXCL, format!("add rule {self}"))
    }

    /// Deletes this very rule; one that is gone already is success.
    pub fn delete(&self) -> Request {
        let message = RouteNetlinkMessage::DelRule(self.describe());
        let request = encode(message, 0, format!("delete rule {self}"));
        UNSUPPORTED.into_iter().fold(request.tolerate(Errno::ENOENT), Request::tolerate)
    }

    fn describe(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: family_of(self.source.family()),
            src_len: self.source.prefix(),
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            action: RuleAction::ToTable,
            ..RuleHeader::default()
        };
        message.attributes = vec![
            RuleAttribute::Source(self.source.ip()),
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::from(self.protocol)),
        ];
        message
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked.unwrap_or_default();
        let not = if asked.inverted { "not " } else { "" };
        write!(f, "{}: {not}from {}", self.priority, self.source)?;
        if let Some(to) = self.destination {
            write!(f, " to {to}")?;
        }
        if let Some((value, mask)) = asked.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        if let Some(name) = asked.input {
            write!(f, " iif {name}")?;
        }
        match self.table {
            0 => Ok(()),
            table => write!(f, " lookup {table}"),
        }
    }
}

/// All rules of one family; none where the kernel knows no rules.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn all(socket: &mut Socket, family: Family) -> Result<Vec<Rule>, Error> {
    list(socket, family, &|_| true)
}

/// The rules of both families that `protocol` made. A pod may have any number of its
/// own.
///
/// # Errors
/// As for [`all`].
pub fn of_protocol(socket: &mut Socket, protocol: u8) -> Result<Vec<Rule>, Error> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        rules.push_all(list(socket, family, &|rule| rule.protocol == protocol)?);
    }
    Ok(rules)
}

fn list(
    socket: &mut Socket,
    family: Family,
    wanted: &dyn Fn(&Rule) -> bool,
) -> Result<Vec<Rule>, Error> {
    let mut message = RuleMessage::default();
    message.header.family = family_of(family);
    let request = encode(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP, "list rules");
    match socket.dump(&request, |answer| Ok(read(answer)?.filter(wanted))) {
        Err(error) if UNSUPPORTED.contains(&error.errno) => Ok(Vec::new()),
        outcome => outcome,
    }
}

pub(super) fn read(answer: &Answer<'_>) -> Reading<Rule> {
    match answer.kind {
        RTM_NEWRULE => Ok(rule(&RuleMessage::parse(answer.body)?)),
        _ => Ok(None),
    }
}

/// `None` for families that nobody here serves.
fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let mut source: IpAddr = match header.family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut table, mut priority, mut protocol) = (header.table.into(), 0, 0);
    let mut destination = None;
    let mut asked = Asked { more: header.tos != 0, ..Asked::default() };
    let (mut mark, mut mask) = (None, None);
    let (mut suppressed, mut goto) = (None, None);
    asked.inverted = header.flags.contains(RuleFlags::Invert);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = *address,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(number) => protocol = u8::from(*number),
            RuleAttribute::Destination(address) => {
                destination = IpNetwork::new(*address, header.dst_len).ok();
            }
            // What is found in the table, not which packets are looked up.
            RuleAttribute::SuppressPrefixLen(longest) => {
                suppressed = Some(*longest).filter(|longest| *longest != SUPPRESSED_NONE);
            }
            RuleAttribute::Goto(target) => goto = Some(*target),
            RuleAttribute::Iifname(name) => {
                asked.input = name.clone().try_into().ok();
                asked.more |= asked.input.is_none();
            }
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = Some(*value),
            RuleAttribute::SuppressIfGroup(_)
            | RuleAttribute::Realm(_)
            | RuleAttribute::Other(_) => {}
            RuleAttribute::L3MDev(by_device) => asked.more |= *by_device,
            _ => asked.more = true,
        }
    }
    let refusals = [RuleAction::Blackhole, RuleAction::Unreachable, RuleAction::Prohibit];
    if header.action != RuleAction::ToTable {
        table = 0;
    }
    let source = IpNetwork::new(source, header.src_len).ok()?;
    let refuses = refusals.contains(&header.action);
    goto = goto.filter(|_| header.action == RuleAction::Goto);
    // The mask is told with the mark, and without one there is none.
    asked.mark = mark.map(|value| (value, mask.unwrap_or(u32::MAX)));
    let asked = Some(asked).filter(|asked| *asked != Asked::default());
    let rule = Rule {
        destination,
        refuses,
        selective: asked.is_some(),
        asked,
        suppressed,
        goto,
        ..Rule::new(source, table, priority, protocol)
    };
    Some(rule)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn ip(args: &str) -> String {
        let output = Command::new("ip").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// In a namespace of its own, beside what iproute2 says of it.
    fn made_read_and_removed() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut socket = Socket::open().unwrap();
        ip("rule add fwmark 7 table 300");
        for source in ["10.1.0.5/32", "fd00::5/128"] {
            let source: IpNetwork = source.parse().unwrap();
            let family = if source.is_ipv6() { "-6" } else { "-4" };
            let rule = Rule::new(source, 10_901, 10_900, 109);
            socket.apply(&[rule.create()]).unwrap();
            let again = socket.apply(&[rule.create()]).unwrap_err();
            assert_eq!(again.errno, Errno::EEXIST, "{again}");
            let told = ip(&format!("{family} rule show"));
            let line = format!("10900:\tfrom {} lookup 10901 proto 109", source.ip());
            assert!(told.lines().any(|one| one.trim_end() == line), "{told}");
            let found = all(&mut socket, source.family()).unwrap();
            assert!(found.contains(&rule), "{found:?}");
            assert_eq!(of_protocol(&mut socket, 109).unwrap(), [rule]);
            // Another's of the same source is not touched.
            let others = Rule { protocol: 3, ..rule };
            socket.apply(&[others.delete()]).unwrap();
            assert_eq!(all(&mut socket, source.family()).unwrap(), found);
            socket.apply(&[rule.delete(), rule.delete()]).unwrap();
            assert!(!all(&mut socket, source.family()).unwrap().contains(&rule));
        }
        for (line, told) in [
            ("not from 10.9.0.0/16", "400: not from 10.9.0.0/16 lookup 300"),
            ("iif lo to 10.8.0.0/16", "400: from 0.0.0.0/0 to 10.8.0.0/16 iif lo lookup 300"),
            ("not fwmark 7/15", "400: not from 0.0.0.0/0 fwmark 0x7/0xf lookup 300"),
        ] {
            ip(&format!("rule add {line} table 300 pref 400"));
            let rules = all(&mut socket, Family::V4).unwrap();
            let rule = rules.iter().find(|rule| rule.priority == 400).unwrap();
            assert_eq!((rule.to_string(), rule.selective), (told.to_owned(), true));
            assert!(!rule.asked.unwrap().more);
            let text = serde_json::to_string(rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), *rule);
            ip("rule del pref 400");
        }
        let rules = all(&mut socket, Family::V4).unwrap();
        assert!(rules.iter().any(|rule| rule.table == 300 && rule.source.prefix() == 0));
    }

    #[test]
    fn a_name_of_a_link_is_the_same_as_text() {
        for (text, is_one) in
            [("lo", true), ("fifteen-letters", true), ("sixteen-letters!", false), ("a\0b", false)]
        {
            let name = Name::try_from(text.to_owned());
            assert_eq!(name.is_ok(), is_one, "{text:?}");
            assert!(name.is_ok_and(|name| name.to_string() == text) || !is_one, "{text:?}");
        }
    }

    #[test]
    fn a_rule_is_made_read_and_removed() {
        thread::spawn(made_read_and_removed).join().unwrap();
    }
}
