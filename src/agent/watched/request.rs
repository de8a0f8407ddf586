// SPDX-License-Identifier: Apache-2.0
//! What is asked of the API server, and what its refusals mean.

use std::time::Duration;

use futures::Stream;
use kube::{
    Client, Error,
    api::{ListParams, WatchParams},
    core::{Request, Status, WatchEvent},
};

use serde::de::DeserializeOwned;

use super::answer::{Page, words};
use crate::agent::{
    backoff::part_of,
    connect::{SILENT, chain},
};

/// A watch ends after this and up to a fifth more, so that those of many agents do not end
/// together, and one that is begun anew may reach another server.
const WATCH: Duration = Duration::from_secs(240);

/// Where objects are, and what they are called.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) path: String,
    pub(super) name: &'static str,
    pub(super) resource: &'static str,
}

/// Why there is no more to hear.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The server ended the watch: go on where it ended.
    Closed,
    /// Somebody asked for a list that no cache serves.
    Asked,
    /// This server sends no list as a stream.
    NoStream(String),
    /// It sent one without an end, or is slow.
    Unended(String),
    /// Where the watch was is too old.
    Expired(String),
    /// The server knows no such objects.
    Absent(String),
    /// Something may have been lost.
    Unsure(String),
    /// Nothing is lost: try again, after a time that the server may have named.
    Failed { words: String, wait: Duration },
    /// No connection, or an end of it: the server may be elsewhere by now, and may have
    /// other certificates.
    Broken(String),
    /// The server does not know who asks.
    Unknown(String),
}

impl End {
    fn failed(words: impl Into<String>) -> Self {
        Self::Failed { words: words.into(), wait: Duration::ZERO }
    }

    pub(super) fn silent() -> Self {
        Self::failed(SILENT)
    }

    /// The list as a stream came to no end.
    pub(super) fn no_end(ask: &Ask) -> Self {
        let name = ask.name;
        Self::Unended(format!("the API server does not say where the list of {name} ends"))
    }

    pub(super) fn broken_off(ask: &Ask) -> Self {
        Self::failed(format!("the list of {} broke off", ask.name))
    }

    /// As it is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Asked => "asked",
            Self::Expired(_) => "expired",
            silent if *silent == Self::silent() => "idle",
            Self::NoStream(_)
            | Self::Unended(_)
            | Self::Absent(_)
            | Self::Unsure(_)
            | Self::Failed { .. }
            | Self::Broken(_)
            | Self::Unknown(_) => "error",
        }
    }
}

impl Ask {
    /// Watches from `version` on, with all that is there before if `initial`.
    pub(super) async fn watch<O: Clone + DeserializeOwned>(
        &self,
        client: &Client,
        version: &str,
        initial: bool,
    ) -> Result<impl Stream<Item = Result<WatchEvent<O>, Error>> + use<O>, Error> {
        let request = Request::new(&self.path).watch(&watch_params(initial), version);
        client.request_events(request.map_err(Error::BuildRequest)?).await
    }

    /// Asks for a page of a list, of which `token` begins the rest. It is not served from a
    /// cache, which would send all at once.
    pub(super) async fn page<O: DeserializeOwned>(
        &self,
        client: &Client,
        objects: u32,
        token: Option<String>,
    ) -> Result<Page<O>, Error> {
        let request = Request::new(&self.path).list(&page_params(objects, token));
        client.request(request.map_err(Error::BuildRequest)?).await
    }
}

fn watch_params(initial: bool) -> WatchParams {
    let seconds = (WATCH + part_of(WATCH / 5)).as_secs();
    WatchParams {
        timeout: u32::try_from(seconds).ok(),
        send_initial_events: initial,
        ..WatchParams::default()
    }
}

fn page_params(objects: u32, token: Option<String>) -> ListParams {
    ListParams { limit: Some(objects), continue_token: token, ..ListParams::default() }
}

/// What it means that a request was refused, which was to begin a list as a stream if
/// `initial`.
pub(super) fn refused(error: &Error, initial: bool, ask: &Ask) -> End {
    match error {
        Error::Api(status) => told(status, initial, ask),
        other => End::Broken(chain(other)),
    }
}

/// What it means that a stream of events broke.
pub(super) fn broken(error: &Error, initial: bool, ask: &Ask) -> End {
    match error {
        Error::Api(status) => told(status, initial, ask),
        Error::SerdeError(error) => {
            End::Unsure(format!("the API server sends what is no event: {error}"))
        }
        other => End::Broken(chain(other)),
    }
}

/// What it means that the server tells of a failure.
pub(super) fn told(status: &Status, initial: bool, ask: &Ask) -> End {
    let words = words(status);
    match status.code {
        401 => End::Unknown(words),
        403 => End::failed(format!(
            "{words}; the agent's role has to allow it to list and to watch {}",
            ask.resource
        )),
        404 => End::Absent(words),
        410 => End::Expired(words),
        429 | 503 | 504 => {
            let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            End::Failed { words, wait: Duration::from_secs(wait.into()) }
        }
        // One that has no such parameter, or whose store cannot do it.
        400 | 422 if initial => End::NoStream(words),
        _ if initial && names_streams(&words) => End::NoStream(words),
        // One that is ill, or what stands before it: pages would be more work for it.
        500.. if initial => End::failed(words),
        _ => End::Unsure(words),
    }
}

/// Whether that is said of lists as streams.
fn names_streams(words: &str) -> bool {
    ["sendInitialEvents", "WatchList", "WatchProgress"].iter().any(|name| words.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "/api/v1/nodes";

    fn ask() -> Ask {
        Ask { path: NODES.to_owned(), name: "Nodes", resource: "nodes" }
    }

    #[test]
    fn a_list_is_asked_for_as_a_stream_or_in_pages() {
        let watch = |version, initial| {
            Request::new(NODES).watch(&watch_params(initial), version).unwrap().uri().to_string()
        };
        let page = |token: Option<&str>| {
            let params = page_params(100, token.map(str::to_owned));
            Request::new(NODES).list(&params).unwrap().uri().to_string()
        };
        let stream = watch("0", true);
        for part in [
            "watch=true",
            "sendInitialEvents=true",
            "resourceVersion=0",
            "allowWatchBookmarks=true",
            "resourceVersionMatch=NotOlderThan",
        ] {
            assert!(stream.contains(part), "{part}: {stream}");
        }
        assert!(!watch("17", false).contains("sendInitialEvents"));
        assert_eq!(page(None), "/api/v1/nodes?&limit=100");
        assert_eq!(page(Some("x=y")), "/api/v1/nodes?&limit=100&continue=x%3Dy");
    }

    #[test]
    fn a_watch_ends_after_four_to_five_minutes() {
        for _ in 0..50 {
            let seconds = watch_params(false).timeout.unwrap();
            assert!((240..=288).contains(&seconds), "{seconds}");
        }
    }

    #[test]
    fn ends_are_counted_by_a_word() {
        for (end, reason) in [
            (End::Closed, "closed"),
            (End::Expired("410".to_owned()), "expired"),
            (End::silent(), "idle"),
            (End::failed("connection refused"), "error"),
        ] {
            assert_eq!(end.reason(), reason);
        }
    }

    #[test]
    fn what_a_refusal_means() {
        let status = |code: u16, message: &str| Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        };
        let meant = |code, initial| told(&status(code, "said"), initial, &ask());
        let words = |code: u16| format!("the API server answers {code}: said");
        assert_eq!(meant(401, true), End::Unknown(words(401)));
        assert_eq!(meant(410, true), End::Expired(words(410)));
        assert_eq!(meant(429, true), End::failed(words(429)));
        for code in [400, 422] {
            assert_eq!(meant(code, true), End::NoStream(words(code)));
            assert_eq!(meant(code, false), End::Unsure(words(code)));
        }
        // An API server that is ill is not asked for more than before.
        for code in [500, 502, 507] {
            assert_eq!(meant(code, true), End::failed(words(code)));
        }
        assert_eq!(meant(404, true), End::Absent(words(404)));
        let told = told(&status(500, "sendInitialEvents is forbidden"), true, &ask());
        assert!(matches!(told, End::NoStream(_)), "{told:?}");
        let End::Failed { words, .. } = meant(403, true) else { panic!() };
        assert!(words.contains("list and to watch nodes"), "{words}");
    }
}
