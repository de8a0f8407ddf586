// SPDX-License-Identifier: Apache-2.0
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(subnet: &str, first: &str, last: &str, gateway: &str) -> Result<Range, Flaw> {
    let end = |text: &str| (!text.is_empty()).then(|| ip(text));
    Range::new(subnet.parse().unwrap(), end(first), end(last), end(gateway))
}

fn whole(subnet: &str) -> Range {
    range(subnet, "", "", "").unwrap()
}

#[test]
fn ends_that_are_left_out() {
    for (subnet, first, last, gateway, size) in [
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.254", "192.0.2.1", 253),
        ("192.0.2.0/25", "192.0.2.1", "192.0.2.126", "192.0.2.1", 125),
        ("192.0.2.128/25", "192.0.2.129", "192.0.2.254", "192.0.2.129", 125),
        ("192.0.2.12/30", "192.0.2.13", "192.0.2.14", "192.0.2.13", 1),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00::1", (1 << 64) - 2),
        ("fd00::/126", "fd00::1", "fd00::3", "fd00::1", 2),
        ("::/0", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::1", u128::MAX - 1),
        ("0.0.0.0/0", "0.0.0.1", "255.255.255.254", "0.0.0.1", (1 << 32) - 3),
    ] {
        let range = whole(subnet);
        assert_eq!(range.ends(), (ip(first), ip(last)), "{subnet}");
        assert_eq!((range.gateway(), range.size()), (ip(gateway), size), "{subnet}");
    }
}

#[test]
fn what_is_no_range() {
    for (subnet, first, last, key) in [
        ("192.0.2.1/24", "", "", "subnet"),
        ("fd00::1/64", "", "", "subnet"),
        ("192.0.2.0/31", "", "", "subnet"),
        ("192.0.2.0/32", "", "", "subnet"),
        ("fd00::/127", "", "", "subnet"),
        ("192.0.2.0/24", "192.0.3.1", "", "rangeStart"),
        ("192.0.2.0/24", "", "192.0.1.255", "rangeEnd"),
        ("192.0.2.0/24", "fd00::1", "", "rangeStart"),
        ("192.0.2.0/24", "192.0.2.50", "192.0.2.40", "rangeEnd"),
        ("192.0.2.0/24", "192.0.2.255", "", "rangeEnd"),
    ] {
        assert_eq!(range(subnet, first, last, "").unwrap_err().key, key, "{subnet} {first} {last}");
    }
}

#[test]
fn a_range_may_hold_its_subnets_ends_if_it_says_so() {
    let range = range("192.0.2.0/24", "192.0.2.0", "192.0.2.255", "192.0.2.7").unwrap();
    assert_eq!(range.size(), 255);
    assert!(range.contains(ip("192.0.2.0")) && range.contains(ip("192.0.2.255")));
    assert!(!range.contains(ip("192.0.3.0")) && !range.contains(ip("fd00::")));
    let set = RangeSet::new(vec![range]).unwrap();
    let all: Vec<_> = set.candidates(None).collect();
    assert!(all.len() == 255 && !all.contains(&ip("192.0.2.7")));
}

#[test]
fn overlaps() {
    let part = |first: &str, last: &str| range("192.0.2.0/24", first, last, "").unwrap();
    for (one, other, expected) in [
        (whole("192.0.2.0/24"), whole("192.0.3.0/24"), false),
        (whole("192.0.2.0/24"), whole("fd00::/64"), false),
        (whole("192.0.2.0/24"), whole("192.0.2.0/24"), true),
        (whole("192.0.2.0/24"), whole("192.0.2.128/25"), true),
        (part("", "192.0.2.50"), part("192.0.2.51", ""), false),
        (part("", "192.0.2.50"), part("192.0.2.50", ""), true),
        (whole("::/0"), whole("0.0.0.0/0"), false),
    ] {
        assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected));
    }
}

#[test]
fn sets() {
    assert!(RangeSet::new(Vec::new()).is_err());
    let mixed = RangeSet::new(vec![whole("192.0.2.0/24"), whole("fd00::/64")]).unwrap_err();
    assert!(mixed.contains("both IPv4 and IPv6"), "{mixed}");
    let twice = RangeSet::new(vec![whole("192.0.2.0/24"), whole("192.0.2.0/25")]).unwrap_err();
    assert_eq!(twice, "192.0.2.1-192.0.2.254 and 192.0.2.1-192.0.2.126 have addresses in common");
    let set = RangeSet::new(vec![whole("192.0.2.0/24"), whole("198.51.100.0/24")]).unwrap();
    assert_eq!(set.range_of(ip("198.51.100.9")), set.ranges().get(1));
    assert_eq!(set.range_of(ip("203.0.113.1")), None);
    assert!(set.is_ipv4() && set.size() == 506);
    let other = RangeSet::new(vec![whole("198.51.100.128/25")]).unwrap();
    assert!(set.overlaps(&other) && other.overlaps(&set));
}

/// The order in which host-local tries addresses.
#[test]
fn candidates_go_round() {
    let set = |ranges: &[Range]| RangeSet::new(ranges.to_vec()).unwrap();
    let four = set(&[whole("192.0.2.0/29")]);
    let windows = set(&[
        range("192.0.2.0/24", "192.0.2.10", "192.0.2.11", "").unwrap(),
        range("198.51.100.0/24", "198.51.100.20", "198.51.100.21", "").unwrap(),
    ]);
    let v6 = set(&[whole("fd00::/126")]);
    for (set, after, expected) in [
        (&four, "", "2 3 4 5 6"),
        (&four, "192.0.2.4", "5 6 2 3 4"),
        (&four, "192.0.2.6", "2 3 4 5 6"),
        (&four, "192.0.2.1", "2 3 4 5 6"),
        (&four, "192.0.2.0", "2 3 4 5 6"),
        (&four, "203.0.113.1", "2 3 4 5 6"),
        (&four, "fd00::1", "2 3 4 5 6"),
        (&windows, "", "10 11 20 21"),
        (&windows, "192.0.2.10", "11 20 21 10"),
        (&windows, "192.0.2.11", "20 21 10 11"),
        (&windows, "198.51.100.20", "21 10 11 20"),
        (&windows, "198.51.100.21", "10 11 20 21"),
        (&v6, "fd00::2", "3 2"),
    ] {
        let after = (!after.is_empty()).then(|| ip(after));
        let found: Vec<_> = set
            .candidates(after)
            .map(|address| match address {
                IpAddr::V4(address) => address.octets()[3].to_string(),
                IpAddr::V6(address) => address.octets()[15].to_string(),
            })
            .collect();
        assert_eq!(found.join(" "), expected, "{set} after {after:?}");
    }
}

#[test]
fn the_first_candidates_of_a_huge_set_come_at_once() {
    let set = RangeSet::new(vec![whole("::/0")]).unwrap();
    assert_eq!(set.candidates(Some(ip("fd00::"))).next(), Some(ip("fd00::1")));
    assert_eq!(set.candidates(None).next(), Some(ip("::2")));
}
