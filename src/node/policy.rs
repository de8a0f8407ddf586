//! The table of network policies of this node: looked at, made so, and removed.

use crate::{
    nft::{self, Ensured},
    object::{Action, Kind, Told},
    policy::{Policies, TABLE, World, changes},
    state::{Root, lock},
};

use super::{Error, fabric::WRITER_LIMIT, file, refused};

/// What would be changed.
///
/// # Errors
/// `Kernel` where nf_tables does not answer.
pub fn plan(world: &World, wanted: &Policies) -> Result<Vec<Told>, Error> {
    let found = wanted.look().map_err(refused)?;
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
    told.extend(changes(world, held.unwrap_or(&nothing), wanted));
    Ok(told)
}

/// Makes it so, and says what was changed.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `Busy` while somebody else is at it.
pub fn apply(world: &World, wanted: &Policies, root: &Root) -> Result<Vec<Told>, Error> {
    let _lock = lock(root)?;
    let told = plan(world, wanted)?;
    match wanted.enforce().map_err(refused)? {
        Ensured::Unchanged => Ok(Vec::new()),
        Ensured::Installed | Ensured::Repaired => Ok(told),
    }
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

/// Takes the table away, and all pods are open; false where there was none.
///
/// # Errors
/// `Kernel` with what nf_tables refused; `Busy` while somebody else is at it.
pub fn remove(root: &Root) -> Result<bool, Error> {
    let _lock = lock(root)?;
    nft::remove(TABLE).map_err(refused)
}

/// Keeps others from changing the table meanwhile.
fn lock(root: &Root) -> Result<lock::Guard, Error> {
    let directory = root.path("/run/manx/.policy");
    let lock = lock::exclusive_within(&directory, WRITER_LIMIT)
        .map_err(|error| file("lock the table of policies", &directory, &error))?;
    lock.sign();
    Ok(lock)
}
