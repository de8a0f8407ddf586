// SPDX-License-Identifier: Apache-2.0
//! How the agent stands: what its threads note, and what is asked of it from outside.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    metrics::{Api, Counts, Metrics},
    reach::Reach,
};
use crate::{
    fabric::nodes::View,
    finding::Finding,
    list::Gather,
    node::{apply::Report, policy::Done, watch::Bell},
    state::{Root, operations::Operation},
};

/// No pass for so long is no watch.
const STUCK: Duration = Duration::from_secs(300);

/// How the agent stands.
#[derive(Debug)]
pub(crate) struct Status {
    now: Mutex<Now>,
    reach: Mutex<Reach>,
    written: Condvar,
    /// Wakes who looks after the node.
    bell: Option<Arc<Bell>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Now {
    /// Why the API server cannot be asked, if so.
    lost: Option<String>,
    writes: u64,
    /// Why this node is not to have pods, or does not follow the cluster.
    trouble: Option<String>,
    /// Why the configuration of the container runtime is not written.
    closed: Option<String>,
    /// Why Calico's IPAM plugin is not let in by the API server.
    unlet: Option<String>,
    /// Why network policies are not enforced, if they are to be.
    unenforced: Option<String>,
    /// When something was last done for the node's routes.
    alive: Instant,
}

impl Status {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::of(&Root::new("/nonexistent"))
    }

    /// Of the node that has its state below `root`.
    pub(crate) fn of(root: &Root) -> Self {
        let now = Mutex::new(Now {
            lost: Some("the API server was not asked yet".to_owned()),
            writes: 0,
            trouble: None,
            closed: Some("the node was not looked at yet".to_owned()),
            unlet: None,
            unenforced: None,
            alive: Instant::now(),
        });
        let (reach, written) = (Mutex::default(), Condvar::new());
        let bell = Bell::new().map(Arc::new);
        let bell = bell.map_err(|error| log::warn!("what changes is noticed later: {error}")).ok();
        Self { now, reach, written, bell, metrics: Metrics::new(root) }
    }

    /// The same where network policies are to be enforced.
    pub(crate) fn enforcing(mut self) -> Self {
        self.metrics.enforcing();
        self.enforced(Some("network policies were not asked for yet".to_owned()));
        self
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wakes who looks after the node.
    pub(crate) fn bell(&self) -> Option<&Arc<Bell>> {
        self.bell.as_ref()
    }

    /// Something is there that the configuration of the container runtime may wait for.
    pub(super) fn wake(&self) {
        self.bell.iter().for_each(|bell| bell.ring());
    }

    /// What requests to the API server are counted by.
    pub(super) fn api(&self) -> Api {
        self.metrics.api.clone()
    }

    pub(super) fn lost(&self, words: &str) {
        self.metrics.api_connected.set(0);
        let mut now = self.now();
        if now.lost.is_none() {
            log::warn!("{words}; the peers file stays as it is");
        } else if now.lost.as_deref() != Some(words) {
            log::info!("{words}");
        }
        now.lost = Some(words.to_owned());
    }

    pub(super) fn listed(&self) {
        let mut now = self.now();
        if now.lost.take().is_some() {
            log::info!("the API server tells of the cluster's nodes");
        }
        self.metrics.api_connected.set(1);
    }

    pub(super) fn viewed(&self, view: &View) {
        let mut now = self.now();
        self.metrics.viewed(view.used, view.incomplete.len(), view.quarantined.len());
        now.trouble = view.own_trouble.as_ref().map(Finding::sentence);
    }

    /// Why the agent does not go by its configuration; none where it does.
    pub(super) fn troubled(&self, finding: Option<&Finding>) {
        self.now().trouble = finding.map(Finding::sentence);
    }

    /// A Node that is registered again within a while is no trouble.
    pub(super) fn own_missing(&self, long: bool) {
        if long {
            self.now().trouble = Some("the API server has no Node for this node".to_owned());
        }
    }

    /// The peers file is about to be written, with a change that was heard then.
    pub(super) fn writing(&self, heard: Option<Instant>) {
        if let Some(heard) = heard {
            self.reach().writing(heard, Instant::now());
        }
    }

    pub(super) fn wrote(&self, done: bool) {
        self.metrics.wrote(done);
        self.reach().wrote(done, Instant::now());
        self.now().writes += u64::from(done);
        self.written.notify_all();
        self.wake();
    }

    /// How often the peers file was written.
    pub(super) fn writes(&self) -> u64 {
        self.now().writes
    }

    /// Waits for the peers file to be written more often than that, or for network policies to
    /// be enforced, for `limit` at most.
    pub(super) fn await_writing(&self, before: u64, limit: Duration) {
        let now = self.now();
        let unenforced = now.unenforced.is_some();
        let waited = self.written.wait_timeout_while(now, limit, |now| {
            now.writes == before && now.unenforced.is_some() == unenforced
        });
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The configuration of the container runtime is in place, or is not, for this reason.
    pub(super) fn gate(&self, closed: Option<String>) {
        self.now().closed = closed;
    }

    /// Calico's IPAM plugin has what the API server lets it in by, or not, for this reason.
    pub(super) fn let_in(&self, unlet: Option<String>) {
        self.now().unlet = unlet;
    }

    /// Network policies are enforced, or not yet, for this reason.
    pub(super) fn enforced(&self, unenforced: Option<String>) {
        let is_new = {
            let mut now = self.now();
            let is_new = now.unenforced.is_some() && unenforced.is_none();
            now.unenforced = unenforced;
            is_new
        };
        if is_new {
            log::info!("network policies are enforced");
            self.written.notify_all();
            self.wake();
        }
    }

    /// Why network policies are not enforced yet, if they are to be.
    pub(super) fn unenforced(&self) -> Option<String> {
        self.now().unenforced.clone()
    }

    /// A pass over network policies found so many of everything, and did this; what changed
    /// first was heard at that time.
    pub(super) fn policies(&self, counts: &Counts, done: Done, heard: Option<Instant>) {
        self.metrics.enforced(counts, done, heard.map(|heard| heard.elapsed()));
    }

    pub(super) fn policies_failed(&self) {
        self.metrics.failed_to_enforce();
    }

    /// So many connections were cut.
    pub(super) fn cut(&self, count: usize) {
        self.metrics.cut(count);
    }

    pub(super) fn alive(&self) {
        self.now().alive = Instant::now();
    }

    pub(super) fn passed(&self, report: &Report) {
        let now = Instant::now();
        let took = report.began.map(|began| now.saturating_duration_since(began));
        self.metrics.passed(report, took);
        if let Some(began) = report.began {
            let (changed, made) = (!report.lines.is_empty(), report.ahead.unwrap_or(now));
            let reached = self.reach().passed(began, changed, made);
            reached.into_iter().for_each(|after| self.metrics.reached(after));
        }
        self.alive();
    }

    /// A call of the plugin ended.
    pub(super) fn ended(&self, operation: &Operation) {
        self.metrics.ended(operation);
    }

    /// All metrics, as Prometheus reads them: leases are read for them, so that this may wait
    /// for a disk.
    pub(super) fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.ready.set(i64::from(self.unready().is_none()));
        self.metrics.text()
    }

    /// Why no pods should come to this node.
    pub(crate) fn unready(&self) -> Option<String> {
        let now = self.now();
        // What the cluster says of this node, and then what follows for it.
        let node = now.trouble.iter().chain(&now.closed);
        let words = node.chain(&now.unlet).chain(&now.unenforced).cloned().gather();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Why the agent should be started again. That the API server is away is no reason.
    pub(crate) fn stuck(&self, at: Instant) -> Option<String> {
        let silent = at.saturating_duration_since(self.now().alive);
        (silent >= STUCK)
            .then(|| format!("nothing was done for this node's routes for {} s", silent.as_secs()))
    }
}
