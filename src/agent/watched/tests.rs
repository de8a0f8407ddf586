// SPDX-License-Identifier: Apache-2.0
//! What is made of the answers of an API server, sound ones and others.

mod cut;

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
        mpsc::channel,
    },
    thread,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    agent::{
        nodes::{Nodes, PATH},
        server::{Answer, Ending, Server, failure},
        source::{Listener, Source, Teller, Told, source},
    },
    net::{Socket, link},
};

/// What only a failing test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

fn node(name: &str, version: u32) -> Value {
    json!({"kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()}})
}

fn event(kind: &str, name: &str, version: u32) -> Value {
    json!({"type": kind, "object": node(name, version)})
}

fn added(name: &str) -> Value {
    event("ADDED", name, 1)
}

fn bookmark(version: u32, ends: bool) -> Value {
    let annotations = if ends { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
    json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "annotations": annotations}}})
}

fn error(code: u16, message: &str) -> Value {
    json!({"type": "ERROR", "object": failure(code, message)})
}

fn page(names: &[&str], more: &str) -> Value {
    let items: Vec<Value> = names.iter().map(|name| node(name, 1)).collect();
    json!({"kind": "NodeList", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": "10", "continue": more}})
}

/// A list as a stream, up to version 10.
fn list(names: &[&str], then: &[Value], ending: Ending) -> Answer {
    let events = names.iter().map(|name| added(name)).chain([bookmark(10, true)]);
    Answer::stream(&events.chain(then.iter().cloned()).collect::<Vec<_>>(), ending)
}

fn limits() -> Limits {
    let millis = Duration::from_millis;
    Limits {
        sound: Duration::ZERO,
        retry: millis(1),
        retry_max: millis(20),
        settle: millis(1),
        ..Limits::default()
    }
}

fn watched(access: Access, limits: Limits, teller: Teller) -> Watched<Nodes, Teller> {
    Watched::new(access, limits, PATH.to_owned(), teller)
}

/// Writes the way to a server.
fn kubeconfig(directory: &Path, url: &str) -> PathBuf {
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"tokenFile": directory.join("token")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let path = directory.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// Nodes that are watched in a thread.
struct Followed {
    server: Server,
    listener: Listener,
    directory: PathBuf,
    lost: Vec<String>,
}

impl Followed {
    fn new(limits: Limits, answers: impl FnOnce(&PathBuf) -> Vec<Answer>) -> Self {
        Self::of(limits, |directory| Server::start(answers(directory)))
    }

    fn of(limits: Limits, server: impl FnOnce(&PathBuf) -> Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("manx-nodes-{}-{count}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("token"), "first").unwrap();
        static LOOPBACK: Once = Once::new();
        LOOPBACK.call_once(|| drop(Socket::open().unwrap().apply(&[link::set_up("lo")])));
        let server = server(&directory);
        let path = kubeconfig(&directory, &server.url());
        let (teller, listener) = source();
        let nodes = watched(Access { kubeconfig: Some(path) }, limits, teller);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(nodes.run())
        });
        Self { server, listener, directory, lost: Vec::new() }
    }

    fn with(answers: Vec<Answer>) -> Self {
        Self::new(limits(), |_| answers)
    }

    /// The names of the next complete list; what was told before it is in `lost`.
    fn next(&mut self) -> Vec<String> {
        self.next_told().0
    }

    /// Waits for this list; those before it are given.
    fn until(&mut self, last: &[&str]) -> Vec<Vec<String>> {
        let mut told = vec![self.next()];
        while told.last().unwrap() != last {
            told.push(self.next());
        }
        told
    }

    fn next_told(&mut self) -> (Vec<String>, bool) {
        let deadline = std::time::Instant::now() + DEADLINE;
        loop {
            match self.listener.next(deadline).expect("nothing is told") {
                Told::Lost(words) => self.lost.push(words),
                Told::Complete { nodes, anew, .. } => {
                    let names = nodes.iter().map(|record| record.name.to_string());
                    return (names.collect(), anew);
                }
            }
        }
    }

    fn next_lost(&mut self) -> String {
        let deadline = std::time::Instant::now() + DEADLINE;
        loop {
            if let Told::Lost(words) = self.listener.next(deadline).expect("nothing is told") {
                return words;
            }
        }
    }

    /// Waits for so many requests, and gives what was asked in each.
    fn requests(&self, count: usize) -> Vec<String> {
        let deadline = std::time::Instant::now() + DEADLINE;
        while self.server.requests().len() < count {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.server.requests());
            thread::sleep(Duration::from_millis(2));
        }
        self.server.requests()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn is_stream(request: &str, version: &str) -> bool {
    request.contains("sendInitialEvents=true")
        && request.contains(&format!("resourceVersion={version} "))
}

fn is_watch(request: &str, version: &str) -> bool {
    request.contains("watch=true")
        && !request.contains("sendInitialEvents")
        && request.contains(&format!("resourceVersion={version} "))
}

#[test]
fn a_list_as_a_stream_is_told_when_it_ends_and_then_what_changes() {
    let changes = [
        event("MODIFIED", "a", 11),
        event("ADDED", "c", 12),
        bookmark(20, false),
        event("DELETED", "b", 21),
    ];
    let mut watched = Followed::with(vec![list(&["a", "b"], &changes, Ending::End)]);
    let told = watched.until(&["a", "c"]);
    let expected = [vec!["a", "b"], vec!["a", "b", "c"], vec!["a", "c"]];
    assert!(told.iter().all(|names| expected.iter().any(|one| one == names)), "{told:?}");
    let requests = watched.requests(2);
    assert!(is_stream(&requests[0], "0"), "{requests:?}");
    assert!(is_watch(&requests[1], "21"), "it goes on where it ended: {requests:?}");
    assert_eq!(watched.lost, Vec::<String>::new());
}

/// A kubelet's heartbeat changes nothing that counts.
#[test]
fn what_changes_nothing_is_not_told() {
    let beats: Vec<Value> = (11..40).map(|version| event("MODIFIED", "a", version)).collect();
    let then = [beats.as_slice(), &[event("ADDED", "z", 50)]].concat();
    let mut watched = Followed::with(vec![list(&["a"], &then, Ending::Silence)]);
    let told = watched.until(&["a", "z"]);
    assert!(told.len() <= 2, "{told:?}");
}

#[test]
fn a_bookmark_is_where_a_watch_goes_on() {
    let answers = vec![list(&["a"], &[bookmark(77, false)], Ending::End)];
    let watched = Followed::with(answers);
    assert!(is_watch(&watched.requests(2)[1], "77"));
}

#[test]
fn a_server_without_streams_is_asked_for_pages() {
    for refusal in [
        Answer::refusal(422, "sendInitialEvents is forbidden for watch"),
        Answer::stream(&[error(500, "RequestWatchProgress is disabled")], Ending::End),
        Answer::stream(&[added("a"), error(500, "RequestWatchProgress")], Ending::Silence),
    ] {
        let pages = [page(&["a", "b"], "next"), page(&["c"], "")];
        let mut answers = vec![refusal];
        answers.extend(pages.iter().map(Answer::json));
        let mut watched = Followed::with(answers);
        assert_eq!(watched.next_told(), (vec!["a".into(), "b".into(), "c".into()], true));
        let requests = watched.requests(4);
        assert!(requests[1].contains("limit=100 "), "{requests:?}");
        assert!(requests[2].contains("limit=100&continue=next "), "{requests:?}");
        assert!(is_watch(&requests[3], "10"), "{requests:?}");
    }
}

#[test]
fn a_stream_that_does_not_say_where_the_list_ends_is_given_up_for_pages() {
    let limits = Limits { initial: Duration::from_millis(50), ..limits() };
    let answers = |_: &PathBuf| {
        vec![Answer::stream(&[added("a")], Ending::Silence), Answer::json(&page(&["a", "b"], ""))]
    };
    let mut watched = Followed::new(limits, answers);
    assert_eq!(watched.next(), ["a", "b"]);
}

/// What is said once is not said for ever.
#[test]
fn a_list_after_one_in_pages_is_asked_for_as_a_stream() {
    let mut watched = Followed::with(vec![
        Answer::refusal(422, "sendInitialEvents is forbidden for watch"),
        Answer::json(&page(&["a"], "")),
        Answer::refusal(410, "too old"),
        list(&["b"], &[], Ending::Silence),
    ]);
    assert_eq!((watched.next(), watched.next()), (vec!["a".into()], vec!["b".into()]));
    assert!(is_stream(&watched.requests(4)[3], "0"), "{:?}", watched.requests(4));
}

/// Pages that no cache serves are the last that it needs.
#[test]
fn a_server_that_is_ill_is_not_asked_for_pages() {
    for code in [500, 502] {
        let whole = list(&["a"], &[], Ending::Silence);
        let mut watched = Followed::with(vec![Answer::refusal(code, "ill"), whole]);
        assert_eq!(watched.next(), ["a"], "{:?}", watched.lost);
        assert!(is_stream(&watched.requests(2)[1], "0"), "{:?}", watched.requests(2));
    }
}

#[test]
fn a_list_that_is_not_whole_is_none() {
    for broken in [
        Answer::stream(&[added("a"), error(410, "too old")], Ending::Silence),
        Answer::stream(&[added("a")], Ending::Cut),
        Answer::stream(&[added("a")], Ending::End),
        Answer::lines(vec![format!("{}\n", added("a")), "<html>\n".into()], Ending::Silence),
        Answer::refusal(503, "starting"),
        Answer::refusal(410, "too old"),
    ] {
        let whole = list(&["a", "b"], &[], Ending::Silence);
        let mut watched = Followed::with(vec![broken, whole]);
        assert_eq!(watched.next(), ["a", "b"], "{:?}", watched.lost);
        assert!(is_stream(&watched.requests(2)[1], "0"), "{:?}", watched.requests(2));
    }
}

#[test]
fn a_page_that_is_too_old_begins_the_list_anew() {
    let answers = vec![
        Answer::refusal(400, "unknown parameter"),
        Answer::json(&page(&["gone"], "next")),
        Answer::refusal(410, "the provided continue parameter is too old"),
        Answer::json(&page(&["a"], "next")),
        Answer::json(&page(&["b"], "")),
    ];
    assert_eq!(Followed::with(answers).next(), ["a", "b"]);
}

#[test]
fn a_watch_whose_place_is_too_old_is_followed_by_a_list() {
    for expired in [
        Answer::stream(&[error(410, "too old resource version")], Ending::Silence),
        Answer::refusal(410, "too old resource version"),
        Answer::lines(vec!["{\"type\":\"ADDED\",\"object\":7}\n".into()], Ending::Silence),
        Answer::stream(&[error(500, "etcd")], Ending::Silence),
    ] {
        let first = list(&["a", "b"], &[], Ending::End);
        let again = list(&["b", "c"], &[], Ending::Silence);
        let mut watched = Followed::with(vec![first, expired, again]);
        watched.until(&["b", "c"]);
        let requests = watched.requests(3);
        assert!(is_watch(&requests[1], "10") && is_stream(&requests[2], "0"), "{requests:?}");
    }
}

#[test]
fn a_watch_that_breaks_goes_on_where_it_was() {
    let begun = [event("ADDED", "c", 11)];
    let rest = Answer::stream(&[event("DELETED", "a", 12)], Ending::End);
    let mut watched = Followed::with(vec![list(&["a", "b"], &begun, Ending::Cut), rest]);
    watched.until(&["b", "c"]);
    assert!(is_watch(&watched.requests(2)[1], "11"), "{:?}", watched.requests(2));
}

/// A connection of which the other end is gone without a word.
#[test]
fn a_silent_server_is_asked_again() {
    let limits = Limits { silence: Duration::from_secs(1), ..limits() };
    let (go, wait) = channel();
    let answers = |_: &PathBuf| {
        let silent = Answer::stream(&[event("ADDED", "b", 11)], Ending::Silence);
        let rest = Answer::stream(&[event("DELETED", "a", 12)], Ending::End);
        vec![list(&["a"], &[], Ending::End), silent, rest.after(move || wait.recv().unwrap())]
    };
    let mut watched = Followed::new(limits, answers);
    assert!(watched.next_lost().contains("silent"));
    go.send(()).unwrap();
    watched.until(&["b"]);
    assert!(is_watch(&watched.requests(3)[2], "11"), "{:?}", watched.requests(3));
}

#[test]
fn tokens_are_read_again_when_one_is_refused() {
    let answers = |directory: &PathBuf| {
        let token = directory.join("token");
        let refusal = Answer::refusal(401, "Unauthorized");
        vec![
            refusal.after(move || fs::write(token, "second").unwrap()),
            list(&["a"], &[], Ending::Silence),
        ]
    };
    let mut watched = Followed::new(limits(), answers);
    assert_eq!(watched.next(), ["a"]);
    let requests = watched.requests(2);
    assert!(requests[0].ends_with(" first") && requests[1].ends_with(" second"), "{requests:?}");
}

/// Another address, or another certificate, which the client of before knows nothing of.
#[test]
fn the_way_to_the_server_is_read_again_when_it_leads_to_none() {
    let elsewhere = Server::start(vec![list(&["a"], &[], Ending::Silence)]);
    let answers = |directory: &PathBuf| {
        let (directory, url) = (directory.clone(), elsewhere.url());
        let no_http = Answer::lines(Vec::new(), Ending::End).of_status(0);
        vec![no_http.after(move || drop(kubeconfig(&directory, &url)))]
    };
    let mut watched = Followed::new(limits(), answers);
    assert_eq!(watched.next(), ["a"]);
}

#[test]
fn a_server_that_has_too_much_to_do_is_given_the_time_it_asks_for() {
    let mut busy = failure(429, "too many requests");
    busy["details"] = json!({"retryAfterSeconds": 3600});
    let answers = |_: &PathBuf| vec![Answer::failure(&busy), list(&["a"], &[], Ending::Silence)];
    let begin = std::time::Instant::now();
    let limits = Limits { retry_max: Duration::from_millis(150), ..limits() };
    let mut watched = Followed::new(limits, answers);
    assert_eq!(watched.next(), ["a"]);
    assert!(begin.elapsed() >= Duration::from_millis(150), "as long as it is believed");
    assert_eq!(watched.requests(2).len(), 2);
}

#[test]
fn what_is_forbidden_is_named() {
    let message = "nodes is forbidden: User \"system:serviceaccount:x\" cannot list resource";
    let mut watched = Followed::with(vec![Answer::refusal(403, message)]);
    let said = watched.next_lost();
    assert!(said.contains(message) && said.contains("role"), "{said}");
}

#[test]
fn an_empty_list_is_told_as_it_is() {
    let mut watched = Followed::with(vec![list(&[], &[], Ending::Silence)]);
    assert_eq!(watched.next_told(), (Vec::new(), false));
}

#[test]
fn who_doubts_gets_a_list_that_is_not_from_a_cache() {
    let again = list(&["a", "b"], &[], Ending::Silence);
    let mut watched = Followed::with(vec![list(&["a"], &[], Ending::Silence), again]);
    assert_eq!(watched.next_told(), (vec!["a".into()], false));
    watched.listener.ask_anew();
    assert_eq!(watched.next_told(), (vec!["a".into(), "b".into()], true));
    let requests = watched.requests(2);
    assert!(is_stream(&requests[1], ""), "{requests:?}");
}

#[test]
fn a_server_that_comes_back_is_told() {
    let (go, wait) = channel();
    let refusal = Answer::refusal(503, "shutting down");
    let back = Answer::stream(&[], Ending::Silence);
    let mut watched = Followed::with(vec![
        list(&["a"], &[], Ending::End),
        refusal,
        back.after(move || wait.recv().unwrap()),
    ]);
    assert_eq!(watched.next_lost(), "the API server answers 503: shutting down");
    go.send(()).unwrap();
    assert_eq!(watched.next(), ["a"]);
}

#[test]
fn a_server_that_ends_each_watch_at_once_is_not_asked_at_that_pace() {
    let limits = Limits { sound: DEADLINE, retry_max: Duration::from_millis(400), ..limits() };
    let limits = Limits { retry: Duration::from_millis(400), ..limits };
    let answers = |_: &PathBuf| {
        let ends = (0..1000).map(|_| Answer::stream(&[], Ending::End));
        [list(&["a"], &[], Ending::End)].into_iter().chain(ends).collect()
    };
    let mut watched = Followed::new(limits, answers);
    assert!(watched.next_lost().contains("ends each watch"));
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    let (teller, mut listener) = source();
    let access = Access { kubeconfig: Some("/nonexistent/kubeconfig".into()) };
    let nodes = watched(access, limits(), teller);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(nodes.run())
    });
    let Some(Told::Lost(said)) = listener.next(std::time::Instant::now() + DEADLINE) else {
        panic!("nothing is told");
    };
    assert!(said.contains("/nonexistent/kubeconfig"), "{said}");
}
