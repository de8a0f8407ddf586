//! The cluster's Nodes, listed and watched.
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

mod object;
mod request;

use std::{collections::BTreeMap, convert::Infallible, mem, pin::pin, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    future::{Either, select},
};
use kube::{Client, core::WatchEvent};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use object::Object;
use request::{End, refused};

use super::{
    backoff::{Backoff, part_of},
    connect::Access,
    record::Record,
    source::{Teller, Told},
};

type Map = BTreeMap<Box<str>, Arc<Record>>;

/// How long and how much.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// A server that has nothing to say sends a bookmark every minute.
    pub(crate) silence: Duration,
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
    /// Nodes in a page.
    pub(crate) page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(90),
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

/// What is known of the cluster's Nodes.
pub(crate) struct Nodes {
    access: Access,
    limits: Limits,
    teller: Teller,
    backoff: Backoff,
    known: Map,
    /// Up to where, if it is known.
    version: Option<String>,
    /// Whether the server is to send a list as a stream.
    streams: bool,
    /// The next list is not to be served from a cache.
    anew: bool,
    /// What was told last is that the server cannot be asked.
    lost: bool,
}

impl Nodes {
    pub(crate) fn new(access: Access, limits: Limits, teller: Teller) -> Self {
        let backoff = Backoff::new(limits.retry, limits.retry_max);
        let (known, version) = (Map::new(), None);
        Self {
            access,
            limits,
            teller,
            backoff,
            known,
            version,
            streams: true,
            anew: false,
            lost: false,
        }
    }

    /// Tells of the Nodes, and comes to no end.
    pub(crate) async fn run(mut self) -> Infallible {
        sleep(part_of(self.limits.spread)).await;
        loop {
            match self.access.client(self.limits.silence).await {
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
        log::debug!("watch of Nodes: {end:?}");
        match end {
            End::Closed if begin.elapsed() >= self.limits.sound => {}
            End::Closed => {
                self.failed("the API server ends each watch at once".to_owned(), Duration::ZERO)
                    .await;
            }
            End::Asked => {
                self.version = None;
                self.anew = true;
            }
            End::NoStream(words) => {
                log::info!("{words}; Nodes are listed in pages");
                self.version = None;
                self.streams = false;
            }
            End::Expired(words) => {
                log::info!("{words}; Nodes are listed anew");
                self.version = None;
                sleep(self.backoff.failed(Duration::ZERO)).await;
            }
            End::Unsure(words) => {
                self.version = None;
                self.failed(words, Duration::ZERO).await;
            }
            End::Failed { words, wait } => self.failed(words, wait).await,
            End::Unknown(words) => {
                self.failed(words, Duration::ZERO).await;
                return false;
            }
        }
        true
    }

    async fn failed(&mut self, words: String, wait: Duration) {
        self.lost = true;
        self.teller.tell(Told::Lost(words));
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
            None if self.anew => "",
            None => "0",
        };
        let watch = request::watch(client, version, initial);
        match timeout(self.limits.silence, watch).await {
            Ok(Ok(stream)) => self.hear(stream, initial).await,
            Ok(Err(error)) => refused(&error, initial),
            Err(_) => End::silent(),
        }
    }

    /// Lists in pages.
    async fn list(&mut self, client: &Client) -> Result<(), End> {
        let (mut listed, mut token) = (Map::new(), None);
        loop {
            let page = request::page(client, self.limits.page, token);
            let page = timeout(self.limits.silence, page).await.map_err(|_| End::silent())?;
            let page = page.map_err(|error| refused(&error, false))?;
            token = page.more().map(str::to_owned);
            let version = page.version().to_owned();
            for object in page.items.into_iter().flatten() {
                self.keep(&mut listed, object);
            }
            if token.is_none() {
                return self.listed(listed, version);
            }
        }
    }

    /// Hears what a watch tells.
    async fn hear(
        &mut self,
        stream: impl Stream<Item = Result<WatchEvent<Object>, kube::Error>>,
        initial: bool,
    ) -> End {
        let mut stream = pin!(stream);
        let teller = self.teller.clone();
        let mut asked = pin!(teller.asked());
        let mut listing = initial.then(Map::new);
        if self.lost && !initial {
            self.tell(false);
        }
        let mut heard = Instant::now();
        // When to tell of changes.
        let mut due: Option<Instant> = None;
        loop {
            let limit = if listing.is_some() { self.limits.initial } else { self.limits.silence };
            let deadline = due.unwrap_or(heard + limit).min(heard + limit);
            let next = timeout_at(deadline, select(stream.next(), asked.as_mut())).await;
            let event = match next {
                Ok(Either::Left((event, _))) => event,
                Err(_) if due.is_some_and(|due| due <= Instant::now()) => {
                    due = None;
                    self.tell(false);
                    continue;
                }
                other => {
                    self.tell_rest(due);
                    return match other {
                        Ok(_) => End::Asked,
                        Err(_) if listing.is_some() => End::no_end(),
                        Err(_) => End::silent(),
                    };
                }
            };
            heard = Instant::now();
            let outcome = match event {
                Some(Ok(event)) => self.take(event, &mut listing),
                None if listing.is_some() => Err(End::broken_off()),
                None => Err(End::Closed),
                Some(Err(error)) => Err(request::broken(&error, listing.is_some())),
            };
            match outcome {
                Ok(true) => due = due.or(Some(heard + self.limits.settle)),
                Ok(false) => {}
                Err(end) => {
                    self.tell_rest(due);
                    return end;
                }
            }
        }
    }

    /// Takes an event; true if something that counts has changed.
    fn take(&mut self, event: WatchEvent<Object>, listing: &mut Option<Map>) -> Result<bool, End> {
        match (event, listing) {
            (WatchEvent::Added(object) | WatchEvent::Modified(object), Some(listed)) => {
                self.keep(listed, object);
                Ok(false)
            }
            (WatchEvent::Deleted(object), Some(listed)) => {
                listed.remove(object.name());
                Ok(false)
            }
            (WatchEvent::Added(object) | WatchEvent::Modified(object), None) => {
                self.advance(object.version())?;
                Ok(self.change(object))
            }
            (WatchEvent::Deleted(object), None) => {
                self.advance(object.version())?;
                Ok(self.known.remove(object.name()).is_some())
            }
            (WatchEvent::Bookmark(bookmark), listing) => {
                let version = bookmark.metadata.resource_version.clone();
                match listing.take_if(|_| object::is_end(&bookmark.metadata)) {
                    Some(listed) => self.listed(listed, version)?,
                    None if listing.is_none() => self.advance(&version)?,
                    None => {}
                }
                Ok(false)
            }
            (WatchEvent::Error(failure), listing) => {
                Err(request::told(&failure, listing.is_some()))
            }
        }
    }

    fn advance(&mut self, version: &str) -> Result<(), End> {
        if version.is_empty() {
            return Err(End::Unsure("the API server sends a Node without its version".to_owned()));
        }
        self.version = Some(version.to_owned());
        Ok(())
    }

    /// A list is whole.
    fn listed(&mut self, listed: Map, version: String) -> Result<(), End> {
        self.advance(&version)?;
        self.known = listed;
        let anew = mem::take(&mut self.anew) || !self.streams;
        self.tell(anew);
        Ok(())
    }

    /// Puts a Node into a list. What is known already is not there twice.
    fn keep(&self, listed: &mut Map, object: Object) {
        let record = object.into_record();
        let known = self.known.get(&record.name).filter(|known| ***known == record);
        let record = known.cloned().unwrap_or_else(|| Arc::new(record));
        listed.insert(record.name.clone(), record);
    }

    /// Takes what a Node is by now; true if something that counts has changed.
    fn change(&mut self, object: Object) -> bool {
        let record = object.into_record();
        if self.known.get(&record.name).is_some_and(|known| **known == record) {
            return false;
        }
        self.known.insert(record.name.clone(), Arc::new(record));
        true
    }

    fn tell(&mut self, anew: bool) {
        self.lost = false;
        let nodes = self.known.values().cloned().collect();
        self.teller.tell(Told::Complete { nodes, anew });
    }

    /// What was to be told together with what may follow.
    fn tell_rest(&mut self, due: Option<Instant>) {
        if due.is_some() {
            self.tell(false);
        }
    }
}

#[cfg(test)]
mod tests;
