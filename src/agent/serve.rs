// SPDX-License-Identifier: Apache-2.0
//! /metrics, /healthz and /readyz.
//!
//! On loopback by default. A port that somebody else has costs these answers and nothing
//! else: it is tried again.

use std::{
    collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::status::Status;

/// How soon to try again to listen.
const AGAIN: Duration = Duration::from_secs(30);
/// Who asks has this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many are answered at a time.
const ASKING_MAX: usize = 16;
/// So many are given metrics at a time.
const READING_MAX: usize = 2;
const METRICS_PATH: &str = "/metrics";
/// As Prometheus asks for it.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers at this address, and comes to no end.
pub(crate) async fn serve(address: SocketAddr, status: Arc<Status>) -> Infallible {
    let listener = listen(address).await;
    let asker = Asker { status, reading: Arc::new(Semaphore::new(READING_MAX)) };
    let mut asking: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                asking.retain(|one| !one.is_finished());
                // Who has said nothing for longest makes room: a kubelet says at once what it
                // wants, and its patience is short.
                if asking.len() >= ASKING_MAX
                    && let Some(oldest) = asking.pop_front()
                {
                    oldest.abort();
                }
                let answered = timeout(PATIENCE, asker.clone().answer_all(stream));
                asking.push_back(tokio::spawn(answered).abort_handle());
            }
            // Of one who asks, or for want of files: there will be others.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut told = String::new();
    loop {
        let error = match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => error.to_string(),
        };
        if error != told {
            log::warn!(
                "no metrics and no health at {address}: {error}; --listen names another address"
            );
            told = error;
        }
        sleep(AGAIN).await;
    }
}

/// What answers are made of.
#[derive(Clone)]
struct Asker {
    status: Arc<Status>,
    /// Leases are read for the metrics.
    reading: Arc<Semaphore>,
}

impl Asker {
    async fn answer_all(self, stream: TcpStream) -> hyper::Result<()> {
        let service = service_fn(async |request: Request<Incoming>| {
            let (head, _) = request.into_parts();
            self.reply(head.method, head.uri.path().to_owned()).await
        });
        let mut http = http1::Builder::new();
        http.keep_alive(false).serve_connection(TokioIo::new(stream), service).await
    }

    /// The API server's events and the kubelet do not wait for the disk.
    async fn reply(&self, method: Method, path: String) -> io::Result<Response<String>> {
        if path != METRICS_PATH {
            return Ok(answer(&method, &path, &self.status));
        }
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let status = Arc::clone(&self.status);
        let reading = spawn_blocking(move || {
            // Also where who asked is gone.
            let _turn = turn;
            answer(&method, &path, &status)
        });
        reading.await.map_err(io::Error::other)
    }
}

fn answer(method: &Method, path: &str, status: &Status) -> Response<String> {
    if method != Method::GET && method != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    let health = |wrong: Option<String>| match wrong {
        None => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Some(words) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, words + "\n"),
    };
    match path {
        "/healthz" => health(status.stuck(Instant::now().into_std())),
        "/readyz" => health(status.unready()),
        METRICS_PATH => match status.metrics() {
            Ok(text) => response(StatusCode::OK, METRICS, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n".to_owned()),
    }
}

fn response(code: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, status: &Status) -> (u16, String) {
        let response = answer(&Method::GET, path, status);
        (response.status().as_u16(), response.into_body())
    }

    #[test]
    fn an_agent_is_ready_when_pods_may_come() {
        let status = Status::new();
        assert_eq!(get("/readyz", &status).0, 503);
        status.gate(Some("node n has no podCIDR yet".to_owned()));
        assert_eq!(get("/readyz", &status), (503, "node n has no podCIDR yet\n".to_owned()));
        status.gate(None);
        assert_eq!(get("/readyz", &status), (200, "ok\n".to_owned()));
        status.own_missing(true);
        assert_eq!(get("/readyz", &status).0, 503);
    }

    /// A dead API server does not make agents be started again.
    #[test]
    fn an_agent_is_healthy_while_it_looks_after_the_node() {
        let status = Status::new();
        status.lost("away");
        assert_eq!(get("/healthz", &status), (200, "ok\n".to_owned()));
        let later = std::time::Instant::now() + Duration::from_secs(301);
        assert!(status.stuck(later).is_some());
    }

    #[test]
    fn metrics_are_written_with_their_units() {
        let status = Status::new();
        status.wrote(true);
        status.listed();
        let (code, text) = get("/metrics", &status);
        assert_eq!(code, 200);
        for line in [
            "manx_agent_peers_file_writes_total 1",
            "manx_agent_peers_file_write_errors_total 0",
            "manx_agent_api_connected 1",
            "manx_agent_nodes{state=\"quarantined\"} 0",
            "manx_agent_passes_total{result=\"whole\"} 0",
            "manx_agent_ready 0",
            "manx_agent_watch_restarts_total{reason=\"expired\"} 0",
            "manx_agent_repairs_total{object=\"fdb\"} 0",
            "manx_agent_event_to_kernel_seconds_count 0",
            "manx_cni_operations_total{verb=\"ADD\",code=\"0\"} 0",
            "manx_cni_duration_seconds_count{verb=\"ADD\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(text.contains("manx_agent_last_sync_timestamp_seconds "), "{text}");
        assert!(text.contains("manx_agent_build_info{version="), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
    }

    #[test]
    fn other_questions_are_not_answered() {
        let status = Status::new();
        assert_eq!(get("/", &status).0, 404);
        assert_eq!(answer(&Method::POST, "/metrics", &status).status().as_u16(), 405);
    }
}
