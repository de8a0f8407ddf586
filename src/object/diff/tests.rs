// SPDX-License-Identifier: Apache-2.0
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Of its key there may be several, told apart by their values.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Thing {
    key: u8,
    value: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct There {
    thing: Thing,
    ours: bool,
    /// Of a key that none of ours has by now.
    former: bool,
}

impl Object for Thing {
    type Held = There;
    type Key<'a> = u8;

    fn key(&self) -> u8 {
        self.key
    }

    fn key_of(held: &There) -> Option<u8> {
        (!held.former).then_some(held.thing.key)
    }

    fn is_ours(held: &There) -> bool {
        held.ours
    }

    fn is(&self, held: &There) -> bool {
        held.ours && !held.former && held.thing == *self
    }

    fn is_served_by(&self, held: &There) -> bool {
        held.thing == *self
    }
}

fn thing(key: u8, value: u8) -> Thing {
    Thing { key, value }
}

fn ours(key: u8, value: u8) -> There {
    There { thing: thing(key, value), ours: true, former: false }
}

fn other(key: u8, value: u8) -> There {
    There { ours: false, ..ours(key, value) }
}

/// What a kernel makes of the steps.
fn applied(held: &[There], steps: &[Step<Thing>]) -> Vec<There> {
    let mut held = held.to_vec();
    for step in steps {
        match step {
            Step::Create(wanted) => held.push(ours(wanted.key, wanted.value)),
            Step::Replace(wanted, now) => {
                let place = held.iter().position(|one| one == now).expect("what is replaced");
                held[place] = ours(wanted.key, wanted.value);
            }
            Step::Foreign(..) => {}
            Step::Delete(now) => {
                let place = held.iter().position(|one| one == now).expect("what is removed");
                held.remove(place);
            }
        }
    }
    held
}

#[test]
fn every_state_of_an_object() {
    use Step::{Create, Delete, Foreign, Replace};
    let wanted = thing(1, 7);
    let former = There { former: true, ..ours(1, 7) };
    let told = |held: &[There]| diff(&[wanted], held).iter().map(shown).collect::<Vec<_>>();
    for (held, steps) in [
        // Absent, the same, different.
        (vec![], vec![Create(wanted)]),
        (vec![ours(1, 7)], vec![]),
        (vec![ours(1, 8)], vec![Replace(wanted, ours(1, 8))]),
        // Somebody else's: in the way, or as good.
        (vec![other(1, 8)], vec![Foreign(wanted, other(1, 8))]),
        (vec![other(1, 7)], vec![]),
        // Stale, foreign and none of our business, of a key that none of ours has.
        (vec![ours(1, 7), ours(2, 7)], vec![Delete(ours(2, 7))]),
        (vec![ours(1, 7), other(2, 7)], vec![]),
        (vec![former], vec![Create(wanted), Delete(former)]),
        // Several of one key: the first is what the kernel uses.
        (vec![ours(1, 8), ours(1, 7)], vec![Delete(ours(1, 8))]),
        (vec![ours(1, 7), ours(1, 8)], vec![Delete(ours(1, 8))]),
        (vec![ours(1, 8), ours(1, 9)], vec![Replace(wanted, ours(1, 8)), Delete(ours(1, 9))]),
        (vec![other(1, 8), ours(1, 7)], vec![Foreign(wanted, other(1, 8))]),
        (vec![other(1, 8), ours(1, 9)], vec![Foreign(wanted, other(1, 8)), Delete(ours(1, 9))]),
        (vec![ours(1, 7), other(1, 8)], vec![]),
        (vec![other(1, 7), ours(1, 8)], vec![Delete(ours(1, 8))]),
    ] {
        assert_eq!(told(&held), steps.iter().map(shown).collect::<Vec<_>>(), "{held:?}");
    }
    assert!(diff::<Thing>(&[], &[other(1, 7)]).is_empty());
    assert_eq!(diff::<Thing>(&[], &[ours(1, 7)]).len(), 1);
}

fn shown(step: &Step<Thing>) -> String {
    format!("{step:?}")
}

fn desired() -> impl Strategy<Value = Vec<Thing>> {
    prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6)
        .prop_map(|map| map.into_iter().map(|(key, value)| thing(key, value)).collect())
}

/// No two are the same in all: the kernel has none of those.
fn held() -> impl Strategy<Value = Vec<There>> {
    let one = (0..8_u8, 0..3_u8, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(key, value, ours, former)| There {
            thing: thing(key, value),
            ours,
            former: former && ours,
        },
    );
    prop::collection::hash_set(one, 0..12).prop_map(|set| set.into_iter().collect())
}

proptest! {
    #[test]
    fn once_made_nothing_is_left_to_do((desired, held) in (desired(), held())) {
        let after = applied(&held, &diff(&desired, &held));
        let left = diff(&desired, &after);
        let foreign = |step: &Step<Thing>| matches!(step, Step::Foreign(..));
        prop_assert!(left.iter().all(foreign), "{left:?} of {after:?}");
    }

    #[test]
    fn what_is_somebody_elses_stays((desired, held) in (desired(), held())) {
        let others = |all: &[There]| -> Vec<There> {
            all.iter().filter(|one| !one.ours).copied().collect()
        };
        let after = applied(&held, &diff(&desired, &held));
        prop_assert_eq!(others(&after), others(&held));
    }

    #[test]
    fn what_is_there_and_wanted_is_there_after_each_step((desired, held) in (desired(), held())) {
        let steps = diff(&desired, &held);
        let kept: Vec<&Thing> =
            desired.iter().filter(|one| held.iter().any(|there| one.is(there))).collect();
        for count in 0..=steps.len() {
            let now = applied(&held, &steps[..count]);
            for wanted in &kept {
                prop_assert!(now.iter().any(|there| wanted.is(there)), "{wanted:?} after {count}");
            }
        }
    }

    #[test]
    fn order_matters_among_those_of_one_key_alone((desired, held) in (desired(), held())) {
        let mut sorted = held.clone();
        // Stable, so that those of one key stay as they were.
        sorted.sort_by_key(|one| one.thing.key);
        let of = |held: &[There]| {
            let steps = diff(&desired, held);
            steps.iter().map(shown).collect::<HashSet<_>>()
        };
        prop_assert_eq!(of(&sorted), of(&held));
        let mut reversed = desired.clone();
        reversed.reverse();
        let steps = diff(&reversed, &held);
        let steps: HashSet<_> = steps.iter().map(shown).collect();
        prop_assert_eq!(steps, of(&held));
    }
}
