//! A token for Calico's IPAM plugin, which runs outside of the agent's container: a
//! kubeconfig on the node, and beside it the token and the certificate.
//!
//! The agent's own token ends with its pod, and pods of the node come and go while the agent
//! is replaced. So the API server is asked for one that is bound to the Node, of an account
//! that may do what Calico's plugins do and nothing else. It holds for hours without an
//! agent, and ends with the Node; a Node that is made again is another one.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    time::Duration,
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
    time::{Instant, sleep, timeout},
};

use super::super::{
    backoff::{Backoff, part_of},
    connect::{Access, UNANSWERED, chain},
    metrics::Api,
};
use crate::state::{
    Root, directory,
    file::{TEXT_BYTES_MAX, read_text},
    read, replace,
};

/// Where Kubernetes puts what a pod asks the API server with.
const OWN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where what is kept is.
const DIRECTORY: &str = "/var/lib/manx/calico";
/// The account, in the agent's namespace.
const ACCOUNT: &str = "manx-calico-ipam";
/// For how long a token is asked for. Another one follows at half of it.
const LIFE: Duration = Duration::from_secs(12 * 3600);
/// How often to look whether there is another certificate.
const AGAIN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const SILENCE: Duration = Duration::from_secs(30);

/// What keeps a token.
pub(crate) struct Credentials {
    pub(crate) access: Access,
    pub(crate) node: String,
    /// Of the Node, once it is known.
    pub(crate) uid: Receiver<Box<str>>,
    pub(crate) root: Root,
    pub(crate) api: Api,
}

/// What the API server answers.
#[derive(Debug, Deserialize)]
struct Answer {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Less than what was asked for, where the server allows no more.
    expiration_seconds: u64,
}

#[derive(Debug, Deserialize)]
struct Status {
    token: String,
}

/// Where the kubeconfig is, as the container runtime's plugins see it.
pub(crate) fn kubeconfig() -> PathBuf {
    Path::new(DIRECTORY).join("kubeconfig")
}

impl Credentials {
    /// Keeps them, and comes to no end.
    pub(crate) async fn keep(mut self) -> Infallible {
        let mut backoff = Backoff::new(RETRY, AGAIN);
        let (mut said, mut bound, mut due) = (String::new(), Box::default(), Instant::now());
        loop {
            let uid = self.uid.borrow_and_update().clone();
            let mut done = beside(Path::new(OWN), &server(), &self.root.path(DIRECTORY));
            let is_due = uid != bound || due <= Instant::now();
            if done.is_ok() && is_due && !uid.is_empty() {
                done = match self.renew(&uid).await {
                    Ok(life) => {
                        (bound, due) = (uid, Instant::now() + renewal(life));
                        Ok(())
                    }
                    Err(words) => Err(words),
                };
            }
            let wait = match &done {
                Ok(()) => {
                    backoff.reset();
                    AGAIN
                }
                Err(_) => backoff.failed(Duration::ZERO),
            };
            let words = done.err().unwrap_or_default();
            if words != said && !words.is_empty() {
                log::warn!("{words}: Calico's IPAM plugin may not be let in by the API server");
            }
            said = words;
            if timeout(wait, self.uid.changed()).await.is_ok_and(|changed| changed.is_err()) {
                sleep(wait).await;
            }
        }
    }

    /// Puts another token in place, and tells for how long it holds.
    async fn renew(&self, uid: &str) -> Result<Duration, String> {
        let path = Path::new(OWN).join("namespace");
        let namespace = read_text(&path, TEXT_BYTES_MAX)
            .map_err(|error| format!("read {}: {error}", path.display()))?;
        let client = self.access.client(UNANSWERED).await?;
        let request = request(namespace.trim(), &self.node, uid)
            .map_err(|error| chain(&Error::BuildRequest(error)))?;
        let asked = timeout(SILENCE, client.request::<Answer>(request)).await;
        self.api.answered("create", &asked);
        let asked = asked.map_err(|_| "the API server is silent".to_owned())?;
        let Answer { spec, status } = asked.map_err(|error| refused(&error))?;
        put(&self.root.path(DIRECTORY).join("token"), status.token.as_bytes())?;
        Ok(Duration::from_secs(spec.expiration_seconds))
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

/// When another token is asked for: at half of the life of this one, and not by all agents in
/// the same moment.
fn renewal(life: Duration) -> Duration {
    life / 2 - part_of(life / 10)
}

fn refused(error: &Error) -> String {
    match error {
        Error::Api(status) if matches!(status.code, 403 | 404) => format!(
            "the API server gives no token of ServiceAccount {ACCOUNT}: {}; \
             conf/kubernetes/components/calico-ipam has the account and the role that allows it",
            status.message
        ),
        Error::Api(status) if status.code == 400 => format!(
            "the API server gives no token that is bound to a Node: {}; Kubernetes 1.31 or later \
             does",
            status.message
        ),
        other => chain(other),
    }
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

/// Writes a file that nobody else may read, if it differs.
fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if read(path, TEXT_BYTES_MAX).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    replace(path, bytes).map_err(|error| format!("write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

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
            let wait = renewal(Duration::from_secs(1000)).as_secs();
            assert!((400..=500).contains(&wait), "{wait}");
        }
    }
}
