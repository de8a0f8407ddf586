// SPDX-License-Identifier: Apache-2.0
//! What is known of namespaces, pods and policies, for whoever waits in another thread: of
//! each the newest list, so that one who is busy finds one of each and no queue.

use std::{
    future::pending,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    super::watched::Ear,
    objects::{Given, Namespace},
};
use crate::{node::watch::Bell, policy::Pod};

/// The three lists, as far as they were told.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) namespaces: Option<Vec<Arc<Namespace>>>,
    pub(crate) pods: Option<Vec<Arc<Pod>>>,
    pub(crate) policies: Option<Vec<Arc<Given>>>,
    /// When the first change was heard that nobody has taken.
    pub(crate) heard: Option<Instant>,
    /// Why each of them cannot be asked for, if so.
    pub(crate) lost: [Option<String>; 3],
}

/// Where the lists are put.
#[derive(Debug)]
pub(crate) struct Board {
    news: Mutex<News>,
    bell: Bell,
}

/// Who hears of one of them.
pub(crate) struct Part<V> {
    board: Arc<Board>,
    place: usize,
    put: fn(&mut News, Vec<Arc<V>>),
}

impl<V> Clone for Part<V> {
    fn clone(&self) -> Self {
        Self { board: Arc::clone(&self.board), place: self.place, put: self.put }
    }
}

impl Board {
    /// # Errors
    /// Where there are too many files.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { news: Mutex::default(), bell: Bell::new()? })
    }

    /// Rung when there is something new.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// What is new; what is lost stays there.
    pub(super) fn take(&self) -> News {
        let mut news = self.news();
        let lost = news.lost.clone();
        mem::replace(&mut *news, News { lost, ..News::default() })
    }

    /// No thread goes on after a panic.
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part<Namespace> {
    pub(super) fn namespaces(board: &Arc<Board>) -> Self {
        let put = |news: &mut News, all| news.namespaces = Some(all);
        Self { board: Arc::clone(board), place: 0, put }
    }
}

impl Part<Pod> {
    pub(super) fn pods(board: &Arc<Board>) -> Self {
        let put = |news: &mut News, all| news.pods = Some(all);
        Self { board: Arc::clone(board), place: 1, put }
    }
}

impl Part<Given> {
    pub(super) fn policies(board: &Arc<Board>) -> Self {
        let put = |news: &mut News, all| news.policies = Some(all);
        Self { board: Arc::clone(board), place: 2, put }
    }
}

impl<V> Part<V> {
    fn lose(&self, words: Option<String>) {
        if let Some(lost) = self.board.news().lost.get_mut(self.place) {
            *lost = words;
        }
        self.board.bell.ring();
    }
}

impl<V> Ear<V> for Part<V> {
    fn complete(&self, all: Vec<Arc<V>>, _anew: bool) {
        (self.put)(&mut self.board.news(), all);
        self.lose(None);
    }

    fn heard(&self, at: Instant) {
        self.board.news().heard.get_or_insert(at);
    }

    fn lost(&self, words: String) {
        self.lose(Some(words));
    }

    async fn asked(&self) {
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_list_is_taken_once() {
        let board = Arc::new(Board::new().unwrap());
        let (pods, policies) = (Part::pods(&board), Part::policies(&board));
        let first = Instant::now();
        pods.heard(first);
        pods.complete(vec![Arc::default()], false);
        policies.lost("403".to_owned());
        pods.heard(Instant::now());
        pods.complete(Vec::new(), false);
        assert!(board.bell().is_rung());
        let news = board.take();
        assert_eq!((news.pods.map(|all| all.len()), news.heard), (Some(0), Some(first)));
        assert_eq!(news.lost, [None, None, Some("403".to_owned())]);
        let news = board.take();
        assert!(news.pods.is_none() && news.heard.is_none() && news.lost[2].is_some());
        policies.complete(Vec::new(), false);
        let news = board.take();
        assert!(news.policies.is_some() && news.lost == [None, None, None]);
    }
}
