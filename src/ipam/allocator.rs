// SPDX-License-Identifier: Apache-2.0
//! Which address of a set is given next.
//!
//! Pure: the state of each address comes from a function, so that no more is
//! looked up than is asked for.

use std::{cmp::Reverse, net::IpAddr};

use super::RangeSet;
use crate::list::Ordered;

/// How many free addresses in a row may turn out to be of no use: beyond that
/// something else is wrong than single addresses of a range.
const USELESS_MAX: usize = 1024;

/// What is known of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It can be given out.
    Free,
    /// It was freed that many seconds ago, and others may still speak to its
    /// last owner.
    Resting(u64),
    /// An attachment holds it.
    Taken,
}

/// The address to give: the first free one behind `after`, around the set, that
/// is `useful`. Only where there is none, the one that has rested longest.
/// `None` if all are taken or of no use.
///
/// # Errors
/// The first of `state` and of `useful`.
pub fn choose<E>(
    set: &RangeSet,
    after: Option<IpAddr>,
    mut state: impl FnMut(IpAddr) -> Result<State, E>,
    mut useful: impl FnMut(IpAddr) -> Result<bool, E>,
) -> Result<Option<IpAddr>, E> {
    let mut resting: Vec<(u64, IpAddr)> = Vec::new();
    let mut useless = 0;
    for address in set.candidates(after) {
        match state(address)? {
            State::Free if useful(address)? => return Ok(Some(address)),
            State::Free => useless += 1,
            State::Resting(age) => resting.push((age, address)),
            State::Taken => {}
        }
        if useless == USELESS_MAX {
            return Ok(None);
        }
    }
    // The first of those that have rested as long.
    resting.order_by_key(|(age, _)| Reverse(*age));
    for (_, address) in resting {
        if useful(address)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::ipam::Range;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn every<E>(_: IpAddr) -> Result<bool, E> {
        Ok(true)
    }

    fn set(subnet: &str) -> RangeSet {
        let range = Range::new(subnet.parse().unwrap(), None, None, None).unwrap();
        RangeSet::new(vec![range]).unwrap()
    }

    fn next(set: &RangeSet, after: &str, taken: &[&str]) -> Option<String> {
        let after = (!after.is_empty()).then(|| ip(after));
        let state = |address: IpAddr| {
            let taken = taken.contains(&&*address.to_string());
            Ok::<_, Infallible>(if taken { State::Taken } else { State::Free })
        };
        choose(set, after, state, every).unwrap().map(|address| address.to_string())
    }

    #[test]
    fn round_robin() {
        for (subnet, after, taken, expected) in [
            ("10.0.0.0/29", "", &[][..], Some("10.0.0.2")),
            ("10.0.0.0/29", "", &["10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.0/29", "10.0.0.3", &["10.0.0.2"], Some("10.0.0.4")),
            ("10.0.0.0/29", "10.0.0.6", &["10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.0/29", "10.0.0.4", &["10.0.0.5", "10.0.0.6"], Some("10.0.0.2")),
            ("10.0.0.0/30", "", &[], Some("10.0.0.2")),
            ("10.0.0.0/30", "10.0.0.2", &[], Some("10.0.0.2")),
            ("10.0.0.0/30", "", &["10.0.0.2"], None),
            ("fd00::/126", "fd00::2", &[], Some("fd00::3")),
            ("fd00::/126", "fd00::3", &["fd00::2"], Some("fd00::3")),
            ("fd00::/126", "", &["fd00::2", "fd00::3"], None),
        ] {
            let found = next(&set(subnet), after, taken);
            assert_eq!(found.as_deref(), expected, "{subnet} after {after:?}, taken {taken:?}");
        }
    }

    #[test]
    fn rest_is_a_preference() {
        let set = set("10.0.0.0/29");
        let ages = |address: IpAddr| {
            Ok::<_, Infallible>(match address.to_string().as_str() {
                "10.0.0.2" => State::Resting(5),
                "10.0.0.4" => State::Resting(9),
                "10.0.0.5" => State::Free,
                _ => State::Taken,
            })
        };
        for (useless, given) in [
            (&[][..], "10.0.0.5"),
            (&["10.0.0.5"], "10.0.0.4"),
            (&["10.0.0.5", "10.0.0.4"], "10.0.0.2"),
        ] {
            let useful = |address: IpAddr| Ok(!useless.contains(&&*address.to_string()));
            assert_eq!(choose(&set, None, ages, useful), Ok(Some(ip(given))));
        }
        assert_eq!(choose(&set, None, ages, |_| Ok(false)), Ok(None));
    }

    #[test]
    fn a_set_without_use_is_given_up() {
        let mut asked = 0;
        let useful = |_| {
            asked += 1;
            Ok::<_, Infallible>(false)
        };
        assert_eq!(choose(&set("fe80::/64"), None, |_| Ok(State::Free), useful), Ok(None));
        assert_eq!(asked, USELESS_MAX);
    }

    #[test]
    fn an_error_ends_the_search() {
        assert_eq!(choose(&set("10.0.0.0/24"), None, |_| Err("no disk"), every), Err("no disk"));
    }

    proptest! {
        /// Whatever is taken: the choice is free, and there is one if any is free.
        #[test]
        fn a_choice_is_free(after in 0u8..=255, taken in prop::collection::vec(any::<bool>(), 256)) {
            let set = set("10.0.0.0/24");
            let is_taken = |address: IpAddr| match address {
                IpAddr::V4(address) => taken[usize::from(address.octets()[3])],
                IpAddr::V6(_) => true,
            };
            let state = |address| {
                Ok::<_, Infallible>(if is_taken(address) { State::Taken } else { State::Free })
            };
            let found = choose(&set, Some([10, 0, 0, after].into()), state, every).unwrap();
            let free = (2..=254).any(|last| !taken[last]);
            prop_assert_eq!(found.is_some(), free);
            prop_assert!(found.is_none_or(|address| !is_taken(address)));
        }
    }
}
