// SPDX-License-Identifier: Apache-2.0
//! The leases of a network that no attachment goes with.

use serde_json::Value;

use super::{
    super::{
        file,
        ipam::{self, Pool},
        liveness,
    },
    Candidate, Collected, Collector,
};
use crate::{
    cni::Error,
    conf::has_store,
    ipam::Lease,
    list::{Gather, PushAll},
    net::{Socket, link::Link},
    state::Entry,
};

impl Collector<'_> {
    /// Leases without an attachment: an ADD that was killed before it noted its
    /// address, or attachments from before the last boot. Only host-local's store
    /// can be read; other plugins collect their own.
    pub(super) fn collect_leases(
        &self,
        host: &mut Socket,
        pool: &Pool<'_>,
        (entries, links): (&[Entry], &[Link]),
        dry_run: bool,
        verdict: &dyn Fn(&Candidate<'_>) -> Option<&'static str>,
    ) -> Result<(Vec<Collected>, Vec<Error>), Error> {
        let (mut collected, mut errors) = (Vec::new(), Vec::new());
        let beside = pool.lock_beside().inspect_err(|error| {
            let directory = pool.directory().display();
            log::warn!("leases in {directory} stay, another network has them as well: {error}");
        });
        let Ok((_locks, beside)) = beside else { return Ok((collected, errors)) };
        let store = pool.open()?;
        let failed = |what: &str, error| file(what, pool.directory(), &error);
        let shared = pool.is_shared();
        for lease in store.leases() {
            let has = |entry: &Entry| lease.owner.is(&entry.container_id, &entry.ifname);
            if self.attached(&lease, entries, links) || beside.iter().any(has) {
                continue;
            }
            // Whose links we do not know may be alive without a route.
            let held = shared || liveness::is_routed(host, lease.address)?;
            let Some(reason) = verdict(&Candidate::Leased(&lease, held)) else { continue };
            if !dry_run {
                let released = store.release_lease(&lease);
                errors.push_all(released.map_err(|error| failed("release a lease", error)).err());
            }
            collected.push(Collected {
                network: self.network.to_owned(),
                pod: None,
                container_id: lease.owner.container_id,
                ifname: lease.owner.ifname.unwrap_or_else(|| "?".to_owned()),
                host_link: None,
                reason,
            });
        }
        Ok((collected, errors))
    }

    /// The stores of this network, by the present configuration and by those of
    /// all ADDs; where none says, the usual one. Only those that exist.
    pub(super) fn pools(&self, entries: &[Entry]) -> Vec<Pool<'_>> {
        let present = self.ipam.as_ref().map(|(ipam, _)| ipam);
        let mut sections: Vec<&Value> =
            present.into_iter().chain(entries.iter().map(|entry| &entry.ipam)).gather();
        if sections.is_empty() {
            sections.push(&Value::Null);
        }
        let mut pools: Vec<Pool<'_>> = Vec::new();
        for section in sections {
            let kind = section.get("type").and_then(Value::as_str);
            let pool = Pool::of(self.root, self.network, section);
            let known = pools.iter().any(|other| other.directory() == pool.directory());
            if kind.is_none_or(has_store) && !known && pool.directory().is_dir() {
                pools.push(pool);
            }
        }
        pools
    }

    /// Whether a lease goes with an attachment that is looked at anyway.
    fn attached(&self, lease: &Lease, entries: &[Entry], links: &[Link]) -> bool {
        let aliases = links.iter().filter_map(|link| link.alias.as_deref());
        ipam::has_attachment(self.network, &lease.owner, entries, aliases)
    }
}
