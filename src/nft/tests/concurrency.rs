// SPDX-License-Identifier: Apache-2.0
//! A node starts a hundred pods at once, next to programs that change the
//! firewall all the time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::{Namespace, differences, ensure, guarded, wanted};
use crate::netlink::{Request, attribute::Attribute};
use crate::nft::abi::{NFT_MSG_NEWTABLE, NFTA_TABLE_NAME, NLM_F_CREATE};
use crate::nft::message::{generation, request};
use crate::nft::ruleset::table_deletion;
use crate::nft::socket::Socket;
use crate::nft::table::{Chain, Rule, Table, Term};
use crate::nft::{self, ATTEMPTS, Ensured, ensure_by};

fn together<T: Send>(namespace: &Namespace, many: usize, what: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(many);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..many)
            .map(|_| {
                scope.spawn(|| {
                    setns(&namespace.0, CloneFlags::CLONE_NEWNET).unwrap();
                    start.wait();
                    what()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn of_fifty_at_once_one_writes() {
    let namespace = Namespace::new();
    for (damage, done) in [
        (None, Ensured::Installed),
        (Some("flush table inet manx-blue"), Ensured::Repaired),
        (Some("flush chain inet manx-blue postrouting"), Ensured::Repaired),
        (Some("delete table inet manx-blue"), Ensured::Installed),
    ] {
        if let Some(damage) = damage {
            namespace.load(damage);
        }
        let results = together(&namespace, 50, || ensure(&wanted()));
        let count = |what| results.iter().filter(|result| **result == Ok(what)).count();
        assert_eq!((count(done), count(Ensured::Unchanged)), (1, 49), "{damage:?}: {results:?}");
    }
    assert_eq!(namespace.run(|| differences(&wanted())), Ok(Vec::new()));
    assert_eq!(namespace.ruleset().matches("masquerade fully-random").count(), 1);
}

/// Ends what goes on until it is set.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn creation(table: &str) -> Request {
    let name = Attribute::string(NFTA_TABLE_NAME, table);
    request(NFT_MSG_NEWTABLE, NLM_F_CREATE, table, [name])
}

/// Makes and deletes a table of its own as fast as it can.
fn churn(until: &AtomicBool) -> u32 {
    let mut socket = Socket::open().unwrap();
    let make = creation("churn");
    let mut changes = 0;
    while !until.load(Ordering::Relaxed) {
        socket.commit(std::slice::from_ref(&make), None).unwrap();
        socket.commit(&[table_deletion("churn")], None).unwrap();
        changes += 2;
    }
    changes
}

#[test]
fn a_firewall_that_never_rests_delays_nobody_forever() {
    let namespace = Namespace::new();
    let done = AtomicBool::new(false);
    let changes = thread::scope(|scope| {
        // A failure must not leave the other thread at it for ever.
        let stop = Stop(&done);
        let churning = scope.spawn(|| namespace.run(|| churn(&done)));
        for damage in ["", "flush chain inet manx-blue postrouting", "delete table inet manx-blue"]
        {
            namespace.load(damage);
            let results = together(&namespace, 8, || ensure(&wanted()));
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert_eq!(namespace.run(|| differences(&wanted())), Ok(Vec::new()));
        }
        drop(stop);
        churning.join().unwrap()
    });
    assert!(changes > 100, "{changes} changes are no churn");
    assert_eq!(namespace.ruleset().matches("masquerade fully-random").count(), 1);
}

/// One that is right and not known by its seal is to be made anew. Where others are always quicker, or
/// the kernel refuses, it stays as it is, with what operators allowed in it.
#[test]
fn a_right_table_outlives_a_renewal_that_fails() {
    let namespace = Namespace::new();
    let table = guarded().describe().unwrap();
    namespace.load(&format!(
        "{}\nadd element inet manx-blue allowed4 {{ \"cali1\" . 10.9.0.0/16 }}",
        table.render()
    ));
    let handle = || {
        let listed = namespace.command(&format!("nft -a list table inet {}", table.name));
        listed.lines().find(|line| line.contains("# handle")).map(str::to_owned).unwrap()
    };
    let before = handle();
    let mut tried = 0;
    namespace.run(|| {
        let mut other = Socket::open().unwrap();
        let overtaken = |socket: &mut Socket, requests: &[Request], generation| {
            tried += 1;
            other.commit(&[creation("churn")], None).unwrap();
            other.commit(&[table_deletion("churn")], None).unwrap();
            socket.commit(requests, generation)
        };
        assert_eq!(ensure_by(&table, overtaken), Ok(Ensured::Unchanged));
        let refused = |socket: &mut Socket, requests: &[Request], generation| {
            let impossible = [requests, &[table_deletion("churn")]].concat();
            socket.commit(&impossible, generation)
        };
        assert_eq!(ensure_by(&table, refused), Ok(Ensured::Unchanged));
    });
    assert_eq!((handle(), tried), (before.clone(), ATTEMPTS));
    namespace.run(|| assert_eq!(nft::ensure(&table), Ok(Ensured::Unchanged)));
    assert_ne!(handle(), before);
    assert!(namespace.ruleset().contains("\"cali1\" . 10.9.0.0/16"));
}

/// Whoever looks while the kernel puts one table in the place of another finds the one or the
/// other. The more rules go, the longer that takes.
#[test]
fn a_table_that_is_being_replaced_is_never_seen_without_rules() {
    let namespace = Namespace::new();
    let rules = (0..400).map(|_| Rule(vec![Term::Count])).collect();
    let chain = Chain { name: "counted", hook: None, rules };
    let table = Table { name: "manx-blue".to_owned(), chains: vec![chain], ..Table::default() };
    namespace.run(|| crate::nft::ensure(&table)).unwrap();
    let done = AtomicBool::new(false);
    let look = || {
        let mut seen = Vec::new();
        while !done.load(Ordering::Relaxed) {
            // That everything changes all the time is an error, and no difference.
            seen.extend(crate::nft::differences(&table).into_iter().flatten().next());
        }
        seen
    };
    thread::scope(|scope| {
        let stop = Stop(&done);
        let looking = [(); 3].map(|()| scope.spawn(|| namespace.run(look)));
        namespace.run(|| {
            let mut socket = Socket::open().unwrap();
            let replacement = table.replacement_of_anything();
            (0..100).for_each(|_| socket.commit(&replacement, None).unwrap());
        });
        drop(stop);
        for looking in looking {
            assert_eq!(looking.join().unwrap(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_batch_bound_to_an_old_generation_is_refused() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut socket = Socket::open().unwrap();
        let table = |name: &str| {
            let named = [Attribute::string(NFTA_TABLE_NAME, name)];
            request(NFT_MSG_NEWTABLE, NLM_F_CREATE, "table", named)
        };
        let [reply] = crate::nft::snapshot::ask(&mut socket, [generation()]).unwrap();
        let generation = crate::nft::snapshot::generation_of(&reply).unwrap();
        assert_eq!(socket.commit(&[table("a")], Some(generation)), Ok(()));
        let error = socket.commit(&[table("b")], Some(generation)).unwrap_err();
        assert!(error.is_race(), "{error}");
        assert_eq!(crate::nft::tables(""), Ok(vec!["a".into()]));
    });
}

#[test]
fn a_failed_batch_changes_nothing_and_names_the_request() {
    let namespace = Namespace::new();
    let error = namespace.run(|| {
        let mut socket = Socket::open().unwrap();
        let named = [Attribute::string(NFTA_TABLE_NAME, "a")];
        let make = request(NFT_MSG_NEWTABLE, NLM_F_CREATE, "table a", named);
        let error = socket.commit(&[make, table_deletion("absent")], None).unwrap_err();
        assert_eq!(crate::nft::tables(""), Ok(vec![]));
        error
    });
    assert_eq!(error.to_string(), "cannot change table inet absent: No such file or directory");
}
