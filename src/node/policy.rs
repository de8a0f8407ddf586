// SPDX-License-Identifier: Apache-2.0
//! The table of network policies of this node: looked at, made so, and removed.

mod cut;
mod denial;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gone;
mod held;
#[cfg(feature = "agent")]
mod kept;
mod pods;
mod state;

pub(crate) use cut::Cut;
pub(crate) use held::PolicyTable;
#[cfg(feature = "agent")]
pub(crate) use kept::{Done, Kept, monitor};
pub(crate) use pods::{
    Expected, behind, differences, expect, may_hold, otherwise, release_noted, restore_table,
    sweep, take_back,
};
pub(crate) use state::{is_said, unreadable_files};

use crate::{
    list::{Gather, PushAll},
    nft::{self, Ensured},
    object::{Action, Kind, Told},
    policy::{
        Attached, Compiled, Denial, Dropped, Key, Known, Policies, TABLE, World, changes, compile,
    },
    state::{Root, lock, operations},
};

use super::{Denied, Error, HeldPolicies, IsolatedPod, fabric::file_version, refused};

/// What becomes of established connections that policies no longer allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Established {
    /// They are cut.
    Judged,
    /// They stay.
    Kept,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Applied {
    /// What was changed of the table.
    pub changes: Vec<Told>,
    /// How many connections were cut.
    pub cut: usize,
    /// What an operator should know besides.
    pub notes: Vec<String>,
}

/// What policies mean to this node.
pub struct Wanted {
    node: String,
    /// With the addresses that this node's pods were attached with.
    world: World,
    compiled: Compiled,
}

impl Wanted {
    /// Of a cluster in which this node has that name, and its attachments; packets that they
    /// do not allow are denied like that.
    pub fn of(world: World, node: &str, denial: Denial, root: &Root) -> Self {
        let attached = pods::all_attached(root);
        // Whoever applies it has made a key before.
        let key = state::key(root).unwrap_or_default();
        Self::by(world, (node, &key), denial, &attached, &known_before(root))
    }

    fn by(
        mut world: World,
        (node, key): (&str, &Key),
        denial: Denial,
        attached: &[Attached],
        before: &[Known],
    ) -> Self {
        let unknown = world.locate(node, attached);
        let mut compiled = compile(&world, node, key);
        compiled.policies.denial = denial;
        compiled.settle(&unknown, attached, before);
        Self { node: node.to_owned(), world, compiled }
    }
}

/// The pods that were known when that was written down last; none where it cannot be read, for
/// then it is written anew.
fn known_before(root: &Root) -> Vec<Known> {
    state::pods(root, None).unwrap_or_default().unwrap_or_default()
}

/// What would be changed.
///
/// # Errors
/// `Kernel` where nf_tables does not answer.
pub fn plan(wanted: &mut Wanted) -> Result<Vec<Told>, Error> {
    let Wanted { world, compiled: Compiled { policies: wanted, .. }, .. } = wanted;
    let mut found = wanted.look().map_err(refused)?;
    if found.policies.is_some() && !found.is_sound {
        // It may be the best that this kernel can.
        let possible = wanted.possible_denial();
        if possible != wanted.denial {
            wanted.denial = possible;
            found = wanted.look().map_err(refused)?;
        }
    }
    let held = found.policies.as_ref();
    let mut told = Vec::new();
    let object = format!("nftables table {TABLE}");
    let after = Some("the rules by which network policies are enforced".to_owned());
    if held.is_none() {
        let action = Action::Create;
        told.push(Told { kind: Kind::Table, action, object, before: None, after });
    } else if !found.is_sound {
        let (action, before) = (Action::Replace, Some(found.differences.join("; ")));
        told.push(Told { kind: Kind::Table, action, object, before, after });
    }
    let nothing = Policies::default();
    told.push_all(changes(world, held.unwrap_or(&nothing), wanted));
    Ok(told)
}

/// Makes it so for a cluster in which this node has that name, and says what was changed.
/// What pods that come later are to have is noted first: until the table has it as well,
/// that is nothing.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `File` where nothing can be noted; `Busy` while
/// somebody else is at it.
pub fn apply(
    world: World,
    node: &str,
    established: Established,
    denial: Denial,
    root: &Root,
) -> Result<Applied, Error> {
    let lock = state::lock(root)?;
    state::keep_key(root)?;
    let mut wanted = Wanted::of(world, node, denial, root);
    let told = plan(&mut wanted)?;
    let Wanted { node, mut compiled, .. } = wanted;
    compiled.policies.denial = denial;
    state::write(root, &node, &compiled)?;
    // From now on they are no agent's, unless one runs.
    if !operations::is_read(root) {
        state::forget_keeper(root)?;
    }
    let ((done, _), note) = denial::enforced(root, &mut compiled.policies, Policies::bring_up)?;
    let wanted = &compiled.policies;
    let mut applied = Applied { notes: Vec::from_iter(note), ..Applied::default() };
    if done != Ensured::Unchanged {
        applied.changes = told;
    }
    if established == Established::Judged {
        let cut = cut_all(wanted, root, lock);
        applied.cut = cut.count;
        applied.notes.push_all(cut.notes);
    }
    Ok(applied)
}

/// Cuts what is not allowed any more. Between two turns others may change the table: pods do not
/// wait for as many connections as there may be. Who has applied something else since then
/// cuts by that.
fn cut_all(wanted: &Policies, root: &Root, lock: lock::Guard) -> Cut {
    let file = state::pods_file(root);
    let (version, mut first) = (file_version(&file), Some(lock));
    cut::all(&mut || {
        let _lock = match first.take() {
            Some(lock) => lock,
            None => match state::lock(root) {
                Ok(lock) if file_version(&file) == version => lock,
                Ok(_) => {
                    let note = "others applied policies meanwhile, and cut what those forbid";
                    return Ok(Cut { notes: vec![note.to_owned()], ..Cut::default() });
                }
                Err(error) => {
                    let notes = vec![error.to_string()];
                    return Ok(Cut { notes, left: 1, ..Cut::default() });
                }
            },
        };
        cut::some(wanted, cut::AT_ONCE)
    })
}

/// What the kernel has; `None` where nothing is enforced.
///
/// # Errors
/// `Kernel` where nf_tables does not answer.
pub fn held() -> Result<Option<Policies>, Error> {
    let name = Policies { table: TABLE.to_owned(), ..Policies::default() };
    match name.look() {
        Err(error) if error.is_without_tables() => Ok(None),
        found => Ok(found.map_err(refused)?.policies),
    }
}

/// What was dropped of pods' packets, as the kernel counts it; nothing where it does not.
///
/// # Errors
/// `Kernel` where nf_tables does not answer.
pub fn dropped() -> Result<Vec<Dropped>, Error> {
    let name = Policies { table: TABLE.to_owned(), ..Policies::default() };
    match name.dropped() {
        Err(error) if error.is_without_tables() => Ok(Vec::new()),
        found => found.map_err(refused),
    }
}

/// The same of pods of which anything was dropped, in the words of a snapshot.
///
/// # Errors
/// As for [`dropped`].
pub fn denied() -> Result<Vec<Denied>, Error> {
    let some = dropped()?.into_iter().filter(|dropped| dropped.packets > 0);
    let denied = some.map(|Dropped { address, direction, packets, .. }| {
        let direction = direction.word().to_owned();
        Denied { address, direction, packets }
    });
    Ok(denied.gather())
}

/// How many packets were denied in each direction, in the order of [`Direction::BOTH`], since
/// the rules were made; none where there are none.
#[cfg(feature = "agent")]
pub(crate) fn denied_packets() -> [Option<u64>; 2] {
    let name = Policies { table: TABLE.to_owned(), ..Policies::default() };
    name.denied().unwrap_or_default()
}

/// What is enforced, and which policies that is made of; `None` where nothing is.
///
/// # Errors
/// `Kernel` where nf_tables does not answer; `File` for what cannot be read.
pub fn in_force(root: &Root) -> Result<Option<HeldPolicies>, Error> {
    let Some(policies) = held()? else { return Ok(None) };
    let pods = state::pods(root, None)?.unwrap_or_default();
    let pods = pods.into_iter().map(|Known { name, isolated_by: [egress, ingress], .. }| {
        IsolatedPod { name: name.to_string(), egress, ingress }
    });
    let (pods, denied) = (pods.gather(), denied().unwrap_or_default());
    let sets = serde_json::from_str(&policies.encode()).unwrap_or_default();
    Ok(Some(HeldPolicies { sets, pods, denied }))
}

/// Whether an agent enforced policies since boot, and nobody took that away: what is enforced
/// by hand is not an agent's.
pub(crate) fn is_kept(root: &Root) -> bool {
    state::has_keeper(root)
}

/// Takes the table away, with what is noted of it, and all pods are open; false where there
/// was none.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `File` for what cannot be removed; `Busy` while
/// somebody else is at it.
pub fn remove(root: &Root) -> Result<bool, Error> {
    // The lock itself is a sign that somebody touched the table.
    if !state::was_touched(root)
        && !nft::tables(TABLE).map_err(refused)?.iter().any(|table| table == TABLE)
    {
        return Ok(false);
    }
    let lock = state::lock(root)?;
    state::forget(root)?;
    let was_there = Policies::remove(TABLE).map_err(refused)?;
    lock.retire();
    Ok(was_there)
}
