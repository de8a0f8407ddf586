//! The agent's own token for Calico's IPAM plugin, which runs outside of the agent's
//! container: a kubeconfig on the node, and beside it copies of the token and of the
//! certificate, made again as soon as Kubernetes gives others.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::state::{Root, directory, file::TEXT_BYTES_MAX, read, replace};

/// Where Kubernetes puts what a pod asks the API server with.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where the copies are.
const DIRECTORY: &str = "/var/lib/manx/calico";
/// A token is given anew minutes before it ends.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the kubeconfig is, as the container runtime's plugins see it.
pub(crate) fn kubeconfig() -> PathBuf {
    Path::new(DIRECTORY).join("kubeconfig")
}

/// Keeps the copies what Kubernetes gives, and comes to no end.
pub(crate) fn keep(root: &Root) -> Infallible {
    let mut said = String::new();
    loop {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").unwrap_or_default();
        let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_default();
        let words = match copy(Path::new(ACCOUNT), (&host, &port), &root.path(DIRECTORY)) {
            Ok(()) => String::new(),
            Err(words) => words,
        };
        if words != said && !words.is_empty() {
            log::warn!("{words}: Calico's IPAM plugin may not be let in by the API server");
        }
        said = words;
        thread::sleep(AGAIN);
    }
}

fn copy(account: &Path, (host, port): (&str, &str), target: &Path) -> Result<(), String> {
    let failed =
        |what: &str, path: &Path, error: io::Error| format!("{what} {}: {error}", path.display());
    directory(target).map_err(|error| failed("make", target, error))?;
    for name in ["ca.crt", "token"] {
        let path = account.join(name);
        let bytes = read(&path, TEXT_BYTES_MAX).map_err(|error| failed("read", &path, error))?;
        put(&target.join(name), &bytes)?;
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let beside = |name: &str| Path::new(DIRECTORY).join(name);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "manx",
        "clusters": [{"name": "manx", "cluster": {
            "server": format!("https://{host}:{port}"),
            "certificate-authority": beside("ca.crt")}}],
        "users": [{"name": "manx", "user": {"tokenFile": beside("token")}}],
        "contexts": [{"name": "manx", "context": {"cluster": "manx", "user": "manx"}}]
    });
    put(&target.join("kubeconfig"), format!("{kubeconfig:#}\n").as_bytes())
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
    fn copies_follow_what_kubernetes_gives() {
        let directory = std::env::temp_dir().join(format!("manx-account-{}", std::process::id()));
        let (account, target) = (directory.join("account"), directory.join("target"));
        fs::create_dir_all(&account).unwrap();
        let api = ("2001:db8::1", "443");
        assert!(copy(&account, api, &target).unwrap_err().contains("ca.crt"));
        fs::write(account.join("ca.crt"), "certificate").unwrap();
        for token in ["first", "second"] {
            fs::write(account.join("token"), token).unwrap();
            copy(&account, api, &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("token")).unwrap(), token);
        }
        let kubeconfig = fs::read_to_string(target.join("kubeconfig")).unwrap();
        assert!(kubeconfig.contains("https://[2001:db8::1]:443"), "{kubeconfig}");
        assert!(kubeconfig.contains("/var/lib/manx/calico/token"), "{kubeconfig}");
        for name in ["token", "kubeconfig"] {
            let mode = fs::metadata(target.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
