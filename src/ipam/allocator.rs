//! Which address of a set is given next.
//!
//! Pure: the state of each address comes from a function, so that no more is
//! looked up than is asked for.

use std::net::IpAddr;

use super::RangeSet;

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

/// The address to give: the first free one behind `after`, around the set. Only
/// where there is none, the one that has rested longest. `None` if all are
/// taken or in `never`.
///
/// # Errors
/// The first of `state`.
pub fn choose<E>(
    set: &RangeSet,
    after: Option<IpAddr>,
    never: &[IpAddr],
    mut state: impl FnMut(IpAddr) -> Result<State, E>,
) -> Result<Option<IpAddr>, E> {
    let mut rested: Option<(u64, IpAddr)> = None;
    for address in set.candidates(after).filter(|address| !never.contains(address)) {
        match state(address)? {
            State::Free => return Ok(Some(address)),
            State::Resting(age) if rested.is_none_or(|(oldest, _)| age > oldest) => {
                rested = Some((age, address));
            }
            State::Resting(_) | State::Taken => {}
        }
    }
    Ok(rested.map(|(_, address)| address))
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
        choose(set, after, &[], state).unwrap().map(|address| address.to_string())
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
        assert_eq!(choose(&set, None, &[], ages), Ok(Some(ip("10.0.0.5"))));
        assert_eq!(choose(&set, None, &[ip("10.0.0.5")], ages), Ok(Some(ip("10.0.0.4"))));
        let never = [ip("10.0.0.5"), ip("10.0.0.4")];
        assert_eq!(choose(&set, None, &never, ages), Ok(Some(ip("10.0.0.2"))));
    }

    #[test]
    fn an_error_ends_the_search() {
        assert_eq!(choose(&set("10.0.0.0/24"), None, &[], |_| Err("no disk")), Err("no disk"));
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
            let found = choose(&set, Some([10, 0, 0, after].into()), &[], state).unwrap();
            let free = (2..=254).any(|last| !taken[last]);
            prop_assert_eq!(found.is_some(), free);
            prop_assert!(found.is_none_or(|address| !is_taken(address)));
        }
    }
}
