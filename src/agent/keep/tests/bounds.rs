// SPDX-License-Identifier: Apache-2.0
//! A range of all pods, as agent.json has it, beside what the file serves.

use super::*;

impl Ground {
    /// Another agent, which is told that all pods are there.
    fn again_within(&mut self, cluster: &str) {
        self.keeper = Self::keeper_within(&self.path(), Some(cluster));
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn is_troubled(&self) -> bool {
        let words = self.keeper.status.unready().unwrap();
        // What begins before the first pass is told as well.
        assert!(words.contains("not looked at yet"), "{words}");
        words.contains("name each range that pods were given on purpose")
    }
}

#[test]
fn a_slip_takes_no_route_and_lets_nobody_in() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    let before = ground.text();
    ground.again_within("10.9.0.0/16");
    assert!(ground.is_troubled(), "before any list");
    for list in [nodes(1..=3), nodes([1, 3]), nodes(1..=4)] {
        ground.tell(list);
        assert_eq!((ground.text(), ground.writes()), (before.clone(), (0, 0)));
        assert!(ground.is_troubled());
    }
    assert!(ground.keeper.said.doubt.starts_with("cluster-cidrs-wrong: "));
    ground.again_within("10.0.0.0/16");
    assert!(!ground.is_troubled());
    ground.tell(nodes([1, 3, 4]));
    assert_eq!(ground.file(), ["n1", "n3", "n4"]);
    assert!(!ground.is_troubled());
}

/// Of pods elsewhere alone, which a doubt of a minute would not keep.
#[test]
fn a_slip_that_leaves_out_most_others_is_one_as_well() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=9));
    // Of 10.0.1.0/24 to 10.0.9.0/24 the first one.
    ground.again_within("10.0.0.0/23");
    let over = Instant::now() + DOUBT * 2;
    ground.keeper.consider(&nodes(1..=9), true, over);
    ground.keeper.write(over);
    assert_eq!(ground.file().len(), 9);
    assert!(ground.is_troubled());
}

/// Other nodes hear of no other mode, for the rollout ends.
#[test]
fn a_slip_changes_no_mode() {
    let mut ground = Ground::new();
    ground.keeper.settings.fabric = of_mode("vxlan");
    ground.tell(nodes(1..=3));
    let before = ground.text();
    for list in [None, Some(nodes(1..=3))] {
        ground.again_within("10.9.0.0/16");
        ground.keeper.settings.fabric = of_mode("ipip");
        list.into_iter().for_each(|list| ground.tell(list));
        ground.keeper.step();
        assert_eq!(ground.text(), before);
    }
    ground.again_within("10.0.0.0/16");
    ground.keeper.settings.fabric = of_mode("ipip");
    ground.keeper.step();
    assert_eq!(ground.modes(), ["vxlan", "ipip"], "a list is not waited for");
    // All nodes have begun with it, and none goes back.
    ground.again_within("10.9.0.0/16");
    ground.keeper.settings.fabric = of_mode("ipip");
    ground.keeper.change.limit = Duration::ZERO;
    ground.keeper.step();
    assert_ne!(ground.modes(), ["vxlan", "ipip"]);
}

/// One list that was out of date.
#[test]
fn a_node_that_is_there_again_is_not_missing() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=3));
    ground.again_within("10.9.0.0/16");
    for list in [Vec::new(), nodes(2..=3)] {
        ground.tell(list);
        assert!(ground.is_troubled());
    }
    assert!(ground.keeper.belief.own_missing_until().is_some());
    ground.tell(nodes(1..=3));
    assert_eq!(ground.keeper.belief.own_missing_until(), None);
    assert!(ground.is_troubled());
}

/// That is what the range is for.
#[test]
fn a_network_that_should_be_nowhere_is_left_out() {
    for last in [2, 4] {
        let mut ground = Ground::new();
        ground.tell(nodes(1..=last));
        ground.again_within(if last == 2 { "10.0.0.0/23" } else { "10.0.0.0/22" });
        ground.tell(nodes(1..=last));
        assert_eq!(ground.file(), (1..last).map(|it| format!("n{it}")).collect::<Vec<_>>());
        assert!(!ground.is_troubled());
    }
}

#[test]
fn a_node_that_was_made_again_goes_by_the_new_range() {
    let mut ground = Ground::new();
    ground.tell(nodes(1..=4));
    ground.again_within("10.8.0.0/16");
    let moved = |number: usize| {
        let mut record = Record::clone(&node(number));
        record.pod_cidrs = vec![format!("10.8.{number}.0/24").into()];
        Arc::new(record)
    };
    // The others were made again, and this one was not.
    ground.tell([vec![node(1)], (2..=4).map(moved).collect()].concat());
    assert!(ground.text().contains("10.0.2.0/24") && ground.is_troubled());
    // This one was made again, and no other.
    ground.tell([vec![moved(1)], nodes(2..=4)].concat());
    assert!(ground.text().contains("\"10.8.1.0/24\"") && !ground.is_troubled());
}
