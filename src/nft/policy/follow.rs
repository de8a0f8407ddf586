// SPDX-License-Identifier: Apache-2.0
//! A table of policies that is known to hold something, brought to hold something else: who has
//! made it and sees that nobody touched it since needs not read it back.

use super::super::error::Error;
use super::super::set::{Content, Elements, Set};
use super::super::socket::Socket;
use super::super::stages::{current, follow};
use super::super::table::Table;
use super::held::switches;
use super::{Policies, Way};
use crate::list::Gather;

/// A conversation with nf_tables that goes on from one change to the next. The kernel lets nobody
/// close one until what was removed before is freed, which takes grace periods of RCU
/// (nft_rcv_nl_event, net/netfilter/nf_tables_api.c): 9 ms, a fifth of a change.
pub struct Session(Socket);

impl Session {
    /// Begins one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Why none can be.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Socket::open()?))
    }

    /// Whether the rule set is of that generation still.
    ///
    /// # Errors
    /// Of the kernel's answers; another session is to be begun then.
    pub fn is_untouched(&mut self, generation: u32) -> Result<bool, Error> {
        Ok(current(&mut self.0)? == generation)
    }
}

/// What sets hold, by their names.
type Held = Vec<(&'static str, Elements)>;

impl Policies {
    /// Makes the kernel's table this one, if it holds what `before` does, which denies packets
    /// in the same way, as it did as of that generation of the rule set. Returns the generation
    /// afterwards; `None` where others changed something since, and
    /// [`bring_up`](Self::bring_up) has to look.
    ///
    /// # Errors
    /// Of the kernel's answers, and another session is to be begun then; [`Error::Invalid`].
    pub fn follow(
        &self,
        before: &Self,
        generation: u32,
        session: &mut Session,
    ) -> Result<Option<u32>, Error> {
        let (wanted, held) = self.since(before)?;
        follow(&mut session.0, &wanted, &switches(), &held, generation)
    }

    /// What is to be there and is not, and what is there and is not to be.
    pub(super) fn since(&self, before: &Self) -> Result<(Table, Held), Error> {
        let gone = before.without(self).sets().into_iter().filter_map(following);
        Ok((self.without(before).without_rules()?, gone.gather()))
    }

    /// All but what the other one has as well.
    fn without(&self, other: &Self) -> Self {
        let [egress, ingress] = &self.ways;
        let [others_egress, others_ingress] = &other.ways;
        Self {
            table: self.table.clone(),
            identities: self.identities.without(&other.identities),
            own: self.own.without(&other.own),
            ways: [egress.without(others_egress), ingress.without(others_ingress)],
            denial: self.denial,
        }
    }
}

impl Way {
    fn without(&self, other: &Self) -> Self {
        Self {
            classes: self.classes.without(&other.classes),
            grants: self.grants.without(&other.grants),
            networks: self.networks.without(&other.networks),
        }
    }
}

/// What it holds, if that follows something.
fn following(set: Set) -> Option<(&'static str, Elements)> {
    match set.content {
        Content::Following(elements) | Content::Counted(elements) => Some((set.name, elements)),
        Content::Constant(_) | Content::Open | Content::Passing(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::{collection::btree_map, prelude::*};

    use super::super::super::stages::stages;
    use super::super::Grant;
    use super::*;
    use crate::list::Sorted;
    use crate::netlink::Request;

    /// Few of everything, so that two tables have much in common.
    fn policies() -> impl Strategy<Value = Policies> {
        let address = || {
            (0..3u8, any::<bool>()).prop_map(|(last, is_v6)| match is_v6 {
                true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
                false => IpAddr::from([10, 0, 0, last]),
            })
        };
        let numbers = move || btree_map(address(), 1..4u64, 0..4).prop_map(Sorted::from_iter);
        let grants = btree_map((1..4u32, 1..3u32), 80..83u16, 0..6).prop_map(|all| {
            let grant = |class, peer| Grant { class, protocol: 6, peer, port: 80 };
            all.into_iter().map(|((class, peer), last)| (grant(class, peer), last)).collect()
        });
        let networks = btree_map((1..4u32, 0..3u8), (0..9u8, 1..3u32), 0..4).prop_map(|all| {
            let at = |third, last| IpAddr::from([10, 1, third, last]);
            let all = all.into_iter();
            all.map(|((class, third), (last, number))| {
                ((class, at(third, 0)), (at(third, last), number))
            })
            .collect()
        });
        let way = (numbers(), grants, networks).prop_map(|(classes, grants, networks)| Way {
            classes,
            grants,
            networks,
        });
        let own = btree_map(address(), Just(()), 0..4).prop_map(Sorted::from_iter);
        (numbers(), own, way.clone(), way).prop_map(|(identities, own, egress, ingress)| {
            let table = "manx-policy".to_owned();
            let ways = [egress, ingress];
            Policies { table, identities, own, ways, ..Policies::default() }
        })
    }

    fn held(policies: &Policies) -> Held {
        policies.describe().unwrap().sets.into_iter().filter_map(following).collect()
    }

    proptest! {
        /// What is noted of a table, for the case that it is lost, is all of it.
        #[test]
        fn what_is_noted_is_read_back(noted in policies()) {
            let document = serde_json::from_str(&noted.encode()).unwrap();
            prop_assert_eq!(Policies::decode(&noted.table, &document), Some(noted));
        }

        /// What is known to be held leads to the same transactions as what is read.
        #[test]
        fn what_both_have_is_in_no_transaction(before in policies(), after in policies()) {
            let bytes = |all: Vec<Vec<Request>>| -> Vec<Vec<u8>> {
                let one = |requests: Vec<Request>| {
                    let mut bytes = Vec::new();
                    requests.iter().for_each(|request| request.emit(1, 0, &mut bytes));
                    bytes
                };
                all.into_iter().map(one).collect()
            };
            let read = stages(&after.describe().unwrap(), &switches(), &held(&before));
            let (wanted, known) = after.since(&before).unwrap();
            prop_assert_eq!(bytes(stages(&wanted, &switches(), &known)), bytes(read));
            let (same, nothing) = before.since(&before).unwrap();
            prop_assert!(stages(&same, &switches(), &nothing).is_empty());
        }
    }
}
