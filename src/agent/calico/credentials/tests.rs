// SPDX-License-Identifier: Apache-2.0
//! The token of Calico's plugin, and what is beside it.

use std::{fs, os::unix::fs::PermissionsExt, pin::pin};

use futures::future::select;
use kube::core::Status as Refusal;
use tokio::{
    runtime::Runtime,
    sync::watch::{Sender, channel},
};

use super::{super::jwt::tests::token, *};
use crate::{
    agent::server::{Answer as Reply, Server},
    net::{Socket, link},
};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn what_is_beside_the_token_follows_what_kubernetes_gives() {
    let directory = std::env::temp_dir().join(format!("manx-account-{}", std::process::id()));
    let (own, target) = (directory.join("own"), directory.join("target"));
    fs::create_dir_all(&own).unwrap();
    let server = url("2001:db8::1", "443");
    assert!(beside(&own, &server, &target).unwrap_err().contains("ca.crt"));
    for certificate in ["first", "second"] {
        fs::write(own.join("ca.crt"), certificate).unwrap();
        beside(&own, &server, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("ca.crt")).unwrap(), certificate);
    }
    put(&target.join("token"), b"token").unwrap();
    let kubeconfig = fs::read_to_string(target.join("kubeconfig")).unwrap();
    assert!(kubeconfig.contains("https://[2001:db8::1]:443"), "{kubeconfig}");
    assert!(kubeconfig.contains("/var/lib/manx/calico/token"), "{kubeconfig}");
    for name in ["token", "kubeconfig"] {
        let mode = fs::metadata(target.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // Somebody let others read it.
    let token = target.join("token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    put(&token, b"token").unwrap();
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_token_is_asked_for_that_is_bound_to_the_node() {
    let request = request("manx-system", "node-1", "u-1").unwrap();
    let path = request.uri().path();
    assert_eq!(path, "/api/v1/namespaces/manx-system/serviceaccounts/manx-calico-ipam/token");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let bound = json!({"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u-1"});
    assert_eq!(body["spec"]["boundObjectRef"], bound);
    for _ in 0..100 {
        let wait = |life| renewal(Duration::from_secs(life)).as_secs();
        assert!((400..=500).contains(&wait(1000)), "{}", wait(1000));
        assert!((2880..=3600).contains(&wait(12 * 3600)), "{}", wait(12 * 3600));
    }
}

/// A node, and an API server that gives these answers.
struct Ground {
    directory: PathBuf,
    server: Server,
    /// Which Node it is.
    uid: Sender<Box<str>>,
    credentials: Credentials,
}

impl Ground {
    fn new(name: &str, answers: Vec<Reply>) -> Self {
        let _ = Socket::open().unwrap().apply(&[link::set_up("lo")]);
        let directory = std::env::temp_dir().join(format!("manx-{name}-{}", std::process::id()));
        let (own, target) = (directory.join("own"), directory.join("target"));
        fs::create_dir_all(&own).unwrap();
        for (name, text) in [("ca.crt", "certificate"), ("namespace", "manx-system")] {
            fs::write(own.join(name), text).unwrap();
        }
        let server = Server::start(answers);
        let kubeconfig = json!({"current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server.url()}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}]});
        let path = directory.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        let (sender, uid) = channel(Box::default());
        let (access, node) = (Access { kubeconfig: Some(path) }, "node-1".to_owned());
        let status = Arc::new(Status::new());
        let credentials = Credentials { access, node, uid, own, target, status };
        Self { directory, server, uid: sender, credentials }
    }
}

fn given(token: &str) -> Reply {
    Reply::json(&json!({"spec": {"expirationSeconds": 43200}, "status": {"token": token}}))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_token_is_kept_and_renewed() {
    let refusal = Reply::refusal(403, "no right");
    let answers = vec![given("first"), given("second"), refusal, given("third")];
    let Ground { directory, server, credentials, .. } = Ground::new("token", answers);
    let (file, runtime) = (directory.join("target/token"), runtime());
    let held_on_disk = || fs::read_to_string(&file).unwrap_or_default();
    let look = |uid: &str, tokens: &mut Tokens| {
        runtime.block_on(credentials.look(uid, tokens)).map(|()| held_on_disk())
    };
    let mut tokens = Tokens::default();
    // Before the Node is known, and then at once.
    assert_eq!(look("", &mut tokens).unwrap(), "");
    assert_eq!(look("u-1", &mut tokens).unwrap(), "first");
    // Whatever others do to it, without another one.
    fs::remove_file(&file).unwrap();
    assert_eq!(look("u-1", &mut tokens).unwrap(), "first");
    fs::write(&file, "of others").unwrap();
    assert_eq!(look("u-1", &mut tokens).unwrap(), "first");
    assert_eq!(server.requests().len(), 1);
    // An hour later, as also after a time of sleep.
    tokens.given.as_mut().unwrap().asked -= RENEWAL;
    assert_eq!(look("u-1", &mut tokens).unwrap(), "second");
    // One that could not be renewed is kept.
    let now = SystemTime::now();
    tokens.given.as_mut().unwrap().asked -= RENEWAL;
    fs::remove_file(&file).unwrap();
    assert!(look("u-1", &mut tokens).unwrap_err().contains("no right"));
    assert_eq!(held_on_disk(), "second");
    let (old, later) = (tokens.kept.as_ref().unwrap(), now + LIFE - RENEWAL);
    assert!(old.holds("u-1", now) && !old.holds("u-1", later) && !old.holds("u-2", now));
    // A Node that was made again, and a clock that was set back.
    assert_eq!(look("u-2", &mut tokens).unwrap(), "third");
    assert!(tokens.given.as_ref().unwrap().is_due("u-2", now - LIFE));
    fs::remove_dir_all(directory).unwrap();
}

/// Thousands of agents may have the same to ask for.
#[test]
fn what_is_refused_for_good_is_asked_for_seldom() {
    let ill = (0..40).map(|_| Reply::refusal(500, "ill"));
    let answers = [Reply::refusal(403, "no right"), given("first")].into_iter().chain(ill);
    let Ground { directory, server, credentials, .. } = Ground::new("seldom", answers.collect());
    let (runtime, mut tokens) = (runtime(), Tokens::default());
    let look = |uid: &str, tokens: &mut Tokens| runtime.block_on(credentials.look(uid, tokens));
    // As after many failures.
    let after_many = |tokens: &mut Tokens| {
        for _ in 0..20 {
            let _ = tokens.backoff.failed(RETRY);
        }
    };
    after_many(&mut tokens);
    assert!(look("u-1", &mut tokens).is_err());
    tokens.failure.as_mut().unwrap().until = Instant::now() + SELDOM;
    assert!(look("u-1", &mut tokens).unwrap_err().contains("no right"), "it is still said");
    assert_eq!(server.requests().len(), 1);
    // A Node that was made again has nothing to wait for.
    look("u-2", &mut tokens).unwrap();
    assert_eq!(server.requests().len(), 2);
    assert!(tokens.failure.is_none());
    tokens.given.as_mut().unwrap().asked -= RENEWAL;
    after_many(&mut tokens);
    let longest = (0..40).find_map(|_| {
        tokens.failure = None;
        look("u-2", &mut tokens).unwrap_err();
        tokens.wait(Instant::now()).filter(|wait| *wait > AGAIN)
    });
    assert!(longest.is_some_and(|wait| wait <= SELDOM), "pods come and go meanwhile");
    fs::remove_dir_all(directory).unwrap();
}

/// An agent that is replaced while the API server gives none.
#[test]
fn a_token_that_was_left_holds() {
    let answers = vec![Reply::refusal(500, "busy")];
    let Ground { directory, credentials, .. } = Ground::new("left", answers);
    let (runtime, mut tokens) = (runtime(), Tokens::default());
    let now = SystemTime::now();
    let token = token("u-1", now - RENEWAL, LIFE);
    fs::create_dir_all(directory.join("target")).unwrap();
    fs::write(directory.join("target/token"), &token).unwrap();
    assert!(runtime.block_on(credentials.look("u-1", &mut tokens)).is_err(), "it is asked for");
    let kept = tokens.kept.as_ref().unwrap();
    assert!(kept.holds("u-1", now) && !kept.holds("u-2", now), "it is bound to the Node");
    assert!(!kept.holds("u-1", now + LIFE - RENEWAL), "it ends when it ends");
    assert_eq!(fs::read_to_string(directory.join("target/token")).unwrap(), token);
    fs::write(directory.join("target/token"), "of others").unwrap();
    assert!(runtime.block_on(credentials.look("", &mut tokens)).is_ok());
    assert!(tokens.kept.is_none());
    fs::remove_dir_all(directory).unwrap();
}

/// It is the one on the disk that Calico's plugin has.
#[test]
fn a_token_that_cannot_be_written_is_none() {
    let answers = vec![given("first"), given("second")];
    let Ground { directory, credentials, .. } = Ground::new("unwritten", answers);
    let (file, runtime, mut tokens) =
        (directory.join("target/token"), runtime(), Tokens::default());
    fs::create_dir_all(&file).unwrap();
    assert!(runtime.block_on(credentials.look("u-1", &mut tokens)).is_err());
    assert!(tokens.kept.is_none());
    fs::remove_dir(&file).unwrap();
    runtime.block_on(credentials.look("u-1", &mut tokens)).unwrap();
    // The next one cannot be put in its place.
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in the way")).unwrap();
    tokens.given.as_mut().unwrap().asked -= RENEWAL;
    assert!(runtime.block_on(credentials.look("u-1", &mut tokens)).is_err());
    let token = |held: &Option<Held>| held.as_ref().unwrap().token.clone();
    assert_eq!((&*token(&tokens.given), &*token(&tokens.kept)), ("second", "first"));
    fs::remove_dir_all(directory).unwrap();
}

/// What comes after the answer is silence.
#[test]
fn a_node_without_a_token_says_so() {
    let until = |name: &str, answer: Reply, is_so: &dyn Fn(&str) -> bool| {
        let Ground { directory, server, uid, credentials } = Ground::new(name, vec![answer]);
        uid.send("u-1".into()).unwrap();
        let status = Arc::clone(&credentials.status);
        status.let_in(Some("as before".to_owned()));
        let said = async {
            while !is_so(&status.unready().unwrap_or_default()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let done = async {
            let (keeping, said) = (pin!(credentials.keep()), pin!(said));
            timeout(DEADLINE, select(keeping, said)).await.is_ok()
        };
        assert!(runtime().block_on(done), "{:?}: {:?}", status.unready(), server.requests());
        fs::remove_dir_all(directory).unwrap();
    };
    let refused = |words: &str| words.contains("no right") && words.contains("may not be let in");
    until("refused", Reply::refusal(403, "no right"), &refused);
    until("let-in", given("first"), &|words| !words.contains("as before"));
}

#[test]
fn a_refusal_says_what_to_do() {
    for (code, kind, message, next) in [
        (404, "nodes", "nodes \"n\" not found", "the one that is there next"),
        (409, "TokenRequest", "the UID does not match", "the one that is there next"),
        (404, "serviceaccounts", "not found", "components/calico-ipam has the account"),
        (403, "serviceaccounts", "cannot create resource", "the role that allows it"),
        (422, "serviceaccounts", "Policy 'manx-agent-calico-token' denied", "1.31 and later"),
        (403, "serviceaccounts", "webhook denied the request", "webhook denied the request"),
        (400, "", "cannot bind token to object of type Node", "1.31 or later"),
    ] {
        let status = json!({"code": code, "message": message, "details": {"kind": kind}});
        let status: Refusal = serde_json::from_value(status).unwrap();
        let words = refused(&Error::Api(Box::new(status)));
        assert!(words.contains(next), "{code} {kind}: {words}");
    }
}
