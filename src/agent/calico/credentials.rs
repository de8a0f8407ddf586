// SPDX-License-Identifier: Apache-2.0
//! A token for Calico's IPAM plugin, which runs outside of the agent's container: a
//! kubeconfig on the node, and beside it the token and the certificate.
//!
//! The agent's own token ends with its pod, and pods of the node come and go while the agent
//! is replaced. So the API server is asked for one that is bound to the Node, of an account
//! that may do what Calico's plugins do and nothing else. It holds for hours without an
//! agent, and ends with the Node; a Node that is made again is another one.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kube::{
    Error,
    api::PostParams,
    core::{Request, request},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch::Receiver,
    time::{sleep, timeout},
};

use super::{
    super::{
        backoff::{Backoff, part_of},
        connect::{Access, SILENCE, SILENT, UNANSWERED, chain},
        options::Options,
        status::Status,
    },
    jwt,
};
use crate::state::{
    directory,
    file::{TEXT_BYTES_MAX, read_text},
    read, replace,
};

/// Where Kubernetes puts what a pod asks the API server with.
const OWN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where what is kept is.
const DIRECTORY: &str = "/var/lib/manx/calico";
/// The account, in the agent's namespace.
const ACCOUNT: &str = "manx-calico-ipam";
/// For how long a token is asked for: it outlives an agent that is away.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// After how long another one follows: an account that was made again, or a server that signs
/// by another key, ends those that are there, and nobody tells of it.
const RENEWAL: Duration = Duration::from_secs(3600);
/// How often to look whether what is kept is as it should be.
const AGAIN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How seldom in the end a token is asked for that is refused for good, or that nobody waits
/// for: thousands may ask.
const SELDOM: Duration = Duration::from_secs(300);
/// The policy of the component that says who may ask for which token.
const POLICY: &str = "manx-agent-calico-token";

/// What keeps a token.
pub(crate) struct Credentials {
    access: Access,
    node: String,
    /// Of the Node, once it is known.
    uid: Receiver<Box<str>>,
    /// Where what the agent itself asks with is.
    own: PathBuf,
    /// Where what is kept is.
    target: PathBuf,
    status: Arc<Status>,
}

/// A token that is kept. Its times are those of the clock on the wall, which goes on while a
/// machine is suspended.
#[derive(Clone)]
struct Held {
    uid: Box<str>,
    token: String,
    asked: SystemTime,
    life: Duration,
    renewal: Duration,
}

/// The token that was given last, and the one that is on the disk: not the same while that is full.
struct Tokens {
    given: Option<Held>,
    kept: Option<Held>,
    /// Why none was given.
    failure: Option<Failure>,
    backoff: Backoff,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { given: None, kept: None, failure: None, backoff: Backoff::new(RETRY, SELDOM) }
    }
}

impl Tokens {
    /// How long nothing is asked for, where that was refused.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.failure.as_ref()?.until.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

/// Why no token was given.
struct Failure {
    words: String,
    /// For which Node it was asked for.
    uid: Box<str>,
    /// Before that it is not asked for again.
    until: Instant,
}

/// What the API server answers.
#[derive(Debug, Deserialize)]
struct Answer {
    spec: Spec,
    status: Given,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Less than what was asked for, where the server allows no more.
    expiration_seconds: u64,
}

#[derive(Debug, Deserialize)]
struct Given {
    token: String,
}

/// Where the kubeconfig is, as the container runtime's plugins see it.
pub(crate) fn kubeconfig() -> PathBuf {
    Path::new(DIRECTORY).join("kubeconfig")
}

/// Where the token is.
pub(crate) fn token() -> PathBuf {
    Path::new(DIRECTORY).join("token")
}

impl Credentials {
    /// For Calico's plugin on this node.
    pub(crate) fn new(
        options: &Options,
        access: &Access,
        uid: Receiver<Box<str>>,
        status: &Arc<Status>,
    ) -> Self {
        let (access, node, status) = (access.clone(), options.node.clone(), Arc::clone(status));
        let (own, target) = (PathBuf::from(OWN), options.root.path(DIRECTORY));
        Self { access, node, uid, own, target, status }
    }

    /// Keeps them, and comes to no end.
    pub(crate) async fn keep(mut self) -> Infallible {
        let mut backoff = Backoff::new(RETRY, AGAIN);
        let (mut said, mut tokens) = (String::new(), Tokens::default());
        loop {
            let uid = self.uid.borrow_and_update().clone();
            let done = self.look(&uid, &mut tokens).await;
            let wait = match (&done, tokens.wait(Instant::now())) {
                (Ok(()), _) => {
                    backoff.reset();
                    AGAIN
                }
                (Err(_), Some(wait)) => wait.min(AGAIN),
                (Err(_), None) => backoff.failed(Duration::ZERO),
            };
            let words = done.err().map(|words| {
                format!("{words}: Calico's IPAM plugin may not be let in by the API server")
            });
            if let Some(words) = words.as_ref().filter(|words| **words != said) {
                log::warn!("{words}");
            }
            said = words.clone().unwrap_or_default();
            // While there is a token that holds, pods come and go.
            let kept = tokens.kept.as_ref();
            let holds = kept.is_some_and(|kept| kept.holds(&uid, SystemTime::now()));
            self.status.let_in(words.filter(|_| !holds));
            if timeout(wait, self.uid.changed()).await.is_ok_and(|changed| changed.is_err()) {
                sleep(wait).await;
            }
        }
    }

    /// Makes what is kept as it should be. Before it is known which Node this is, no token is
    /// asked for.
    async fn look(&self, uid: &str, tokens: &mut Tokens) -> Result<(), String> {
        let path = self.target.join("token");
        if tokens.given.is_none() {
            tokens.kept = left(&path);
        }
        beside(&self.own, &server(), &self.target)?;
        let given = tokens.given.as_ref();
        let is_due = given.is_none_or(|held| held.is_due(uid, SystemTime::now()));
        match is_due && !uid.is_empty() {
            true => self.renew(uid, tokens).await,
            false => tokens.failure = None,
        }
        // Somebody may have taken it away.
        if let Some(given) = &tokens.given {
            put(&path, given.token.as_bytes())?;
            if tokens.kept.replace(given.clone()).is_none() {
                self.status.wake();
            }
        }
        tokens.failure.as_ref().map_or(Ok(()), |failure| Err(failure.words.clone()))
    }

    /// Asks for another token, if it is time to.
    async fn renew(&self, uid: &str, tokens: &mut Tokens) {
        match &tokens.failure {
            Some(failure) if *failure.uid != *uid => tokens.backoff.reset(),
            Some(_) if tokens.wait(Instant::now()).is_some() => return,
            _ => {}
        }
        match self.ask(uid).await {
            Ok(another) => {
                (tokens.given, tokens.failure) = (Some(another), None);
                tokens.backoff.reset();
            }
            Err((words, is_final)) => {
                let kept = tokens.kept.as_ref();
                let may_wait = kept.is_some_and(|kept| kept.holds(uid, SystemTime::now()));
                let wait = tokens.backoff.failed(Duration::ZERO);
                let wait = if is_final || may_wait { wait } else { wait.min(AGAIN) };
                let until = Instant::now() + wait;
                tokens.failure = Some(Failure { words, uid: uid.into(), until });
            }
        }
    }

    /// Asks for another token. If none is given: why, and whether the same will be said again
    /// until somebody changes something.
    async fn ask(&self, uid: &str) -> Result<Held, (String, bool)> {
        let passing = |words| (words, false);
        let path = self.own.join("namespace");
        let namespace = read_text(&path, TEXT_BYTES_MAX)
            .map_err(|error| passing(format!("read {}: {error}", path.display())))?;
        let client = self.access.client(UNANSWERED).await.map_err(passing)?;
        let request = request(namespace.trim(), &self.node, uid)
            .map_err(|error| passing(chain(&Error::BuildRequest(error))))?;
        let asked = SystemTime::now();
        let answer = timeout(SILENCE, client.request::<Answer>(request)).await;
        self.status.api().answered("create", &answer);
        let answer = answer.map_err(|_| passing(SILENT.to_owned()))?;
        let Answer { spec, status } =
            answer.map_err(|error| (refused(&error), is_final(&error)))?;
        let life = Duration::from_secs(spec.expiration_seconds);
        Ok(Held { uid: uid.into(), token: status.token, asked, life, renewal: renewal(life) })
    }
}

impl Held {
    /// None where the clock was set back.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.asked).ok()
    }

    fn is_due(&self, uid: &str, now: SystemTime) -> bool {
        *self.uid != *uid || self.age(now).is_none_or(|age| age >= self.renewal)
    }

    /// Whether the API server lets in who has it, as far as is known.
    fn holds(&self, uid: &str, now: SystemTime) -> bool {
        *self.uid == *uid && self.age(now).is_some_and(|age| age < self.life)
    }
}

/// The request for a token that holds as long as the Node is there.
fn request(
    namespace: &str,
    node: &str,
    uid: &str,
) -> Result<hyper::Request<Vec<u8>>, request::Error> {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            // Those of the API server itself.
            "audiences": [],
            "expirationSeconds": LIFE.as_secs(),
            "boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
        }
    });
    Request::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts")).create_subresource(
        "token",
        ACCOUNT,
        &PostParams::default(),
        body.to_string().into_bytes(),
    )
}

/// When another token is asked for: before half of the life of this one, and not by all agents
/// in the same moment.
fn renewal(life: Duration) -> Duration {
    let latest = RENEWAL.min(life / 2);
    latest - part_of(latest / 5)
}

/// The token that an agent of before has left on the disk.
fn left(path: &Path) -> Option<Held> {
    let token = read_text(path, TEXT_BYTES_MAX).ok()?;
    let jwt::Said { uid, given, life } = jwt::read(&token)?;
    Some(Held { uid, token, asked: given, life, renewal: renewal(life) })
}

/// Whether an answer is the same until somebody changes something.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 409 | 422))
}

fn refused(error: &Error) -> String {
    let Error::Api(status) = error else { return chain(error) };
    let kind = status.details.as_ref().map_or("", |details| &details.kind);
    let says = |words| status.message.contains(words);
    let next = match (status.code, kind) {
        (404, "nodes") | (409, _) => {
            "the Node is gone or was made again, and the one that is there next gets a token"
        }
        (403 | 422, _) if says(POLICY) => {
            "the agent's own token has to say its node, as Kubernetes 1.31 and later do"
        }
        (400, _) => "Kubernetes 1.31 or later gives tokens that are bound to a Node",
        // By a role, and not by a policy of somebody's.
        (403, _) if !says("cannot create") => return chain(error),
        (403 | 404, _) => {
            "conf/kubernetes/components/calico-ipam has the account and the role that allows it"
        }
        _ => return chain(error),
    };
    let message = &status.message;
    format!("the API server gives no token of ServiceAccount {ACCOUNT}: {message}; {next}")
}

/// Where the API server is, as a pod is told.
fn server() -> String {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    url(&of("KUBERNETES_SERVICE_HOST"), &of("KUBERNETES_SERVICE_PORT"))
}

fn url(host: &str, port: &str) -> String {
    match host.contains(':') {
        true => format!("https://[{host}]:{port}"),
        false => format!("https://{host}:{port}"),
    }
}

/// Makes what is beside the token.
fn beside(own: &Path, server: &str, target: &Path) -> Result<(), String> {
    let failed =
        |what: &str, path: &Path, error: io::Error| format!("{what} {}: {error}", path.display());
    directory(target).map_err(|error| failed("make", target, error))?;
    let path = own.join("ca.crt");
    let bytes = read(&path, TEXT_BYTES_MAX).map_err(|error| failed("read", &path, error))?;
    put(&target.join("ca.crt"), &bytes)?;
    let kubeconfig = format!("{:#}\n", described(server));
    put(&target.join("kubeconfig"), kubeconfig.as_bytes())
}

fn described(server: &str) -> Value {
    let beside = |name: &str| Path::new(DIRECTORY).join(name);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "manx",
        "clusters": [{"name": "manx", "cluster": {
            "server": server,
            "certificate-authority": beside("ca.crt")}}],
        "users": [{"name": "manx", "user": {"tokenFile": beside("token")}}],
        "contexts": [{"name": "manx", "context": {"cluster": "manx", "user": "manx"}}]
    })
}

/// Writes a file that nobody else may read, if it differs or somebody may.
fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let is_ours = fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 == 0);
    if is_ours && read(path, TEXT_BYTES_MAX).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    replace(path, bytes).map_err(|error| format!("write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
