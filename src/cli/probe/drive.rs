// SPDX-License-Identifier: Apache-2.0
//! Sends what the paths ask for, at a bounded rate, and hands them what comes back: one
//! loop over all sockets.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::targets::Target;
use crate::{
    doctor::probe::{Found, Method, Path, Peer, Seen, Shot, Step, Walk},
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{
        Error, Socket,
        icmp::{Came, Icmp, Kind, Packet, Quoted, Why},
        neigh::{self, Known},
        route,
    },
};

/// How many paths are under way at once: enough for any rate, as silent ones wait.
const UNDER_WAY_MAX: usize = 256;
/// What was not sent in this time is sent at once.
const BURST: Duration = Duration::from_millis(50);
/// Packets are numbered with this many numbers, and the ports that datagrams come from begin there.
const NUMBERS: u16 = 0x8000;
/// After so many packets it is looked for answers.
const ANSWERS_AT_ONCE: u16 = 64;
const UDP: u8 = 17;
const ICMP: [u8; 2] = [1, 58];

/// A packet on its way.
struct Flying {
    lane: usize,
    shot: Shot,
    at: Duration,
}

/// A path, and how far it is.
struct Lane {
    target: usize,
    path: Path,
    walk: Walk,
    done: bool,
}

/// Probes all of them; `progress` is told how many of how many paths are done.
///
/// # Errors
/// Of opening sockets, and of the kernel's answers.
pub(super) fn run(
    targets: Vec<Target>,
    rate: u32,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Peer>, Error> {
    let mut peers = Vec::with_capacity(targets.len());
    let mut lanes = Vec::new();
    for (target, Target { name, paths, skipped }) in targets.into_iter().enumerate() {
        peers.push(Peer { name, paths: Vec::new(), skipped });
        lanes.push_all(paths.into_iter().map(|path| {
            let walk = Walk::new(&path);
            Lane { target, path, walk, done: false }
        }));
    }
    let mut drive = Drive::new(lanes, rate)?;
    let mut socket = Socket::open()?;
    let begin = Instant::now();
    ask_neighbours(&drive.lanes, &mut socket)?;
    drive.run(progress)?;
    for Lane { target, path, walk, .. } in drive.lanes {
        let found = found(path, walk.into_seen(), (&mut socket, begin))?;
        if let Some(peer) = peers.get_mut(target) {
            peer.paths.push(found);
        }
    }
    Ok(peers)
}

/// Asks the next hops on their links whether they are there: that they were a while ago is not
/// what is to be found out. They answer while the paths are probed.
fn ask_neighbours(lanes: &[Lane], socket: &mut Socket) -> Result<(), Error> {
    let outer = lanes.iter().map(|lane| &lane.path).filter(|path| !path.inner);
    let hops: HashSet<(u32, IpAddr)> = outer.map(|path| (path.device.1, path.next_hop)).collect();
    let mut requests = Vec::new();
    for (index, address) in hops {
        let known = neigh::lookup(socket, index, address)?;
        requests.push_all(known.and_then(|known| known.ask(index, address)));
    }
    socket.apply(&requests)
}

/// Whether a neighbour has answered since that moment; none where nobody asked it.
fn has_answered(known: &Known, begin: Instant) -> Option<bool> {
    let is_there = || known.confirmed.is_some_and(|ago| ago < begin.elapsed());
    match known.mac {
        None => Some(false),
        Some(_) if known.permanent => None,
        Some(_) if is_there() => Some(true),
        Some(_) => known.is_asked.then_some(false),
    }
}

/// What the kernel knows besides of a path that is not as it should be.
fn found(path: Path, seen: Seen, (socket, begin): (&mut Socket, Instant)) -> Result<Found, Error> {
    let mut found = Found { path, seen, neighbour: None, remembered: None };
    let path = &found.path;
    if !found.answers() && !path.inner {
        let known = neigh::lookup(socket, path.device.1, path.next_hop)?;
        found.neighbour = known.and_then(|known| has_answered(&known, begin));
    }
    if found.sizes().is_some_and(|sizes| sizes.lost.is_some()) {
        let way = route::resolve_from(socket, None, &[path.address])?.pop().flatten();
        let remembered = way.and_then(|way| way.route.mtu);
        found.remembered = remembered.filter(|mtu| *mtu < found.path.limit);
    }
    Ok(found)
}

struct Drive {
    sockets: Vec<Icmp>,
    lanes: Vec<Lane>,
    begin: Instant,
    /// Between two packets.
    interval: Duration,
    /// When the next one may be sent.
    next: Duration,
    number: u16,
    ident: u16,
    flying: HashMap<u16, Flying>,
    /// Which path an address is the other end of.
    ends: HashMap<IpAddr, usize>,
    /// Which inner paths are carried to a node: the first one, of several.
    carried: HashMap<IpAddr, usize>,
}

impl Drive {
    fn new(lanes: Vec<Lane>, rate: u32) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for family in Family::BOTH {
            if lanes.iter().any(|lane| lane.path.family == family) {
                sockets.push(Icmp::open(family)?);
            }
        }
        let all = || lanes.iter().enumerate();
        // The first one is put there last, and stays.
        let carried = all().rev().filter(|(_, lane)| lane.path.carrier.is_some());
        Ok(Self {
            ends: all().map(|(at, lane)| (lane.path.address, at)).collect(),
            carried: carried.map(|(at, lane)| (lane.path.outer.1, at)).collect(),
            sockets,
            lanes,
            begin: Instant::now(),
            interval: Duration::from_secs(1) / rate,
            next: Duration::ZERO,
            number: 0,
            ident: u16::try_from(std::process::id() & 0xffff).unwrap_or_default(),
            flying: HashMap::new(),
        })
    }

    fn run(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), Error> {
        let all = self.lanes.len();
        let mut waiting = 0..all;
        let mut under_way: Vec<usize> = Vec::new();
        loop {
            let missing = UNDER_WAY_MAX.saturating_sub(under_way.len());
            under_way.push_all(waiting.by_ref().take(missing));
            if under_way.is_empty() {
                return Ok(());
            }
            // What came while this process did not run came in time.
            let now = self.begin.elapsed();
            self.receive();
            let wake = self.advance(&under_way, now);
            under_way.retain(|lane| self.lanes.get(*lane).is_some_and(|lane| !lane.done));
            progress(all - waiting.len() - under_way.len(), all);
            if let Some(wake) = wake {
                self.wait(wake.saturating_sub(self.begin.elapsed()))?;
            }
        }
    }

    /// Sends what may be sent, and says when there is more to do.
    fn advance(&mut self, under_way: &[usize], now: Duration) -> Option<Duration> {
        let mut wake: Option<Duration> = None;
        for place in under_way {
            let until = loop {
                if self.next > now {
                    break Some(self.next);
                }
                let Some(lane) = self.lanes.get_mut(*place) else { break None };
                match lane.walk.next(now) {
                    Step::Send(shot) => {
                        self.send(*place, shot, now);
                        // More answers at once might not fit into a socket's buffer.
                        if self.number.is_multiple_of(ANSWERS_AT_ONCE) {
                            self.receive();
                        }
                    }
                    Step::Wait(until) => break Some(until),
                    Step::Done => {
                        lane.done = true;
                        break Some(now);
                    }
                }
            };
            wake = [wake, until].into_iter().flatten().min();
        }
        wake
    }

    fn send(&mut self, place: usize, shot: Shot, now: Duration) {
        self.next = self.next.max(now.saturating_sub(BURST)) + self.interval;
        self.number = (self.number + 1) % NUMBERS;
        let Some(lane) = self.lanes.get_mut(place) else { return };
        let (source, to) = lane.path.ends(shot.method);
        let kind = match shot.method {
            Method::Echo => Kind::Echo { ident: self.ident, sequence: self.number },
            Method::Datagram(port) => Kind::Datagram { from: NUMBERS + self.number, port },
        };
        let packet = Packet { source, to, bytes: shot.bytes, kind };
        let Some(socket) = self.sockets.iter().find(|one| one.family() == to.family()) else {
            return;
        };
        // The answer may be there before this returns.
        self.flying.insert(self.number, Flying { lane: place, shot, at: self.begin.elapsed() });
        match socket.send(&packet) {
            Ok(()) | Err(Errno::EAGAIN | Errno::ENOBUFS) => {}
            // The link was given another MTU meanwhile.
            Err(Errno::EMSGSIZE) => lane.walk.refused(shot, Why::TooBig(0), source),
            Err(errno) => lane.walk.unsent(errno.desc()),
        }
    }

    fn wait(&self, limit: Duration) -> Result<(), Error> {
        let mut sources: Vec<PollFd<'_>> =
            self.sockets.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).gather();
        let millis = u16::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        match poll(&mut sources, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::new("wait for answers", errno)),
        }
    }

    fn receive(&mut self) {
        for place in 0..self.sockets.len() {
            while let Some(came) = self.sockets.get(place).and_then(Icmp::receive) {
                self.take(came);
            }
        }
    }

    fn take(&mut self, came: Came) {
        let now = self.begin.elapsed();
        match came {
            Came::Request { from } => {
                if let Some(lane) = self.ends.get(&from).and_then(|at| self.lanes.get_mut(*at)) {
                    lane.walk.hear();
                }
            }
            Came::Reply { from, ident, sequence } => {
                let answers = |flying: &Flying, path: &Path| {
                    flying.shot.method == Method::Echo && path.address == from
                };
                if ident == self.ident {
                    self.answered(sequence, answers, now);
                }
            }
            Came::Error { by, why, about } => self.failed(by, why, about, now),
        }
    }

    fn answered(&mut self, number: u16, is_it: impl Fn(&Flying, &Path) -> bool, now: Duration) {
        let Some(flying) = self.flying.get(&number) else { return };
        let Some(lane) = self.lanes.get_mut(flying.lane) else { return };
        if is_it(flying, &lane.path) {
            lane.walk.answered(flying.shot, now.saturating_sub(flying.at));
            self.flying.remove(&number);
        }
    }

    fn failed(&mut self, by: IpAddr, why: Why, about: Quoted, now: Duration) {
        let Quoted { to, protocol, pair: [first, second] } = about;
        if let Some(lane) = self.carried.get(&to).and_then(|at| self.lanes.get_mut(*at))
            && lane.path.is_carried_by(protocol, second)
        {
            lane.walk.carrier_refused(why, by);
            return;
        }
        let number = match protocol {
            UDP if first >= NUMBERS => first - NUMBERS,
            _ if ICMP.contains(&protocol) && first == self.ident => second,
            _ => return,
        };
        let Some(flying) = self.flying.get(&number) else { return };
        let Some(lane) = self.lanes.get_mut(flying.lane) else { return };
        let is_sent = match flying.shot.method {
            Method::Echo => protocol != UDP,
            Method::Datagram(port) => protocol == UDP && port == second,
        };
        if !is_sent || lane.path.ends(flying.shot.method).1 != to {
            return;
        }
        // Nobody listens there, which is an answer.
        if (why, by) == (Why::Port, to) {
            self.answered(number, |_, _| true, now);
        } else {
            lane.walk.refused(flying.shot, why, by);
        }
    }
}
