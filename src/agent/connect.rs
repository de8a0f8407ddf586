// SPDX-License-Identifier: Apache-2.0
//! How the API server is reached: by a kubeconfig, or as what runs in a pod reaches it.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::list::Gather;
use hyper::Uri;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// For how long the machine at the other end may acknowledge nothing.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(30);
/// How long one answer may take.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// What is said where there is none.
pub(crate) const SILENT: &str = "the API server is silent";
/// So often it is asked in that time whether it is there, where nothing is said.
const PROBES: u32 = 3;

/// Where the API server is, and who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Else the service account that Kubernetes gives to a pod.
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Access {
    /// Reads tokens and certificates as they are now. Nothing is sent yet. A connection
    /// whose other end acknowledges nothing for `unanswered` is at its end.
    ///
    /// # Errors
    /// What cannot be read, as a sentence.
    pub(crate) async fn client(&self, unanswered: Duration) -> Result<Client, String> {
        let mut config = self.config().await?;
        let agent = concat!("manx-agent/", env!("CARGO_PKG_VERSION"));
        if let (Ok(name), Ok(value)) = ("user-agent".parse(), agent.parse()) {
            config.headers.push((name, value));
        }
        proxied(&config).map_or(Ok(()), Err)?;
        let client = client(config, unanswered);
        client.map_err(|error| format!("no way to the API server: {}", chain(&error)))
    }

    /// Where the API server is, as far as that is said by addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let host = |server: String| server.parse::<Uri>().ok()?.host().map(str::to_owned);
        let hosts: Vec<String> = match &self.kubeconfig {
            None => std::env::var("KUBERNETES_SERVICE_HOST").into_iter().gather(),
            Some(path) => {
                let clusters = Kubeconfig::read_from(path).map(|all| all.clusters);
                let clusters = clusters.unwrap_or_default().into_iter();
                clusters.filter_map(|named| named.cluster?.server).filter_map(host).gather()
            }
        };
        hosts.iter().filter_map(|host| host.trim_matches(['[', ']']).parse().ok()).gather()
    }

    async fn config(&self) -> Result<Config, String> {
        let Some(path) = &self.kubeconfig else {
            return Config::incluster_env().map_err(|error| {
                format!(
                    "no way to the API server: {}; in a pod Kubernetes gives it, elsewhere \
                     --kubeconfig names a file",
                    chain(&error)
                )
            });
        };
        let failed = |error: &dyn std::error::Error| {
            format!("kubeconfig {}: {}", path.display(), chain(error))
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(&error))
    }
}

/// Why nothing is asked where a proxy is to be asked.
fn proxied(config: &Config) -> Option<String> {
    // Without the password that may be in it.
    let proxy = config.proxy_url.as_ref()?.host().unwrap_or_default();
    Some(format!(
        "no way to the API server: the agent asks no proxy ({proxy}): leave out proxy-url in the \
         kubeconfig, and HTTPS_PROXY in the environment"
    ))
}

/// kube's own client, but that the kernel notices a connection whose other end is gone
/// without a word: a machine that lost its power, a load balancer that forgot. Whoever asks
/// decides how long to wait for an answer, and when to ask again.
fn client(config: Config, unanswered: Duration) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(unanswered / PROBES));
    tcp.set_keepalive_interval(Some(unanswered / PROBES));
    tcp.set_keepalive_retries(Some(PROBES));
    // What was sent counts as well, and keepalive knows nothing of that.
    tcp.set_tcp_user_timeout(Some(unanswered));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Builder::new(TokioExecutor::new()).build(tls));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// An error with all that led to it, none of it twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        next = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proxy is there for would be asked without it.
    #[test]
    fn a_proxy_is_refused_and_named() {
        let mut config = Config::new(Uri::from_static("https://192.0.2.9:6443"));
        assert_eq!(proxied(&config), None);
        config.proxy_url = Some(Uri::from_static("http://me:secret@192.0.2.7:3128"));
        let words = proxied(&config).unwrap();
        assert!(words.contains("(192.0.2.7)") && words.contains("HTTPS_PROXY"), "{words}");
    }

    #[test]
    fn addresses_of_the_api_server_are_those_of_the_kubeconfig() {
        let path = std::env::temp_dir().join(format!("manx-connect-{}", std::process::id()));
        for (server, address) in [
            ("https://192.0.2.9:6443", Some("192.0.2.9")),
            ("https://[2001:db8::9]:6443", Some("2001:db8::9")),
            ("https://api.example:6443", None),
        ] {
            let text = format!(
                "{{\"clusters\": [{{\"name\": \"c\", \"cluster\": {{\"server\": \"{server}\"}}}}]}}"
            );
            std::fs::write(&path, text).unwrap();
            let access = Access { kubeconfig: Some(path.clone()) };
            let expected: Vec<IpAddr> = address.into_iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(access.addresses(), expected);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Access { kubeconfig: Some(path) }.addresses(), Vec::<IpAddr>::new());
    }
}
