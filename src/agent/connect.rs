//! How the API server is reached: by a kubeconfig, or as what runs in a pod reaches it.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the API server is, and who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Else the service account that Kubernetes gives to a pod.
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Access {
    /// Reads tokens and certificates as they are now. Nothing is sent yet. A connection
    /// from which nothing is heard for `silence` is at its end.
    ///
    /// # Errors
    /// What cannot be read, as a sentence.
    pub(crate) async fn client(&self, silence: Duration) -> Result<Client, String> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(silence);
        config.reset_reader_on_write = true;
        // Whoever asks decides when to ask again.
        config.default_retry = false;
        let agent = concat!("manx-agent/", env!("CARGO_PKG_VERSION"));
        if let (Ok(name), Ok(value)) = ("user-agent".parse(), agent.parse()) {
            config.headers.push((name, value));
        }
        Client::try_from(config).map_err(|error| format!("no way to the API server: {error}"))
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
