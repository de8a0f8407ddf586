// SPDX-License-Identifier: Apache-2.0
//! The lines of several tcpdumps as one, in the order of time, and what they say together. Pure:
//! whoever reads and prints them hands the time in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::places::Role;
use crate::list::Gather;

/// So long a line waits for an older one of another device.
const HELD: Duration = Duration::from_millis(250);

/// When a packet was seen: seconds since 1970, and microseconds.
pub(super) type Stamp = (u64, u32);

/// A packet as tcpdump tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    pub(super) stamp: Stamp,
    /// Which of the places it was seen at.
    pub(super) place: usize,
    pub(super) packet: String,
}

/// Lines that wait for older ones.
pub(super) struct Lines {
    /// By their time, by the place where the packet was first, and as they came.
    held: BTreeMap<Order, (Instant, Line)>,
    count: u64,
    /// The pod's addresses.
    pod: Vec<IpAddr>,
    /// What is older is left out.
    since: Stamp,
}

type Order = (Stamp, usize, u64);

impl Lines {
    pub(super) fn new(pod: Vec<IpAddr>, since: Stamp) -> Self {
        Self { held: BTreeMap::new(), count: 0, pod, since }
    }

    /// What comes in over a tunnel keeps the time at which its carrier came.
    pub(super) fn add(&mut self, now: Instant, line: Line) {
        if line.stamp < self.since {
            return;
        }
        let is_out = ends(&line.packet).is_some_and(|(source, _)| self.pod.contains(&source));
        let step = if is_out { line.place } else { usize::MAX - line.place };
        self.held.insert((line.stamp, step, self.count), (now, line));
        self.count += 1;
    }

    /// Those that waited long enough, with all that are older than one of them.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Line> {
        let waited = |(came, _): &(Instant, Line)| now.saturating_duration_since(*came) >= HELD;
        let Some((last, _)) = self.held.iter().rev().find(|(_, line)| waited(line)) else {
            return Vec::new();
        };
        let (stamp, step, count) = *last;
        let later = self.held.split_off(&(stamp, step, count + 1));
        std::mem::replace(&mut self.held, later).into_values().map(|(_, line)| line).gather()
    }

    /// When the next one has waited long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.values().map(|(came, _)| *came + HELD).min()
    }

    /// All of them.
    pub(super) fn rest(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.held).into_values().map(|(_, line)| line).gather()
    }
}

/// What tcpdump -tt printed: the time, and the rest.
pub(super) fn stamped(line: &str) -> Option<(Stamp, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (seconds, micros) = time.split_once('.')?;
    Some(((seconds.parse().ok()?, micros.parse().ok()?), rest))
}

/// Since 1970.
fn time((seconds, micros): Stamp) -> Duration {
    Duration::from_secs(seconds) + Duration::from_micros(micros.into())
}

/// The time of day in UTC.
pub(super) fn time_of_day((seconds, micros): Stamp) -> String {
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// How many packets were seen at each place, of one direction.
#[derive(Clone, Debug, Default)]
struct Way {
    counts: Vec<usize>,
    /// Where one was seen soon after the last that counts.
    later: Vec<bool>,
    /// When that was.
    last: Stamp,
    /// The other end of the first.
    other: Option<IpAddr>,
}

/// Few packets take longer through a node.
const PASSAGE: Duration = Duration::from_millis(100);

/// So many addresses that the pod speaks with are known apart.
const OTHERS_MAX: usize = 1024;

/// What was seen at the places, which are in the order of the pod's packets outwards.
#[derive(Debug)]
pub(super) struct Seen {
    places: Vec<(Role, String)>,
    pod: Vec<IpAddr>,
    node: Vec<IpAddr>,
    /// Whom the pod speaks with.
    others: BTreeSet<IpAddr>,
    out: Way,
    back: Way,
}

impl Seen {
    pub(super) fn new(places: Vec<(Role, String)>, pod: Vec<IpAddr>, node: Vec<IpAddr>) -> Self {
        let (counts, later) = (vec![0; places.len()], vec![false; places.len()]);
        let way = Way { counts, later, ..Way::default() };
        Self { places, pod, node, others: BTreeSet::new(), out: way.clone(), back: way }
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, line: &Line) {
        let Some((way, other)) = self.way(line) else { return };
        way.other.get_or_insert(other);
        way.last = line.stamp;
        if let Some(count) = way.counts.get_mut(line.place) {
            *count += 1;
        }
    }

    /// Sees a packet that does not count any more: the last one that does may be on its way.
    pub(super) fn add_later(&mut self, line: &Line) {
        let Some((way, _)) = self.way(line) else { return };
        let is_soon = time(line.stamp).saturating_sub(time(way.last)) <= PASSAGE;
        if let Some(later) = way.later.get_mut(line.place) {
            *later |= is_soon;
        }
    }

    /// Which direction a packet is of, and the other end.
    fn way(&mut self, line: &Line) -> Option<(&mut Way, IpAddr)> {
        let (source, destination) = ends(&line.packet)?;
        let role = self.places.get(line.place).map(|(role, _)| *role);
        // Outside, the node's address stands for that of a pod, where the pod speaks with them.
        let is_own = |address, other| {
            let is_node = role == Some(Role::Uplink) && self.node.contains(&address);
            self.pod.contains(&address) || (is_node && self.others.contains(other))
        };
        let (way, other) = match (is_own(source, &destination), is_own(destination, &source)) {
            (true, _) => (&mut self.out, destination),
            (_, true) => (&mut self.back, source),
            _ => return None,
        };
        if self.others.len() < OTHERS_MAX {
            self.others.insert(other);
        }
        Some((way, other))
    }

    /// How many there were of each direction, and what to ask where one ends on this node.
    pub(super) fn told(&self, pod: &str, is_here: impl Fn(IpAddr) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        for (way, what) in [(&self.out, "from the pod"), (&self.back, "to the pod")] {
            let counts = self.places.iter().zip(&way.counts);
            let counts = counts.map(|((_, name), count)| format!("{count} at {name}"));
            told.push(format!("{what}: {}", counts.gather().join(", ")));
        }
        for (is_out, other, (role, name)) in self.last_seen(is_here) {
            let (of, ask) = match is_out {
                true => ("from the pod", format!("manx explain {pod} {other}")),
                false => ("to the pod", format!("manx explain {other} {pod}")),
            };
            // What becomes of the node's own packets is in no table that explain follows.
            let who = match is_out && *role == Role::Tunnel {
                true => "and manx probe say more",
                false => "says why",
            };
            told.push(format!("what is sent {of} is not seen behind {name}: {ask} {who}"));
        }
        told
    }

    /// Behind which places none was seen, though the way goes on: whether it leads from the pod, and to whom
    /// or from whom.
    pub(super) fn last_seen(
        &self,
        is_here: impl Fn(IpAddr) -> bool,
    ) -> Vec<(bool, IpAddr, &(Role, String))> {
        let last = |(way, is_out): (&Way, bool)| {
            let other = way.other.filter(|other| !is_here(*other))?;
            let seen = way.counts.iter().zip(&way.later).map(|(count, later)| *count > 0 || *later);
            let places = self.places.iter().zip(seen);
            let mut passed = places.filter_map(|(place, seen)| seen.then_some(place));
            let (last, end) = match is_out {
                true => (passed.next_back()?, Role::Uplink),
                false => (passed.next()?, Role::Pod),
            };
            (last.0 != end).then_some((is_out, other, last))
        };
        [(&self.out, true), (&self.back, false)].into_iter().filter_map(last).gather()
    }
}

/// The addresses of a packet's ends.
fn ends(packet: &str) -> Option<(IpAddr, IpAddr)> {
    let addresses = packet.strip_prefix("IP ").or_else(|| packet.strip_prefix("IP6 "))?;
    let (source, rest) = addresses.split_once(" > ")?;
    let (destination, _) = rest.split_once(": ")?;
    Some((address(source)?, address(destination)?))
}

/// An address, behind which a port may stand.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.rsplit_once('.')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_the_order_of_their_times() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut lines = Lines::new(vec!["10.1.0.2".parse().unwrap()], (5, 10));
        let line = |stamp, packet: &str| Line { stamp, place: 0, packet: packet.to_owned() };
        let packets =
            |lines: Vec<Line>| lines.into_iter().map(|line| line.packet).collect::<Vec<_>>();
        assert_eq!(lines.next(), None);
        lines.add(after(0), line((5, 20), "second"));
        lines.add(after(10), line((5, 10), "first"));
        lines.add(after(10), line((5, 9), "before all listened"));
        lines.add(after(20), line((5, 20), "third"));
        lines.add(after(200), line((5, 15), "between"));
        lines.add(after(210), line((6, 0), "last"));
        assert_eq!(lines.next(), Some(after(250)));
        assert!(lines.due(after(249)).is_empty());
        assert_eq!(packets(lines.due(after(250))), ["first", "between", "second"]);
        assert_eq!(lines.next(), Some(after(270)));
        assert_eq!(packets(lines.due(after(300))), ["third"]);
        assert_eq!(packets(lines.rest()), ["last"]);
        // Of one time, from the pod outwards or from outside to the pod.
        for (packet, expected) in
            [("IP 10.1.0.2 > 10.2.0.2: x", [0, 1, 2]), ("IP 10.2.0.2 > 10.1.0.2: x", [2, 1, 0])]
        {
            for place in [1, 2, 0] {
                lines.add(start, Line { stamp: (7, 0), place, packet: packet.to_owned() });
            }
            assert!(lines.rest().iter().map(|line| line.place).eq(expected), "{packet}");
        }
    }

    #[test]
    fn a_line_has_its_time_and_its_ends() {
        let (stamp, packet) =
            stamped("1767225599.000045 IP 10.0.0.1 > 10.0.0.2: ICMP echo").unwrap();
        assert_eq!((stamp, packet), ((1_767_225_599, 45), "IP 10.0.0.1 > 10.0.0.2: ICMP echo"));
        assert_eq!(time_of_day(stamp), "23:59:59.000045");
        for line in ["", "x", "1 x", "1.x y", "\t0x0000:  4500"] {
            assert_eq!(stamped(line), None);
        }
        let both = |one: &str, other: &str| Some((one.parse().unwrap(), other.parse().unwrap()));
        for (packet, expected) in [
            ("IP 10.0.0.1.80 > 10.0.0.2.5: Flags [S]", both("10.0.0.1", "10.0.0.2")),
            ("IP 10.0.0.1 > 10.0.0.2: ICMP a > b: c", both("10.0.0.1", "10.0.0.2")),
            ("IP6 fd00::1.53 > fd00::2.7: UDP", both("fd00::1", "fd00::2")),
            ("ARP, Request who-has 10.0.0.1 tell 10.0.0.2, length 28", None),
            ("IP truncated", None),
        ] {
            assert_eq!(ends(packet), expected, "{packet}");
        }
    }

    #[test]
    fn where_packets_end_is_told() {
        let places = || {
            let names = [
                (Role::Pod, "cali1"),
                (Role::Tunnel, "vx"),
                (Role::Uplink, "eth0 in vxlan"),
                (Role::Uplink, "eth0"),
            ];
            names.map(|(role, name)| (role, name.to_owned())).to_vec()
        };
        let seen = || {
            let (pod, node) =
                (vec!["10.1.0.2".parse().unwrap()], vec!["192.0.2.1".parse().unwrap()]);
            Seen::new(places(), pod, node)
        };
        let line_at = |stamp, place, packet: &str| Line { stamp, place, packet: packet.to_owned() };
        let line = |(place, packet): (usize, &str)| line_at((5, 900_000), place, packet);
        let told_by =
            |seen: &Seen| seen.told("default/web", |address| address.to_string() == "10.1.0.3");
        let told = |packets: &[(usize, &str)]| {
            let mut seen = seen();
            packets.iter().for_each(|one| seen.add(&line(*one)));
            told_by(&seen)
        };
        let (out, back) = ("IP 10.1.0.2 > 10.2.0.2: ICMP", "IP 10.2.0.2 > 10.1.0.2: ICMP");
        let all = |packet| (0..3).map(|place| (place, packet)).collect::<Vec<_>>();
        assert_eq!(
            told(&[all(out), all(back), all(out)].concat()),
            [
                "from the pod: 2 at cali1, 2 at vx, 2 at eth0 in vxlan, 0 at eth0",
                "to the pod: 1 at cali1, 1 at vx, 1 at eth0 in vxlan, 0 at eth0"
            ]
        );
        let lost = told(&[(0, out), (1, out)]);
        assert_eq!(
            lost[2..],
            [
                "what is sent from the pod is not seen behind vx: manx explain default/web 10.2.0.2 and manx probe say more"
            ]
        );
        let lost = told(&[all(out), vec![(2, back)]].concat());
        assert_eq!(
            lost[2..],
            [
                "what is sent to the pod is not seen behind eth0 in vxlan: manx explain 10.2.0.2 default/web says why"
            ]
        );
        // The last line that is printed may be any one of a packet's.
        let mut cut = seen();
        all(out).iter().for_each(|one| cut.add(&line(*one)));
        [(2, back), (1, back)].iter().for_each(|one| cut.add(&line(*one)));
        assert!(told_by(&cut)[2].contains("is not seen behind vx:"));
        // A second later it is another one.
        cut.add_later(&line_at((6, 900_000), 0, back));
        assert!(told_by(&cut)[2].contains("is not seen behind vx:"));
        cut.add_later(&line_at((6, 0), 0, back));
        assert_eq!(
            told_by(&cut)[1..],
            ["to the pod: 0 at cali1, 1 at vx, 1 at eth0 in vxlan, 0 at eth0"]
        );
        // Nor is what only begins behind that line lost.
        let mut cut = seen();
        cut.add_later(&line((0, out)));
        assert_eq!(told_by(&cut).len(), 2);
        // To a pod of this node there is no further, and outside the node's address is the pod's.
        assert_eq!(told(&[(0, "IP 10.1.0.2.5 > 10.1.0.3.6: UDP")]).len(), 2);
        let outside =
            [(0, "IP 10.1.0.2.5 > 1.1.1.1.53: UDP"), (3, "IP 192.0.2.1.5 > 1.1.1.1.53: UDP")];
        assert_eq!(
            told(&outside)[0],
            "from the pod: 1 at cali1, 0 at vx, 0 at eth0 in vxlan, 1 at eth0"
        );
        assert_eq!(told(&outside).len(), 2);
        let answer = (3, "IP 1.1.1.1.53 > 192.0.2.1.5: UDP");
        assert_eq!(
            told(&[outside[0], answer])[1],
            "to the pod: 0 at cali1, 0 at vx, 0 at eth0 in vxlan, 1 at eth0"
        );
        assert_eq!(told(&[outside[0], answer]).len(), 4);
        assert!(told(&[answer])[1].ends_with("0 at eth0"));
        assert_eq!(told(&[(0, "ARP, Request who-has 10.0.0.1 tell 10.0.0.2")]).len(), 2);
    }
}
