// SPDX-License-Identifier: Apache-2.0
//! What holds of every change between any two sets of objects, whatever others have.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Numbers of objects, and which of three values each has.
type Numbers = BTreeMap<u8, u8>;

fn numbers() -> impl Strategy<Value = [Numbers; 5]> {
    std::array::from_fn(|_| prop::collection::btree_map(1..5_u8, 1..4_u8, 0..4))
}

/// Objects of each kind that has any number of them; of addresses and rules the value is a
/// part of what they are known by.
fn objects([addresses, forwarding, neighbours, routes, rules]: &[Numbers; 5]) -> Objects {
    let device = || "vx".to_owned();
    let address = |(number, value): (&u8, &u8)| Address {
        device: device(),
        address: format!("10.{number}.0.{value}/32").parse().unwrap(),
    };
    let entry = |(number, value): (&u8, &u8)| Forwarding {
        device: device(),
        mac: Mac([2, 0, 0, 0, 0, *number]),
        node: format!("192.0.2.{value}").parse().unwrap(),
    };
    let neighbour = |(number, value): (&u8, &u8)| Neighbour {
        device: device(),
        address: format!("10.{number}.0.0").parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, *value]),
    };
    let route = |(number, value): (&u8, &u8)| {
        let destination = format!("10.{number}.0.0/24").parse().unwrap();
        let gateway = Some(format!("192.0.2.{value}").parse().unwrap());
        let (protocol, onlink) = (109, true);
        let route = route::Route::new(destination);
        Route::through("eth0", route::Route { gateway, onlink, protocol, ..route })
    };
    let rule = |(number, value): (&u8, &u8)| {
        let source = format!("10.1.0.{number}/32").parse().unwrap();
        Rule::new(source, u32::from(*value), 10_900, 109)
    };
    Objects {
        addresses: addresses.iter().map(address).collect(),
        forwarding: forwarding.iter().map(entry).collect(),
        neighbours: neighbours.iter().map(neighbour).collect(),
        routes: routes.iter().map(route).collect(),
        rules: rules.iter().map(rule).collect(),
        ..Objects::default()
    }
}

fn indexes() -> Indexes {
    Indexes::from([("vx".to_owned(), 3), ("eth0".to_owned(), 2)])
}

/// The same as somebody else has it.
fn of_others(objects: &Objects) -> HeldObjects {
    let mut held = objects.as_held(&indexes());
    held.addresses.iter_mut().for_each(|one| one.ours = false);
    held.forwarding.iter_mut().for_each(|one| one.ours = false);
    held.neighbours.iter_mut().for_each(|one| one.ours = false);
    held.rules.iter_mut().for_each(|one| one.ours = false);
    for one in &mut held.routes {
        (one.ours, one.found.route.protocol) = (false, 4);
    }
    held
}

/// What is not ours.
fn foreign(held: &HeldObjects) -> HeldObjects {
    let mut held = held.clone();
    held.addresses.retain(|one| !one.ours);
    held.forwarding.retain(|one| !one.ours);
    held.neighbours.retain(|one| !one.ours);
    held.rules.retain(|one| !one.ours);
    held.routes.retain(|one| !one.ours);
    held
}

fn put<O: Managed>(held: &mut Vec<O::Held>, step: &Step<O>) {
    let place = |held: &[O::Held], one: &O::Held| {
        held.iter().position(|there| there == one).expect("what is changed")
    };
    match step {
        Step::Create(wanted) => held.extend(wanted.as_held(&indexes())),
        Step::Replace(wanted, now) => {
            let place = place(held, now);
            held[place] = wanted.as_held(&indexes()).expect("what can be made");
        }
        Step::Delete(now) => drop(held.remove(place(held, now))),
        Step::Foreign(..) => {}
    }
}

fn make(held: &mut HeldObjects, change: &Change) {
    match change {
        Change::Address(step) => put(&mut held.addresses, step),
        Change::Forwarding(step) => put(&mut held.forwarding, step),
        Change::Neighbour(step) => put(&mut held.neighbours, step),
        Change::Route(step) => put(&mut held.routes, step),
        Change::Rule(step) => put(&mut held.rules, step),
        other => panic!("nobody asked for {other:?}"),
    }
}

fn made(held: &HeldObjects, wanted: &Objects) -> HeldObjects {
    let mut held = held.clone();
    difference(wanted, &held.clone()).iter().for_each(|change| make(&mut held, change));
    held
}

/// Which of the wanted objects are there, made by us.
fn there(wanted: &Objects, held: &HeldObjects) -> BTreeSet<String> {
    fn of<O: Managed>(wanted: &[O], held: &[O::Held]) -> Vec<String> {
        let is = |one: &O, there: &O::Held| {
            O::is_ours(there) && O::key_of(there) == Some(one.key()) && one.is(there)
        };
        let is_there = |one: &&O| held.iter().any(|there| is(one, there));
        wanted
            .iter()
            .filter(is_there)
            .map(|one| format!("{} {}", one.name(), one.value()))
            .collect()
    }
    let all = [
        of(&wanted.addresses, &held.addresses),
        of(&wanted.forwarding, &held.forwarding),
        of(&wanted.neighbours, &held.neighbours),
        of(&wanted.routes, &held.routes),
        of(&wanted.rules, &held.rules),
    ];
    all.into_iter().flatten().collect()
}

fn lines_of(wanted: &Objects, held: &HeldObjects) -> BTreeSet<String> {
    difference(wanted, held).iter().map(|change| change.told().to_string()).collect()
}

proptest! {
    #[test]
    fn once_made_only_what_others_have_is_left(
        (first, second, others) in (numbers(), numbers(), numbers())
    ) {
        let (first, second) = (objects(&first), objects(&second));
        let held = made(&made(&of_others(&objects(&others)), &first), &second);
        let left = difference(&second, &held);
        let is_foreign = |change: &Change| change.action() == Action::Conflict;
        prop_assert!(left.iter().all(is_foreign), "{left:#?}");
        let bare = made(&held, &Objects::default());
        prop_assert_eq!(&bare, &foreign(&bare));
    }

    #[test]
    fn what_others_have_is_in_no_change_but_one_that_says_so(
        (first, second, others) in (numbers(), numbers(), numbers())
    ) {
        let others = of_others(&objects(&others));
        let (first, second) = (objects(&first), objects(&second));
        let mut held = made(&others, &first);
        for change in difference(&second, &held.clone()) {
            make(&mut held, &change);
            prop_assert_eq!(&foreign(&held), &others, "{:?}", change);
        }
    }

    #[test]
    fn what_both_want_is_there_after_each_step(
        (first, second, others) in (numbers(), numbers(), numbers())
    ) {
        let (first, second) = (objects(&first), objects(&second));
        let mut held = made(&of_others(&objects(&others)), &first);
        let before = there(&first, &held);
        let both: BTreeSet<String> = there(&second, &held).intersection(&before).cloned().collect();
        for change in difference(&second, &held.clone()) {
            make(&mut held, &change);
            prop_assert!(both.is_subset(&there(&second, &held)), "{both:?} after {change:?}");
        }
    }

    #[test]
    fn lists_may_come_in_any_order((first, second, others) in (numbers(), numbers(), numbers())) {
        let (first, second) = (objects(&first), objects(&second));
        let held = made(&of_others(&objects(&others)), &first);
        let (mut turned, mut other) = (held.clone(), second.clone());
        turned.addresses.reverse();
        turned.forwarding.reverse();
        turned.neighbours.reverse();
        turned.rules.reverse();
        // Of one key the kernel uses the first.
        turned.routes.sort_by_key(|one| std::cmp::Reverse(one.destination()));
        other.addresses.reverse();
        other.forwarding.reverse();
        other.neighbours.reverse();
        other.rules.reverse();
        other.routes.reverse();
        prop_assert_eq!(lines_of(&second, &held), lines_of(&second, &turned));
        prop_assert_eq!(lines_of(&second, &held), lines_of(&other, &held));
    }
}
