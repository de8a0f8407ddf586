// SPDX-License-Identifier: Apache-2.0
//! The least that a plugin can do: the kernel's part of an attachment, and
//! nothing else.
//!
//! It reads no configuration, keeps no state, looks nothing up and answers
//! nothing: names, indexes and addresses come as arguments, every message is
//! written by hand, and all that one namespace is asked for goes in one send.
//! What it makes is what manx makes (the benchmark compares the two before it
//! measures), so its time is what no plugin that makes the same can go below.
//! It must know nothing of manx's code.
//!
//! ```text
//! floor nothing
//! floor add NETNS HOSTLINK HOSTINDEX PODLINK PODINDEX MTU HOSTMAC PODMAC ADDRESS...
//! floor del HOSTLINK
//! ```

#![allow(clippy::print_stderr, reason = "the benchmark shows it when a run fails")]

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

// linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE_EXCL: u16 = 0x400 | 0x200;
const NLMSG_ERROR: u16 = 2;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const NEWNEIGH: u16 = 28;
const IFF_UP: u32 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const NODAD: u8 = 2;
const UNIVERSE: u8 = 0;
const LINK: u8 = 253;
const SETNEIGHTBL: u16 = 67;
const PERMANENT: u16 = 0x80;

/// proxy_arp on, accept_redirects off, arp_announce 2 (`IPV4_DEVCONF_*`).
const IPV4_CONF: [(u16, u32); 3] = [(3, 1), (4, 0), (18, 2)];

/// The pods' next hop.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// That of manx: musl's asks the kernel for each growth.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["nothing"] => Ok(()),
        ["add", rest @ ..] => Wish::read(rest).and_then(|wish| wish.add()),
        ["del", link] => del(link),
        _ => Err("usage: floor nothing | add ... | del HOSTLINK".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One end of the pair.
struct End<'a> {
    name: &'a str,
    index: u32,
    mac: [u8; 6],
}

/// What is to be made.
struct Wish<'a> {
    netns: &'a str,
    host: End<'a>,
    pod: End<'a>,
    mtu: u32,
    addresses: Vec<IpAddr>,
}

impl<'a> Wish<'a> {
    fn read(args: &[&'a str]) -> Result<Self, String> {
        let [netns, host, host_index, pod, pod_index, mtu, host_mac, pod_mac, addresses @ ..] =
            args
        else {
            return Err(format!("{} arguments are too few", args.len()));
        };
        let number = |text: &str| text.parse::<u32>().map_err(|e| format!("{text}: {e}"));
        let address = |text: &&str| text.parse::<IpAddr>().map_err(|e| format!("{text}: {e}"));
        Ok(Self {
            netns,
            host: End { name: host, index: number(host_index)?, mac: mac(host_mac)? },
            pod: End { name: pod, index: number(pod_index)?, mac: mac(pod_mac)? },
            mtu: number(mtu)?,
            addresses: addresses.iter().map(address).collect::<Result<_, _>>()?,
        })
    }

    fn ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    fn add(&self) -> Outcome {
        let netns = File::open(self.netns).map_err(|e| format!("{}: {e}", self.netns))?;
        self.set_up_host(netns.as_raw_fd())?;
        setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|e| format!("{}: {e}", self.netns))?;
        self.set_up_pod()
    }

    /// The pair, the host's end up from the start; it has no carrier yet, so
    /// the kernel generates no address before it is told not to. What rtnetlink
    /// can set goes there: a file below /proc/sys takes longer.
    fn set_up_host(&self, netns: i32) -> Outcome {
        let mut batch = Batch::default();
        let mut peer = link_header(self.pod.index, 0);
        self.end(&mut peer, &self.pod);
        attribute(&mut peer, 28, &netns.to_ne_bytes());
        let mut link = link_header(self.host.index, IFF_UP);
        self.end(&mut link, &self.host);
        let mut info = Vec::new();
        attribute(&mut info, 1, b"veth");
        nested(&mut info, 2, |data| attribute(data, 1, &peer));
        attribute(&mut link, 18, &info);
        batch.push(NEWLINK, CREATE_EXCL, &link);
        let (index, name) = (self.host.index, self.host.name);
        let v4 = self.addresses.iter().any(IpAddr::is_ipv4);
        batch.push(SETLINK, 0, &host_families(index, v4, self.ipv6()));
        if v4 {
            batch.push(SETNEIGHTBL, 0, &without_proxy_delay(index));
        }
        if self.ipv6() {
            batch.push(NEWADDR, CREATE_EXCL, &address(index, link_local(self.host.mac), 64));
        }
        for ip in &self.addresses {
            batch.push(NEWROUTE, CREATE_EXCL, &route(index, Some(*ip), None));
        }
        batch.send()?;
        if self.ipv6() {
            sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
        }
        sysctl(&format!("ipv6/conf/{name}/accept_ra"), "0")
    }

    fn end(&self, message: &mut Vec<u8>, end: &End<'_>) {
        attribute(message, 3, &[end.name.as_bytes(), &[0]].concat());
        attribute(message, 1, &end.mac);
        attribute(message, 4, &self.mtu.to_ne_bytes());
        for queues in [31, 32] {
            attribute(message, queues, &1u32.to_ne_bytes());
        }
    }

    fn set_up_pod(&self) -> Outcome {
        let (index, name) = (self.pod.index, self.pod.name);
        let mut batch = Batch::default();
        if self.ipv6() {
            sysctl(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
            sysctl(&format!("ipv6/conf/{name}/keep_addr_on_down"), "1")?;
            batch.push(SETLINK, 0, &without_generated_address(index));
        }
        batch.push(SETLINK, 0, &link_header(index, IFF_UP));
        if self.ipv6() {
            batch.push(NEWADDR, CREATE_EXCL, &address(index, link_local(self.pod.mac), 64));
        }
        for ip in &self.addresses {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            batch.push(NEWADDR, CREATE_EXCL, &address(index, *ip, length));
            let gateway = match ip {
                IpAddr::V4(_) => GATEWAY.into(),
                IpAddr::V6(_) => link_local(self.host.mac),
            };
            batch.push(NEWNEIGH, CREATE_EXCL, &neighbour(index, gateway, self.host.mac));
            if gateway.is_ipv4() {
                batch.push(NEWROUTE, CREATE_EXCL, &route(index, Some(gateway), None));
            }
            batch.push(NEWROUTE, CREATE_EXCL, &route(index, None, Some(gateway)));
        }
        batch.send()
    }
}

fn del(link: &str) -> Outcome {
    let mut message = link_header(0, 0);
    attribute(&mut message, 3, &[link.as_bytes(), &[0]].concat());
    let mut batch = Batch::default();
    batch.push(DELLINK, 0, &message);
    batch.send()
}

fn sysctl(key: &str, value: &str) -> Outcome {
    let path = format!("/proc/sys/net/{key}");
    let write = || File::options().write(true).open(&path)?.write_all(value.as_bytes());
    write().map_err(|e| format!("{path}: {e}"))
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let octets: Vec<u8> = text.split(':').flat_map(|part| u8::from_str_radix(part, 16)).collect();
    octets.try_into().map_err(|_| format!("{text:?} is no MAC address"))
}

/// The address that the kernel would derive from this MAC address.
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> IpAddr {
    let pair = |high, low| u16::from_be_bytes([high, low]);
    let last = [pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)];
    Ipv6Addr::new(0xfe80, 0, 0, 0, last[0], last[1], last[2], last[3]).into()
}

/// `struct ifinfomsg`.
fn link_header(index: u32, up: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), up.to_ne_bytes(), up.to_ne_bytes()].concat()
}

fn without_generated_address(index: u32) -> Vec<u8> {
    host_families(index, false, true)
}

/// `IFLA_AF_SPEC`: parameters of IPv4, and no generated address.
fn host_families(index: u32, v4: bool, v6: bool) -> Vec<u8> {
    let mut message = link_header(index, 0);
    nested(&mut message, 26, |families| {
        if v4 {
            nested(families, INET.into(), |inet| {
                nested(inet, 1, |conf| {
                    for (parameter, value) in IPV4_CONF {
                        attribute(conf, parameter, &value.to_ne_bytes());
                    }
                });
            });
        }
        if v6 {
            nested(families, INET6.into(), |inet6| attribute(inet6, 8, &[1]));
        }
    });
    message
}

/// `struct ndtmsg`.
fn without_proxy_delay(index: u32) -> Vec<u8> {
    let mut message = vec![INET, 0, 0, 0];
    attribute(&mut message, 1, b"arp_cache\0");
    nested(&mut message, 6, |parameters| {
        attribute(parameters, 1, &index.to_ne_bytes());
        attribute(parameters, 13, &0u64.to_ne_bytes());
    });
    message
}

/// `struct ifaddrmsg`.
fn address(index: u32, ip: IpAddr, length: u8) -> Vec<u8> {
    let (flags, scope) = match ip {
        IpAddr::V4(_) => (0, UNIVERSE),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => (NODAD, LINK),
        IpAddr::V6(_) => (NODAD, UNIVERSE),
    };
    let mut message = vec![family(ip), length, flags, scope];
    message.extend(index.to_ne_bytes());
    for kind in [1, 2] {
        attribute(&mut message, kind, &octets(ip));
    }
    message
}

/// `struct ndmsg`.
fn neighbour(index: u32, ip: IpAddr, mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![family(ip), 0, 0, 0];
    message.extend(index.to_ne_bytes());
    message.extend(PERMANENT.to_ne_bytes());
    message.extend([0, 0]);
    attribute(&mut message, 1, &octets(ip));
    attribute(&mut message, 2, &mac);
    message
}

/// `struct rtmsg`: to one address on the link, or to everywhere by a gateway.
fn route(index: u32, to: Option<IpAddr>, gateway: Option<IpAddr>) -> Vec<u8> {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let ipv6 = to.or(gateway).is_some_and(|ip| ip.is_ipv6());
    let length = to.map_or(0, |ip| if ip.is_ipv4() { 32 } else { 128 });
    let scope = if gateway.is_none() && !ipv6 { LINK } else { UNIVERSE };
    let family = if ipv6 { INET6 } else { INET };
    let mut message = vec![family, length, 0, 0, MAIN, BOOT, scope, UNICAST, 0, 0, 0, 0];
    if let Some(ip) = to {
        attribute(&mut message, 1, &octets(ip));
    }
    if let Some(ip) = gateway {
        attribute(&mut message, 5, &octets(ip));
    }
    attribute(&mut message, 4, &index.to_ne_bytes());
    message
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { INET } else { INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// `struct nlattr` and its value.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend((value.len() as u16 + 4).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn nested(to: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inside = Vec::new();
    fill(&mut inside);
    attribute(to, kind, &inside);
}

/// Messages for one send; the last one asks for an acknowledgement, and those
/// before it answer only if they fail.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    last: usize,
    count: u32,
}

impl Batch {
    fn push(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.last = self.bytes.len();
        self.count += 1;
        self.bytes.extend((body.len() as u32 + 16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
    }

    fn send(mut self) -> Outcome {
        if let Some(flags) = self.bytes.get_mut(self.last + 6) {
            *flags |= ACK as u8;
        }
        let told = |what: &str, e: nix::Error| format!("{what}: {e}");
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket: OwnedFd =
            socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)
                .map_err(|e| told("socket", e))?;
        let kernel = NetlinkAddr::new(0, 0);
        sendto(socket.as_raw_fd(), &self.bytes, &kernel, MsgFlags::empty())
            .map_err(|e| told("send", e))?;
        let mut buffer = [0; 8192];
        loop {
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .map_err(|e| told("receive", e))?;
            if read_answers(buffer.get(..length).unwrap_or_default(), self.count)? {
                return Ok(());
            }
        }
    }
}

/// Whether the last message is acknowledged; an error if any failed.
fn read_answers(mut bytes: &[u8], last: u32) -> Result<bool, String> {
    fn word(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }
    let mut done = false;
    while let (Some(length), Some(kind), Some(sequence), Some(code)) =
        (word(bytes, 0), word(bytes, 4), word(bytes, 8), word(bytes, 16))
    {
        if kind as u16 == NLMSG_ERROR {
            if code != 0 {
                let errno = code.wrapping_neg().cast_signed();
                let error = io::Error::from_raw_os_error(errno);
                return Err(format!("message {sequence} of {last}: {error}"));
            }
            done |= sequence == last;
        }
        bytes = bytes.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(done)
}
