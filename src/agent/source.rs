// SPDX-License-Identifier: Apache-2.0
//! Where the cluster's nodes come from: a complete list of them or nothing, for whoever
//! waits in another thread.
//!
//! Only the newest list counts, so that one who is held up (by a disk, say) finds one
//! list and not a queue of them.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{common::Common, watched::Ear};
use crate::fabric::nodes::Record;

/// What a source tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// All nodes of the cluster. `anew` tells that the list was asked for
    /// ([`Source::ask_anew`]) and not served from a cache.
    /// `common` is what holds for all of them where the cluster says that.
    Complete { nodes: Vec<Arc<Record>>, anew: bool, common: Option<Arc<Common>> },
    /// The API server cannot be asked, for this reason. What was told before may be all
    /// there is for long.
    Lost(String),
}

/// A source of the cluster's nodes.
pub(crate) trait Source {
    /// Waits for what is new, until `deadline` at most.
    fn next(&mut self, deadline: Instant) -> Option<Told>;

    /// Asks for a list that is not served from a cache.
    fn ask_anew(&mut self);

    /// When the API server told of the first change in the list that was given last, if
    /// that is known.
    fn heard(&mut self) -> Option<Instant> {
        None
    }
}

/// The end of a source that a thread waits at.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    heard: Option<Instant>,
}

/// The end of a source that tells.
#[derive(Clone)]
pub(crate) struct Teller(Arc<Shared>);

#[derive(Default)]
struct Shared {
    news: Mutex<News>,
    told: Condvar,
    asked: Notify,
}

#[derive(Default)]
struct News {
    complete: Option<Told>,
    /// When the first change in it was heard.
    heard: Option<Instant>,
    lost: Option<Told>,
}

/// Both ends of a source.
pub(crate) fn source() -> (Teller, Listener) {
    let shared = Arc::new(Shared::default());
    (Teller(Arc::clone(&shared)), Listener { shared, heard: None })
}

impl Shared {
    /// No thread goes on after a panic.
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    pub(crate) fn tell(&self, mut told: Told) {
        let mut news = self.0.news();
        // What changed after a list that was asked for is told of that list.
        if let (Told::Complete { anew, .. }, Some(Told::Complete { anew: before, .. })) =
            (&mut told, &news.complete)
        {
            *anew |= before;
        }
        match told {
            Told::Lost(_) => news.lost = Some(told),
            Told::Complete { .. } => (news.complete, news.lost) = (Some(told), None),
        }
        self.0.told.notify_one();
    }
}

impl Ear<Record> for Teller {
    /// Of changes in a list that nobody takes, the next one has the first as well.
    fn heard(&self, at: Instant) {
        self.0.news().heard.get_or_insert(at);
    }

    fn complete(&self, nodes: Vec<Arc<Record>>, anew: bool) {
        self.tell(Told::Complete { nodes, anew, common: None });
    }

    fn lost(&self, words: String) {
        self.tell(Told::Lost(words));
    }

    async fn asked(&self) {
        self.0.asked.notified().await;
    }
}

impl Source for Listener {
    fn next(&mut self, deadline: Instant) -> Option<Told> {
        let mut news = self.shared.news();
        loop {
            if let Some(told) = news.complete.take() {
                self.heard = news.heard.take();
                return Some(told);
            }
            if let Some(told) = mem::take(&mut news.lost) {
                return Some(told);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.told.wait_timeout(news, left);
            (news, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ask_anew(&mut self) {
        self.shared.asked.notify_one();
    }

    fn heard(&mut self) -> Option<Instant> {
        self.heard.take()
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn list(anew: bool) -> Told {
        Told::Complete { nodes: Vec::new(), anew, common: None }
    }

    #[test]
    fn the_newest_list_is_told_and_a_loss_before_it_is_over() {
        let (teller, mut listener) = source();
        let lost = || Told::Lost("away".to_owned());
        let now = Instant::now();
        assert_eq!(listener.next(now), None);
        teller.tell(lost());
        teller.tell(list(true));
        teller.tell(list(false));
        assert_eq!(
            listener.next(now),
            Some(list(true)),
            "the one that was asked for is part of it"
        );
        assert_eq!(listener.next(now), None);
        teller.tell(list(true));
        teller.tell(lost());
        assert_eq!((listener.next(now), listener.next(now)), (Some(list(true)), Some(lost())));
    }

    #[test]
    fn a_change_in_a_list_that_nobody_took_counts_from_when_it_was_heard() {
        let (teller, mut listener) = source();
        let now = Instant::now();
        for heard in [now, now + Duration::from_secs(1)] {
            Ear::heard(&teller, heard);
            teller.tell(list(false));
        }
        assert_eq!(listener.next(now), Some(list(false)));
        assert_eq!((listener.heard(), listener.heard()), (Some(now), None), "once");
        teller.tell(list(false));
        assert_eq!(listener.next(now), Some(list(false)));
        assert_eq!(listener.heard(), None);
    }

    #[test]
    fn who_waits_is_woken() {
        let (teller, mut listener) = source();
        let waiting =
            thread::spawn(move || listener.next(Instant::now() + Duration::from_secs(60)));
        teller.tell(list(false));
        assert_eq!(waiting.join().unwrap(), Some(list(false)));
    }
}
