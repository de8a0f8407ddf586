// SPDX-License-Identifier: Apache-2.0
//! Compares the kernel with what was applied, for CHECK.

use super::{
    super::{Error, kernel},
    agreement::{last_applied, settings_text},
    leased::leased,
    state::{FabricState, WRITER_LIMIT},
    tunnel::TunnelTable,
};
use crate::{
    conf::Config,
    fabric::{Answers, Inquiry, Plan, Settings, apply::Refused, trouble::Trouble},
    list::Gather,
    net::{Socket, Tables},
    object::{Action, Route},
    state::Root,
    text::few::first_of,
};

/// In what the kernel differs from the fabric that was applied last, for CHECK.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Differences {
    /// All of them.
    pub text: String,
    /// What is to be done about it, and what else is wanting.
    pub advice: String,
}

/// Compares the kernel with the fabric that was applied last: without the peers
/// file, and without changing anything. What somebody else has, and what single
/// peers want, no pod is to blame for: it is only mentioned beside the rest.
///
/// # Errors
/// `Kernel` if the kernel does not answer.
pub fn differences(
    config: &Config,
    root: &Root,
    host: &mut Socket,
) -> Result<Option<Differences>, Error> {
    let state = FabricState::new(root, config.fabric.protocol);
    let compare = |host: &mut Socket| -> Result<Option<Differences>, Error> {
        // A configuration that has changed since is the next ADD's affair.
        let Some(_) =
            last_applied(config, root).filter(|applied| applied.settings == settings_text(config))
        else {
            return Ok(None);
        };
        let tables = Tables::of_kernel(host).map_err(kernel)?;
        let Some(peers) = state.peers_by(config, &tables) else { return Ok(None) };
        let mut ledger = state.ledger(config);
        (ledger.leased, _) = leased(config, root, &peers);
        let settings = Settings::of_config(config);
        let answers = &mut Answers::default();
        let node = Inquiry { socket: host, tables: &tables, answers };
        let plan = Plan::make(node, &settings, &peers, &ledger).map_err(kernel)?;
        let tunnel = TunnelTable::of(config, &peers)?;
        let tables = tunnel.iter().flat_map(TunnelTable::differences).cloned().gather();
        Ok(Differences::of(&plan, tables))
    };
    if compare(host)?.is_none() {
        return Ok(None);
    }
    // Somebody may have been about it.
    let _lock = state.lock(WRITER_LIMIT)?;
    compare(host)
}

impl Differences {
    fn of(plan: &Plan, mut differs: Vec<String>) -> Option<Self> {
        let (mut lacks, mut surplus) = (Vec::new(), Vec::new());
        for change in plan.feasible() {
            // A route to a peer that cannot be reached goes for that reason.
            let gone = change.removed::<Route>();
            if gone.is_some_and(|held| plan.desired.cut_off.contains(&held.destination())) {
                continue;
            }
            let list = match change.action() {
                Action::Create => &mut lacks,
                Action::Replace | Action::Conflict => &mut differs,
                Action::Delete => &mut surplus,
            };
            list.push(change.told().words());
        }
        let lists = [("lacks", lacks), ("differs in", differs), ("has besides", surplus)];
        let told: Vec<String> = lists
            .iter()
            .filter(|(_, lines)| !lines.is_empty())
            .map(|(verb, lines)| format!("the fabric {verb}: {}", first_of(lines)))
            .gather();
        let mut advice = "manx apply repairs the fabric".to_owned();
        let Trouble { reasons, .. } = Trouble::of(plan, &Refused::default());
        if !reasons.is_empty() {
            advice += &format!(", but not this: {}", first_of(&reasons));
        }
        (!told.is_empty()).then(|| Self { text: told.join("; "), advice })
    }
}
