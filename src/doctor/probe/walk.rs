// SPDX-License-Identifier: Apache-2.0
//! What is sent along one path, and in which order: whether anything is answered, then
//! how large it may be, then what tells the causes of silence apart. Pure.

use std::{net::IpAddr, time::Duration};

use super::{
    Method, Path, Refusal,
    ladder::{Ladder, Sizes},
    round::{Next, Pace, Round},
};
use crate::list::{Gather, Ordered};
use crate::net::icmp::{SMALL, Why};

/// Until the first answer: a neighbour is asked for once more after a second.
const PATIENCE: Duration = Duration::from_millis(1400);
/// Echo requests by which a path is measured.
const ECHOES: Pace =
    Pace { times: 3, gap: Duration::from_millis(50), patience: PATIENCE, always: true };
/// Datagrams of which one answer is enough.
const DATAGRAMS: Pace =
    Pace { times: 3, gap: Duration::from_millis(150), patience: PATIENCE, always: false };
/// A port of traceroute, where nobody listens.
const CLOSED_PORT: u16 = 33_435;

/// A packet to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shot {
    /// What it is.
    pub method: Method,
    /// Its length in bytes with all headers.
    pub bytes: u32,
}

/// What to do next on a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Send this; it counts as sent.
    Send(Shot),
    /// Nothing, until then.
    Wait(Duration),
    /// The path is probed.
    Done,
}

/// What was seen of a path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Echo requests of the measurement, and how many of them were answered.
    pub sent: u32,
    /// How many of them were answered.
    pub received: u32,
    /// The times that answers took.
    pub times: Vec<Duration>,
    /// Whether datagrams to a closed port were answered; none where none were sent.
    pub datagrams: Option<bool>,
    /// The sizes that pass by echo requests, where any are answered.
    pub echo: Option<Sizes>,
    /// The same by datagrams.
    pub datagram: Option<Sizes>,
    /// Who refused what, each once.
    pub refusals: Vec<Refusal>,
    /// Why this node did not send, in the kernel's words.
    pub unsent: Option<String>,
    /// Whether the other end's own echo requests came.
    pub heard: bool,
}

impl Seen {
    /// The time that an answer usually takes: the first has to find the way.
    pub fn usual(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.order();
        times.get(times.len() / 2).copied()
    }
}

#[derive(Clone, Debug)]
enum Part {
    Reach(Method, Round),
    Ladder(Method, Ladder),
}

/// A path on which packets are under way.
#[derive(Clone, Debug)]
pub struct Walk {
    carrier_port: Option<u16>,
    limit: u32,
    inner: bool,
    parts: Vec<Part>,
    stage: u32,
    /// How long an answer to a datagram took.
    datagram_time: Duration,
    seen: Seen,
}

impl Walk {
    /// Nothing is sent yet.
    pub fn new(path: &Path) -> Self {
        let echo = Part::Reach(Method::Echo, Round::new([SMALL], ECHOES));
        let mut parts = vec![echo];
        if !path.inner {
            parts.push(closed_port());
        }
        let carrier_port = path.carrier_port();
        Self {
            carrier_port,
            limit: path.limit,
            inner: path.inner,
            parts,
            stage: 0,
            datagram_time: Duration::ZERO,
            seen: Seen::default(),
        }
    }

    /// What is to be done now.
    pub fn next(&mut self, now: Duration) -> Step {
        loop {
            let mut until: Option<Duration> = None;
            for part in &mut self.parts {
                let (method, next) = match part {
                    Part::Reach(method, round) => (*method, round.next(now)),
                    Part::Ladder(method, ladder) => (*method, ladder.next(now)),
                };
                match next {
                    Next::Send(bytes) => return Step::Send(Shot { method, bytes }),
                    Next::Wait(end) => until = Some(until.map_or(end, |until| until.min(end))),
                    Next::Done => {}
                }
            }
            if let Some(until) = until {
                return Step::Wait(until);
            }
            if !self.advance() {
                return Step::Done;
            }
        }
    }

    /// A packet was answered after this time.
    pub fn answered(&mut self, shot: Shot, took: Duration) {
        if shot == (Shot { method: Method::Echo, bytes: SMALL }) {
            self.seen.times.push(took);
        }
        if shot.method != Method::Echo {
            self.datagram_time = took;
        }
        for part in &mut self.parts {
            match part {
                Part::Reach(method, round) if *method == shot.method => round.answered(shot.bytes),
                Part::Ladder(method, ladder) if *method == shot.method => {
                    ladder.answered(shot.bytes);
                }
                _ => {}
            }
        }
    }

    /// Somebody says why a packet goes no further.
    pub fn refused(&mut self, shot: Shot, why: Why, by: IpAddr) {
        if let Why::TooBig(mtu) = why {
            for part in &mut self.parts {
                if let Part::Ladder(method, ladder) = part
                    && *method == shot.method
                {
                    ladder.too_big(shot.bytes, mtu, by);
                }
            }
            return;
        }
        self.note(Refusal { why, by, of_carrier: Some(shot.method) == self.own_port() });
    }

    /// Somebody says why a tunnel's own packet goes no further.
    pub fn carrier_refused(&mut self, why: Why, by: IpAddr) {
        if !matches!(why, Why::TooBig(_)) {
            self.note(Refusal { why, by, of_carrier: true });
        }
    }

    /// The kernel did not send.
    pub fn unsent(&mut self, words: &str) {
        self.seen.unsent.get_or_insert_with(|| words.to_owned());
    }

    /// An echo request of the other end has come.
    pub fn hear(&mut self) {
        self.seen.heard = true;
    }

    /// What was seen until now.
    pub fn into_seen(self) -> Seen {
        self.seen
    }

    fn own_port(&self) -> Option<Method> {
        self.carrier_port.map(Method::Datagram)
    }

    fn note(&mut self, refusal: Refusal) {
        if !self.seen.refusals.contains(&refusal) {
            self.seen.refusals.push(refusal);
        }
    }

    /// Takes over what the parts found, and makes those that follow; false if none do.
    fn advance(&mut self) -> bool {
        self.stage += 1;
        for part in std::mem::take(&mut self.parts) {
            match part {
                Part::Reach(Method::Echo, round) => {
                    (self.seen.sent, self.seen.received) = round.counts();
                }
                Part::Reach(method, round) if Some(method) != self.own_port() => {
                    self.seen.datagrams = Some(round.counts().1 > 0);
                }
                Part::Reach(..) => {}
                Part::Ladder(Method::Echo, ladder) => self.seen.echo = ladder.into_sizes(),
                Part::Ladder(_, ladder) => self.seen.datagram = ladder.into_sizes(),
            }
        }
        let usual = self.seen.usual();
        let by_datagram = self.seen.datagrams == Some(true);
        self.parts = match (self.stage, usual) {
            (1, Some(usual)) => {
                vec![ladder(Method::Echo, self.limit, usual)]
            }
            (1, None) if by_datagram => {
                vec![ladder(Method::Datagram(CLOSED_PORT), self.limit, self.datagram_time)]
            }
            (1, None) if self.inner => self
                .own_port()
                .into_iter()
                .map(|method| Part::Reach(method, Round::new([SMALL], DATAGRAMS)))
                .gather(),
            // An answer to a datagram is small: where large ones are answered and large echo
            // requests are not, it is the way back that is narrow.
            (2, Some(usual)) if by_datagram => {
                let method = Method::Datagram(CLOSED_PORT);
                let ladder = Ladder::new(method, SMALL, self.limit, usual);
                vec![Part::Ladder(method, ladder.largest_alone())]
            }
            _ => Vec::new(),
        };
        !self.parts.is_empty()
    }
}

fn closed_port() -> Part {
    Part::Reach(Method::Datagram(CLOSED_PORT), Round::new([SMALL], DATAGRAMS))
}

fn ladder(method: Method, limit: u32, usual: Duration) -> Part {
    Part::Ladder(method, Ladder::new(method, SMALL, limit, usual))
}
