// SPDX-License-Identifier: Apache-2.0
//! Objects of one kind, listed and watched.
//!
//! They come as a stream of all that are there and of what changes afterwards, where the
//! server can do that (WatchList), else as pages and a watch. Nothing is told before a
//! list is whole, and one that breaks off leaves what was told before. A watch that ends
//! is taken up where it ended; where something of it may have been lost, or its place is
//! too old (410), all is listed anew.
//!
//! The client is kube's. Its watcher is not used: it goes on after a line that it could
//! not read, asks for ever for a place that is answered by HTTP 410, and a list that no
//! cache serves cannot be asked of it in the middle of a watch.

mod answer;
mod request;

use std::{
    collections::BTreeMap, convert::Infallible, fmt::Debug, mem, pin::pin, sync::Arc,
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    future::{Either, select},
};
use kube::{Client, core::WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use request::{Ask, End, refused};

use super::{
    backoff::{Backoff, part_of},
    connect::{Access, UNANSWERED},
    metrics::Api,
};
use crate::list::Gather;

pub(crate) use crate::fabric::nodes::object::Metadata;

/// What is asked for, and what is kept of it.
pub(crate) trait Kind {
    /// As the API server sends it.
    type Object: Clone + Debug + DeserializeOwned + Sent;
    /// What counts of it: where that is the same, nothing has changed.
    type Value: Debug + PartialEq;
    /// As a message has it.
    const NAME: &'static str;
    /// As a role has it.
    const RESOURCE: &'static str;

    fn value(object: Self::Object) -> Self::Value;
}

/// An object that the API server sends.
pub(crate) trait Sent {
    /// What it is known by among all of its kind.
    fn key(&self) -> Box<str>;
    /// As of which version of the store it is so.
    fn version(&self) -> &str;
}

/// Who is told of all objects.
pub(crate) trait Ear<V> {
    /// They are these. `anew` tells that they were asked for ([`Self::asked`]) and not
    /// served from a cache.
    fn complete(&self, all: Vec<Arc<V>>, anew: bool);

    /// The first change of what is told next was heard at this time.
    fn heard(&self, _at: std::time::Instant) {}

    /// The server knows no such objects.
    fn absent(&self) {}

    /// They cannot be asked for, for this reason.
    fn lost(&self, words: String);

    /// Waits until somebody wants them anew.
    fn asked(&self) -> impl Future<Output = ()>;
}

type Map<V> = BTreeMap<Box<str>, Arc<V>>;

/// How long and how much.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// A server that has nothing to say sends a bookmark every minute.
    pub(crate) silence: Duration,
    /// Nothing at all is acknowledged, which is noticed by the kernel.
    pub(crate) unanswered: Duration,
    /// Between two of the initial events.
    pub(crate) initial: Duration,
    /// Changes that follow each other are told together.
    pub(crate) settle: Duration,
    /// A connection that lasts no longer was none.
    pub(crate) sound: Duration,
    /// Before the first list: many agents may be started at once.
    pub(crate) spread: Duration,
    pub(crate) retry: Duration,
    pub(crate) retry_max: Duration,
    /// Objects in a page.
    pub(crate) page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(90),
            unanswered: UNANSWERED,
            initial: Duration::from_secs(30),
            settle: Duration::from_millis(50),
            sound: Duration::from_secs(5),
            spread: Duration::ZERO,
            retry: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            page: 100,
        }
    }
}

/// What is known of the objects at one path.
pub(crate) struct Watched<K: Kind, E> {
    access: Access,
    limits: Limits,
    ear: E,
    backoff: Backoff,
    ask: Ask,
    known: Map<K::Value>,
    /// Up to where, if it is known.
    version: Option<String>,
    /// Whether the server is to send a list as a stream.
    streams: bool,
    /// The next list is not to be served from a cache.
    anew: bool,
    /// No list is.
    consistent: bool,
    /// What was told last is that the server cannot be asked.
    lost: bool,
    api: Api,
}

impl<K: Kind, E: Ear<K::Value> + Clone> Watched<K, E> {
    pub(crate) fn new(access: Access, limits: Limits, path: String, ear: E) -> Self {
        let backoff = Backoff::new(limits.retry, limits.retry_max);
        let ask = Ask { path, name: K::NAME, resource: K::RESOURCE };
        let (known, version) = (Map::new(), None);
        let (streams, anew, consistent, lost) = (true, false, false, false);
        let api = Api::default();
        Self {
            access,
            limits,
            ear,
            backoff,
            ask,
            known,
            version,
            streams,
            anew,
            consistent,
            lost,
            api,
        }
    }

    /// Counts what is asked there.
    pub(crate) fn counted(self, api: Api) -> Self {
        Self { api, ..self }
    }

    /// A list has all that was written before it was asked for: what a cache served could be
    /// of before what was told already.
    pub(crate) fn consistent(self) -> Self {
        Self { consistent: true, ..self }
    }

    /// Tells of them, and comes to no end.
    pub(crate) async fn run(mut self) -> Infallible {
        sleep(part_of(self.limits.spread)).await;
        loop {
            match self.access.client(self.limits.unanswered).await {
                Ok(client) => while self.watch(&client).await {},
                Err(words) => self.failed(words, Duration::ZERO).await,
            }
        }
    }

    /// One watch, and what its end means. False where tokens and certificates are to be
    /// read again.
    async fn watch(&mut self, client: &Client) -> bool {
        let begin = Instant::now();
        let end = self.follow(client).await;
        if begin.elapsed() >= self.limits.sound {
            self.backoff.reset();
        }
        log::debug!("watch of {}: {end:?}", K::NAME);
        self.api.restarted(end.reason());
        match end {
            End::Closed if begin.elapsed() >= self.limits.sound => {}
            End::Closed => {
                self.failed("the API server ends each watch at once".to_owned(), Duration::ZERO)
                    .await;
            }
            End::Asked => {
                self.version = None;
                self.anew = true;
                sleep(self.backoff.failed(Duration::ZERO)).await;
            }
            End::NoStream(words) => {
                let wait = self.backoff.failed(Duration::ZERO);
                self.in_pages(&words, wait).await;
            }
            // A server that is slow has many agents, which turn to it together.
            End::Unended(words) => self.in_pages(&words, part_of(self.limits.retry_max)).await,
            End::Expired(words) => {
                log::info!("{words}; {} are listed anew", K::NAME);
                self.version = None;
                sleep(self.backoff.failed(Duration::ZERO)).await;
            }
            End::Unsure(words) => {
                self.version = None;
                self.failed(words, Duration::ZERO).await;
            }
            End::Absent(words) => {
                self.ear.absent();
                self.version = None;
                self.failed(words, Duration::ZERO).await;
            }
            End::Failed { words, wait } => self.failed(words, wait).await,
            End::Unknown(words) | End::Broken(words) => {
                self.failed(words, Duration::ZERO).await;
                return false;
            }
        }
        true
    }

    /// The next list is asked for in pages, and the one after it as a stream again.
    async fn in_pages(&mut self, words: &str, wait: Duration) {
        log::info!("{words}; {} are listed in pages", K::NAME);
        self.version = None;
        self.streams = false;
        sleep(wait).await;
    }

    async fn failed(&mut self, words: String, wait: Duration) {
        self.lost = true;
        self.ear.lost(words);
        sleep(self.backoff.failed(wait)).await;
    }

    async fn follow(&mut self, client: &Client) -> End {
        if self.version.is_none()
            && !self.streams
            && let Err(end) = self.list(client).await
        {
            return end;
        }
        let initial = self.version.is_none();
        let version = match &self.version {
            Some(version) => version,
            None if self.anew || self.consistent => "",
            None => "0",
        };
        let watch = self.ask.watch::<K::Object>(client, version, initial);
        let answer = timeout(self.limits.silence, watch).await;
        self.api.answered("watch", &answer);
        match answer {
            Ok(Ok(stream)) => self.hear(stream, initial).await,
            Ok(Err(error)) => refused(&error, initial, &self.ask),
            Err(_) => End::silent(),
        }
    }

    /// Lists in pages.
    async fn list(&mut self, client: &Client) -> Result<(), End> {
        let (mut listed, mut token) = (Map::new(), None);
        loop {
            let page = self.ask.page::<K::Object>(client, self.limits.page, token);
            let answer = timeout(self.limits.silence, page).await;
            self.api.answered("list", &answer);
            let page = answer.map_err(|_| End::silent())?;
            let page = page.map_err(|error| refused(&error, false, &self.ask))?;
            token = page.more().map(str::to_owned);
            let version = page.version().to_owned();
            for object in page.items.into_iter().flatten() {
                self.keep(&mut listed, object);
            }
            if token.is_none() {
                self.listed(listed, version)?;
                self.streams = true;
                return Ok(());
            }
        }
    }

    /// Hears what a watch tells.
    async fn hear(
        &mut self,
        stream: impl Stream<Item = Result<WatchEvent<K::Object>, kube::Error>>,
        initial: bool,
    ) -> End {
        let mut stream = pin!(stream);
        let ear = self.ear.clone();
        let mut asked = pin!(ear.asked());
        let mut listing = initial.then(Map::new);
        if self.lost && !initial {
            self.tell(false);
        }
        let mut heard = Instant::now();
        // The first change that is not told yet.
        let mut since: Option<Instant> = None;
        loop {
            let due = since.map(|since| since + self.limits.settle);
            let limit = if listing.is_some() { self.limits.initial } else { self.limits.silence };
            let deadline = due.unwrap_or(heard + limit).min(heard + limit);
            let next = timeout_at(deadline, select(stream.next(), asked.as_mut())).await;
            let event = match next {
                Ok(Either::Left((event, _))) => event,
                Err(_) if due.is_some_and(|due| due <= Instant::now()) => {
                    self.tell_changes(since.take());
                    continue;
                }
                other => {
                    self.tell_changes(since);
                    return match other {
                        Ok(_) => End::Asked,
                        Err(_) if listing.is_some() => End::no_end(&self.ask),
                        Err(_) => End::silent(),
                    };
                }
            };
            heard = Instant::now();
            let outcome = match event {
                Some(Ok(event)) => self.take(event, &mut listing),
                None if listing.is_some() => Err(End::broken_off(&self.ask)),
                None => Err(End::Closed),
                Some(Err(error)) => Err(request::broken(&error, listing.is_some(), &self.ask)),
            };
            match outcome {
                Ok(changed) => {
                    since = since.or(changed.then_some(heard));
                    if listing.is_none() {
                        self.api.synced();
                    }
                }
                Err(end) => {
                    self.tell_changes(since);
                    return end;
                }
            }
        }
    }

    /// Takes an event; true if something that counts has changed.
    fn take(
        &mut self,
        event: WatchEvent<K::Object>,
        listing: &mut Option<Map<K::Value>>,
    ) -> Result<bool, End> {
        match (event, listing) {
            (WatchEvent::Added(object) | WatchEvent::Modified(object), Some(listed)) => {
                self.keep(listed, object);
                Ok(false)
            }
            (WatchEvent::Deleted(object), Some(listed)) => {
                listed.remove(&object.key());
                Ok(false)
            }
            (WatchEvent::Added(object) | WatchEvent::Modified(object), None) => {
                self.advance(object.version())?;
                Ok(self.change(object))
            }
            (WatchEvent::Deleted(object), None) => {
                self.advance(object.version())?;
                Ok(self.known.remove(&object.key()).is_some())
            }
            (WatchEvent::Bookmark(bookmark), listing) => {
                let version = bookmark.metadata.resource_version.clone();
                match listing.take_if(|_| answer::is_end(&bookmark.metadata)) {
                    Some(listed) => self.listed(listed, version)?,
                    None if listing.is_none() => self.advance(&version)?,
                    None => {}
                }
                Ok(false)
            }
            (WatchEvent::Error(failure), listing) => {
                Err(request::told(&failure, listing.is_some(), &self.ask))
            }
        }
    }

    fn advance(&mut self, version: &str) -> Result<(), End> {
        if version.is_empty() {
            return Err(End::Unsure(format!("the API server sends {} without a version", K::NAME)));
        }
        self.version = Some(version.to_owned());
        Ok(())
    }

    /// A list is whole.
    fn listed(&mut self, listed: Map<K::Value>, version: String) -> Result<(), End> {
        self.advance(&version)?;
        self.known = listed;
        self.api.synced();
        let anew = mem::take(&mut self.anew) || !self.streams;
        self.tell(anew);
        Ok(())
    }

    /// Puts an object into a list. What is known already is not there twice.
    fn keep(&self, listed: &mut Map<K::Value>, object: K::Object) {
        let name = object.key();
        let value = K::value(object);
        let known = self.known.get(&name).filter(|known| ***known == value);
        let value = known.cloned().unwrap_or_else(|| Arc::new(value));
        listed.insert(name, value);
    }

    /// Takes what an object is by now; true if something that counts has changed.
    fn change(&mut self, object: K::Object) -> bool {
        let name = object.key();
        let value = K::value(object);
        if self.known.get(&name).is_some_and(|known| **known == value) {
            return false;
        }
        self.known.insert(name, Arc::new(value));
        true
    }

    fn tell(&mut self, anew: bool) {
        self.lost = false;
        self.ear.complete(self.known.values().cloned().gather(), anew);
    }

    /// Tells of changes, of which the first was heard then; what may have followed is part
    /// of them.
    fn tell_changes(&mut self, since: Option<Instant>) {
        if let Some(since) = since {
            self.ear.heard(since.into_std());
            self.tell(false);
        }
    }
}

#[cfg(test)]
mod tests;
