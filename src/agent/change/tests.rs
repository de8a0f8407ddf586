// SPDX-License-Identifier: Apache-2.0
//! A change as a course of time.

use serde_json::{Value, json};

use super::*;

/// When all of it happens.
const CLOCK: u64 = 1_800_000_000;

fn part(value: &Value) -> FabricPart {
    FabricPart::of_file(value.as_object().unwrap()).0
}

/// As a file says it: what is sent by, and what is accepted besides.
fn words(fabric: &FabricPart) -> String {
    let word = |part: &FabricPart| {
        let way = part.way().encode();
        let of = |key: &str| way.pointer(key).and_then(Value::as_str).map(str::to_owned);
        of("/vxlan/device").or_else(|| of("/mode")).unwrap()
    };
    format!("{}+{}", word(fabric), fabric.accepts().map(word).unwrap_or_default())
}

/// What the file says at these seconds, and when it says something else next.
fn course_of(mut change: Change, wanted: &Value, at: &[u64]) -> Vec<String> {
    let begin = Instant::now();
    let mut said = |seconds: &u64| {
        let fabric = change.step(&part(wanted), begin + Duration::from_secs(*seconds));
        let due = change.due().map(|due| (due - begin).as_secs());
        format!("{} {due:?}", words(&fabric))
    };
    at.iter().map(&mut said).collect()
}

fn course(from: &Value, wanted: &Value, at: &[u64]) -> Vec<String> {
    course_of(Change::new(Some(part(from)), None, CLOCK), wanted, at)
}

/// An agent that is started so many seconds after the file came to say this, and after
/// another one last kept it.
fn started(from: &Value, since: u64, away: u64) -> Change {
    let said = part(from);
    let note = Note { fabric: ways(&said).encode(), since: CLOCK - since, seen: CLOCK - away };
    Change::new(Some(said), Some(&note), CLOCK)
}

#[test]
fn a_tunnel_is_taken_before_it_is_used_and_after() {
    let (ipip, vxlan) = (json!({"mode": "ipip"}), json!({"mode": "vxlan", "mtu": 1400}));
    assert_eq!(
        course(&ipip, &vxlan, &[0, 299, 300, 599, 600]),
        [
            "ipip+vxlan.calico Some(300)",
            "ipip+vxlan.calico Some(300)",
            "vxlan.calico+ipip Some(600)",
            "vxlan.calico+ipip Some(600)",
            "vxlan.calico+ None",
        ]
    );
    let flannels = json!({"mode": "vxlan", "vxlan": {"vni": 1, "device": "flannel.1"}});
    assert_eq!(
        course(&vxlan, &flannels, &[0, 300]),
        ["vxlan.calico+flannel.1 Some(300)", "flannel.1+vxlan.calico Some(600)"]
    );
    assert_eq!(
        course(&json!({}), &vxlan, &[0, 299, 300]),
        ["direct+vxlan.calico Some(300)", "direct+vxlan.calico Some(300)", "vxlan.calico+ None"],
        "packets as they are need no acceptance"
    );
    assert_eq!(
        course(&vxlan, &json!({"mode": "direct"}), &[0, 599, 600]),
        ["direct+vxlan.calico Some(600)", "direct+vxlan.calico Some(600)", "direct+ None"]
    );
}

/// The agent makes steps when they are due, and at no other time.
#[test]
fn each_step_is_made_when_it_is_due() {
    let (direct, vxlan, ipip) =
        (json!({"mode": "direct"}), json!({"mode": "vxlan"}), json!({"mode": "ipip"}));
    for (from, to, expected) in [
        (&direct, &vxlan, vec![300]),
        (&vxlan, &direct, vec![600]),
        (&ipip, &vxlan, vec![300, 600]),
        (&vxlan, &ipip, vec![300, 600]),
    ] {
        let begin = Instant::now();
        let mut change = Change::new(Some(part(from)), None, CLOCK);
        change.step(&part(to), begin);
        let mut steps = Vec::new();
        while let Some(due) = change.due() {
            let before = change.said().cloned();
            assert_ne!(Some(change.step(&part(to), due)), before, "{from} to {to}");
            steps.push((due - begin).as_secs());
        }
        assert_eq!(steps, expected, "{from} to {to}");
        assert_eq!(change.said(), Some(&part(to)));
    }
}

#[test]
fn an_agent_that_is_started_again_goes_on_where_it_was() {
    let half = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}});
    let vxlan = json!({"mode": "vxlan"});
    assert_eq!(
        course(&half, &vxlan, &[0, 300]),
        ["vxlan.calico+ipip Some(300)", "vxlan.calico+ None"],
        "nothing is noted"
    );
    assert_eq!(
        course_of(started(&half, 200, 1), &vxlan, &[0, 99, 100]),
        ["vxlan.calico+ipip Some(100)", "vxlan.calico+ipip Some(100)", "vxlan.calico+ None"]
    );
    assert_eq!(course_of(started(&half, 300, 1), &vxlan, &[0]), ["vxlan.calico+ None"]);
    // Who changes his mind goes back the same way.
    assert_eq!(
        course(&half, &json!({"mode": "ipip"}), &[0, 300, 600]),
        ["vxlan.calico+ipip Some(300)", "ipip+vxlan.calico Some(600)", "ipip+ None"]
    );
}

/// However often it is started, the whole takes as long.
#[test]
fn an_agent_that_is_started_every_minute_takes_no_longer() {
    let (mut said, vxlan) = (part(&json!({"mode": "ipip"})), part(&json!({"mode": "vxlan"})));
    let (mut note, mut course) = (None, Vec::new());
    for minute in 0..=11 {
        let clock = CLOCK + 60 * minute;
        let mut change = Change::new(Some(said), note.as_ref(), clock);
        let now = Instant::now();
        said = change.step(&vxlan, now);
        note = change.note(now, clock);
        course.push(words(&said));
    }
    assert_eq!(course[..5], ["ipip+vxlan.calico"; 5]);
    assert_eq!(course[5..10], ["vxlan.calico+ipip"; 5]);
    assert_eq!(course[10..], ["vxlan.calico+"; 2]);
}

/// A clock that was put back, and a note of another file.
#[test]
fn what_is_noted_and_cannot_be_is_nothing() {
    let half = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}});
    let fabric = ways(&part(&half)).encode();
    let future = Note { fabric, since: CLOCK + 1000, seen: CLOCK + 1000 };
    let other = Note { fabric: json!({"mode": "ipip"}), since: 0, seen: 0 };
    for note in [future, other] {
        let change = Change::new(Some(part(&half)), Some(&note), CLOCK);
        assert_eq!(
            course_of(change, &json!({"mode": "vxlan"}), &[0, 300]),
            ["vxlan.calico+ipip Some(300)", "vxlan.calico+ None"]
        );
    }
}

/// The steps of an agent that runs are not made by it, and one that is started later goes on by the clock
/// of then, whatever that was before.
#[test]
fn a_clock_that_jumps_while_an_agent_runs_changes_no_step() {
    const DAY: u64 = 86_400;
    let vxlan = json!({"mode": "vxlan"});
    for clock in [CLOCK, CLOCK + DAY, CLOCK - DAY, 100, 0] {
        let mut change = started(&json!({"mode": "ipip"}), 9000, 1);
        let begin = Instant::now();
        change.step(&part(&vxlan), begin);
        let then = begin + Duration::from_secs(200);
        let said = change.step(&part(&vxlan), then);
        assert_eq!(words(&said), "ipip+vxlan.calico");
        assert_eq!(change.due(), Some(begin + Duration::from_secs(300)));
        let note = change.note(then, clock).unwrap();
        let again = Change::new(Some(said), Some(&note), clock + 10);
        let left = if clock < 200 { 300 - clock - 10 } else { 90 };
        let next = [0, left - 1, left];
        let course = course_of(again, &vxlan, &next);
        assert_eq!(course[1], format!("ipip+vxlan.calico Some({left})"), "{clock}");
        assert!(course[2].starts_with("vxlan.calico+ipip"), "{clock}: {course:?}");
    }
}

/// Off while the others change: they take the old mode for ten minutes from when they
/// began, which nobody saw here.
#[test]
fn a_node_that_was_away_sends_by_the_old_mode_as_long_as_all_take_it() {
    let (ipip, vxlan) = (json!({"mode": "ipip"}), json!({"mode": "vxlan"}));
    for (away, expected) in [
        (1, ["ipip+vxlan.calico Some(300)", "vxlan.calico+ipip Some(600)"]),
        (300, ["ipip+vxlan.calico Some(300)", "vxlan.calico+ipip Some(600)"]),
        (301, ["ipip+vxlan.calico Some(299)", "vxlan.calico+ipip Some(600)"]),
        (599, ["ipip+vxlan.calico Some(1)", "vxlan.calico+ipip Some(600)"]),
    ] {
        assert_eq!(course_of(started(&ipip, 9000, away), &vxlan, &[0, 300]), expected, "{away}");
    }
    for away in [600, 86400] {
        assert_eq!(
            course_of(started(&ipip, 86400, away), &vxlan, &[0, 300]),
            ["vxlan.calico+ipip Some(300)", "vxlan.calico+ None"],
            "{away}"
        );
    }
    // That counts for what the agent finds when it starts, and not for what comes later.
    let mut change = started(&ipip, 86400, 86400);
    let now = Instant::now();
    assert_eq!(change.step(&part(&ipip), now), part(&ipip));
    assert_eq!(words(&change.step(&part(&vxlan), now)), "ipip+vxlan.calico");
}

/// A node that joins has no file from which it could know what the others had.
#[test]
fn what_the_configuration_says_is_accepted_as_long_as_it_says_so() {
    let (ipip, vxlan) = (json!({"mode": "ipip"}), json!({"mode": "vxlan"}));
    let both = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}});
    let joins = || Change::new(None, None, CLOCK);
    assert_eq!(course_of(joins(), &vxlan, &[0]), ["vxlan.calico+ None"]);
    let as_the_others =
        ["ipip+vxlan.calico Some(300)", "vxlan.calico+ipip Some(600)", "vxlan.calico+ipip None"];
    assert_eq!(course_of(joins(), &both, &[0, 300, 9000]), as_the_others);
    assert_eq!(course(&ipip, &both, &[0, 300, 9000]), as_the_others);
    // Packets as they are need no time ahead.
    let plainly = json!({"mode": "direct", "mtu": 1400, "accepts": {"mode": "ipip"}});
    assert_eq!(course_of(joins(), &plainly, &[0, 9000])[1], "direct+ipip None");
    let first = joins().step(
        &part(&json!({"mode": "vxlan", "mtu": 1400, "accepts": {"mode": "ipip"}})),
        Instant::now(),
    );
    assert_eq!(first.mtu(), Some(1400), "what is not about modes holds");
    // It was known long before.
    assert_eq!(course_of(started(&both, 9000, 1), &ipip, &[0]), ["ipip+vxlan.calico Some(300)"]);
    assert_eq!(course_of(started(&both, 9000, 1), &vxlan, &[0]), ["vxlan.calico+ None"]);
    for none in [json!({"mode": "vxlan"}), json!({"mode": "vxlan", "vxlan": {"vni": 7}})] {
        let wanted = json!({"mode": "vxlan", "accepts": none});
        assert_eq!(course_of(joins(), &wanted, &[0]), ["vxlan.calico+ None"], "one device");
    }
}

/// All nodes hear of it together, and Calico's nodes among them change at once.
#[test]
fn what_the_cluster_says_is_sent_by_at_once() {
    let (ipip, vxlan) = (json!({"mode": "ipip"}), json!({"mode": "vxlan"}));
    let at_once = |mut change: Change| {
        change.at_once = true;
        change
    };
    assert_eq!(
        course_of(at_once(Change::new(Some(part(&ipip)), None, CLOCK)), &vxlan, &[0, 599, 600]),
        ["vxlan.calico+ipip Some(600)", "vxlan.calico+ipip Some(600)", "vxlan.calico+ None"]
    );
    let half = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}});
    assert_eq!(
        course_of(at_once(started(&half, 400, 1)), &vxlan, &[0, 200]),
        ["vxlan.calico+ipip Some(200)", "vxlan.calico+ None"]
    );
    let direct = Change::new(Some(part(&json!({"mode": "direct"}))), None, CLOCK);
    assert_eq!(course_of(at_once(direct), &vxlan, &[0]), ["vxlan.calico+ None"]);
}

/// One device serves before and afterwards: what of it was for the family that travels plainly
/// by now stays until all nodes send so.
#[test]
fn a_family_begins_and_ends_to_travel_plainly_in_the_same_steps() {
    let (all, one) = (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "plain": ["IPv6"]}));
    for (from, to) in [(&all, &one), (&one, &all)] {
        let begin = Instant::now();
        let mut change = Change::new(Some(part(from)), None, CLOCK);
        let mut says = Vec::new();
        for seconds in [0, 300, 600] {
            let said = change.step(&part(to), begin + Duration::from_secs(seconds));
            says.push((said.way(), said.accepts().cloned()));
        }
        let (from, to) = (part(from).way(), part(to).way());
        let expected = [(from.clone(), Some(to.clone())), (to.clone(), Some(from)), (to, None)];
        assert_eq!(says, expected);
    }
}

#[test]
fn what_is_no_other_way_holds_at_once() {
    for (from, to) in [
        (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "mtu": 1300, "crossSubnet": true})),
        // One device cannot be both.
        (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "vxlan": {"vni": 7}})),
        (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "vxlan": {"device": "v"}})),
    ] {
        let mut change = Change::new(Some(part(&from)), None, CLOCK);
        let now = Instant::now();
        assert_eq!(change.step(&part(&to), now), part(&to), "{from}");
        assert_eq!(change.due(), None);
    }
    let mut first = Change::new(None, None, CLOCK);
    let ipip = part(&json!({"mode": "ipip"}));
    assert_eq!((first.step(&ipip, Instant::now()), first.due()), (ipip, None));
}
