// SPDX-License-Identifier: Apache-2.0
//! Network policies: what a cluster's API server knows of namespaces, pods and policies, as
//! the table of this node's pods.
//!
//! Three lists are watched ([`objects`]) and put on a board ([`board`]). A thread of its own
//! takes them from there and keeps the table and policy.json true to them ([`keep`]). Before
//! all three are whole nothing is changed, and while they cannot be asked for all stays as it
//! is: what an agent before this one made is in force meanwhile.

mod board;
mod keep;
mod objects;
mod off;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::future::join3;
use tokio::time::sleep;

use super::{
    connect::Access,
    metrics::Api,
    watched::{Kind, Limits, Watched},
};

pub(crate) use keep::keep;
pub(crate) use off::relinquish;

use board::{Board, Part};
use objects::{Namespaces, NetworkPolicies, Pods};

/// Changes that follow each other this closely are told together: a policy is to be in force
/// soon after it is heard of. Who takes them takes longer where there are many, and finds the
/// newest.
const SETTLE: Duration = Duration::from_millis(5);

/// How soon to try again where there are too many files.
const AGAIN: Duration = Duration::from_secs(10);

/// A board that nobody has told anything yet.
pub(crate) async fn board() -> Arc<Board> {
    loop {
        match Board::new() {
            Ok(board) => return Arc::new(board),
            Err(error) => log::error!("network policies are not enforced: {error}"),
        }
        sleep(AGAIN).await;
    }
}

/// Tells the board of all three lists, and comes to no end.
pub(crate) async fn watch(
    access: Access,
    limits: Limits,
    board: Arc<Board>,
    api: Api,
) -> Infallible {
    let limits = Limits { settle: SETTLE, ..limits };
    let by = (&access, &limits, &api);
    let path = "/api/v1/namespaces";
    let namespaces = watched::<Namespaces>(by, path, Part::namespaces(&board));
    let pods = watched::<Pods>(by, "/api/v1/pods", Part::pods(&board));
    let path = "/apis/networking.k8s.io/v1/networkpolicies";
    let policies = watched::<NetworkPolicies>(by, path, Part::policies(&board));
    let (never, ..) = join3(namespaces.run(), pods.run(), policies.run()).await;
    never
}

fn watched<K: Kind>(
    (access, limits, api): (&Access, &Limits, &Api),
    path: &str,
    part: Part<K::Value>,
) -> Watched<K, Part<K::Value>> {
    let watched = Watched::new(access.clone(), limits.clone(), path.to_owned(), part);
    watched.consistent().counted(api.clone())
}
