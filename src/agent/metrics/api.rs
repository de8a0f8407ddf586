// SPDX-License-Identifier: Apache-2.0
//! What is counted of the requests to the API server.

use std::{sync::atomic::AtomicU64, time::SystemTime};

use kube::Error;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::time::error::Elapsed;

/// Requests, and watches that came to an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Api {
    requests: Family<Request, Counter>,
    restarts: Family<Restart, Counter>,
    last_sync: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Request {
    verb: &'static str,
    code: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Restart {
    reason: &'static str,
}

/// Why a watch is begun anew.
const REASONS: [&str; 5] = ["asked", "closed", "error", "expired", "idle"];

impl Api {
    pub(super) fn register(&self, registry: &mut Registry) {
        for reason in REASONS {
            drop(self.restarts.get_or_create(&Restart { reason }));
        }
        let help = "Requests to the API server, by the status of the answer; none: without one";
        registry.register("api_requests", help, self.requests.clone());
        let help = "Watches of the API server that ended and were begun anew";
        registry.register("watch_restarts", help, self.restarts.clone());
        let help = "When the API server was heard last that says which nodes there are";
        let last_sync = self.last_sync.clone();
        registry.register_with_unit("last_sync_timestamp", help, Unit::Seconds, last_sync);
    }

    /// What is known of the nodes is what the API server knows at this moment: it said
    /// something, be it that nothing has changed.
    pub(crate) fn synced(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_sync.set(now.as_secs_f64());
    }

    /// The same for what is not about nodes.
    pub(crate) fn apart(&self) -> Self {
        Self { last_sync: Gauge::default(), ..self.clone() }
    }

    /// A request was answered, or was not within its time.
    pub(crate) fn answered<T>(
        &self,
        verb: &'static str,
        answer: &Result<Result<T, Error>, Elapsed>,
    ) {
        let code = code(answer);
        self.requests.get_or_create(&Request { verb, code }).inc();
    }

    /// A watch ended.
    pub(crate) fn restarted(&self, reason: &'static str) {
        self.restarts.get_or_create(&Restart { reason }).inc();
    }
}

/// The status of an answer, if there was one.
fn code<T>(answer: &Result<Result<T, Error>, Elapsed>) -> String {
    match answer {
        Ok(Ok(_)) => "200".to_owned(),
        Ok(Err(Error::Api(status))) => status.code.to_string(),
        Ok(Err(_)) | Err(_) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_request_is_counted_by_its_status() {
        let refused = Status { code: 403, ..Status::default() };
        assert_eq!(code::<()>(&Ok(Err(Error::Api(Box::new(refused))))), "403");
        assert_eq!(code(&Ok(Ok(()))), "200");
        assert_eq!(code::<()>(&Ok(Err(Error::LinesCodecMaxLineLengthExceeded))), "none");
    }
}
