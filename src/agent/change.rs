//! What the peers file says of the fabric while a mode changes. Pure.
//!
//! Another configuration reaches the nodes of a cluster one after the other. So a node
//! first takes what comes by the new mode and goes on sending by the old one, for half of
//! the time that it may take until all have the configuration. Then it sends by the new
//! one, and takes what comes by the old one for the other half. Where a node is can be
//! read in its file, so that an agent that is started again goes on there.

use std::time::{Duration, Instant};

use crate::conf::FabricPart;

/// For how long a former mode is accepted, if nobody says so.
pub(super) const ACCEPTED: Duration = Duration::from_secs(600);

/// A fabric on its way from one mode to another.
#[derive(Debug)]
pub(super) struct Change {
    /// What the file says; nothing where there is none.
    said: Option<FabricPart>,
    /// Since when.
    since: Option<Instant>,
    /// For how long a former mode is accepted.
    pub(super) limit: Duration,
}

impl Change {
    /// From what the file says that is there.
    pub(super) fn new(said: Option<FabricPart>, limit: Duration) -> Self {
        Self { said, since: None, limit }
    }

    /// What the file is to say now, where this is wanted.
    pub(super) fn step(&mut self, wanted: &FabricPart, now: Instant) -> FabricPart {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        let next = match &self.said {
            Some(said) => next(said, wanted, age, self.limit),
            None => wanted.clone(),
        };
        let ways = |part: &FabricPart| (part.way(), part.accepts().map(FabricPart::way));
        if self.said.as_ref().map(ways) != Some(ways(&next)) {
            self.since = Some(now);
        }
        self.said = Some(next.clone());
        next
    }

    /// When there is another step to be made.
    pub(super) fn due(&self) -> Option<Instant> {
        let said = self.said.as_ref().filter(|said| said.accepts().is_some())?;
        Some(self.since? + span(said, self.limit))
    }
}

/// How long a file says this. Packets as they are need no time ahead: they are never
/// refused.
fn span(said: &FabricPart, limit: Duration) -> Duration {
    if said.is_direct() && said.accepts().is_some() { limit } else { limit / 2 }
}

fn next(said: &FabricPart, wanted: &FabricPart, age: Duration, limit: Duration) -> FabricPart {
    let (old, new) = (said.way(), wanted.way());
    let accepted = said.accepts().map(FabricPart::way);
    let is_over = age >= span(said, limit);
    if old == new {
        return wanted.accepting(accepted.as_ref().filter(|_| !is_over));
    }
    if old.excludes(&new) {
        return wanted.clone();
    }
    let is_taken = accepted.as_ref() == Some(&new) && age >= limit / 2;
    match new.is_direct() || is_taken {
        true => wanted.accepting(Some(&old)),
        false => said.accepting(Some(&new)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    fn part(value: &Value) -> FabricPart {
        FabricPart::of_file(value.as_object().unwrap()).0
    }

    /// What the file says at these seconds, and when it says something else next.
    fn course(from: &Value, wanted: &Value, at: &[u64]) -> Vec<String> {
        let begin = Instant::now();
        let mut change = Change::new(Some(part(from)), LIMIT);
        let mut said = |seconds: &u64| {
            let fabric = change.step(&part(wanted), begin + Duration::from_secs(*seconds));
            let due = change.due().map(|due| (due - begin).as_secs());
            let word = |part: &FabricPart| {
                let way = part.way().encode();
                let of = |key: &str| way.pointer(key).and_then(Value::as_str).map(str::to_owned);
                of("/vxlan/device").or_else(|| of("/mode")).unwrap()
            };
            let accepts = fabric.accepts().map(word).unwrap_or_default();
            format!("{}+{accepts} {due:?}", word(&fabric))
        };
        at.iter().map(&mut said).collect()
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
            course(&json!({}), &vxlan, &[0, 300]),
            ["direct+vxlan.calico Some(600)", "vxlan.calico+ None"],
            "packets as they are need no acceptance"
        );
        assert_eq!(
            course(&vxlan, &json!({"mode": "direct"}), &[0, 599, 600]),
            ["direct+vxlan.calico Some(600)", "direct+vxlan.calico Some(600)", "direct+ None"]
        );
    }

    #[test]
    fn an_agent_that_is_started_again_goes_on_where_it_was() {
        let half = json!({"mode": "vxlan", "accepts": {"mode": "ipip"}});
        let vxlan = json!({"mode": "vxlan"});
        assert_eq!(
            course(&half, &vxlan, &[0, 300]),
            ["vxlan.calico+ipip Some(300)", "vxlan.calico+ None"]
        );
        // Who changes his mind goes back the same way.
        assert_eq!(
            course(&half, &json!({"mode": "ipip"}), &[0, 300, 600]),
            ["vxlan.calico+ipip Some(300)", "ipip+vxlan.calico Some(600)", "ipip+ None"]
        );
    }

    #[test]
    fn what_is_no_other_way_holds_at_once() {
        for (from, to) in [
            (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "mtu": 1300, "crossSubnet": true})),
            // One device cannot be both.
            (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "vxlan": {"vni": 7}})),
            (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "vxlan": {"device": "v"}})),
        ] {
            let mut change = Change::new(Some(part(&from)), LIMIT);
            let now = Instant::now();
            assert_eq!(change.step(&part(&to), now), part(&to), "{from}");
            assert_eq!(change.due(), None);
        }
        let mut first = Change::new(None, LIMIT);
        let ipip = part(&json!({"mode": "ipip"}));
        assert_eq!((first.step(&ipip, Instant::now()), first.due()), (ipip, None));
    }
}
