//! What the agent of a cluster says of itself, where one runs on this node.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    node::Agent,
    state::{Root, operations},
};

/// Where it answers, unless it is told otherwise.
const PORT: u16 = 9641;
/// It answers from memory, on loopback.
const PATIENCE: Duration = Duration::from_millis(500);
/// More of what it says is not read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Asks it whether pods may come to this node; none where no agent runs.
pub(super) fn ask(root: &Root) -> Option<Agent> {
    let runs = operations::is_read(root);
    runs.then(|| answer().unwrap_or_else(|error| Agent { ready: None, says: error.to_string() }))
}

fn answer() -> io::Result<Agent> {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| io::Error::other(format!("{address}: {error}")))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(read(&String::from_utf8_lossy(&answer)))
}

fn read(answer: &str) -> Agent {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let ready = match status {
        "200" => Some(true),
        "503" => Some(false),
        _ => None,
    };
    Agent { ready, says: body.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_ready_or_a_reason() {
        for (answer, ready, says) in [
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n", Some(true), "ok"),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\nno podCIDR yet\n",
                Some(false),
                "no podCIDR yet",
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n", None, ""),
            ("SSH-2.0", None, ""),
            ("", None, ""),
        ] {
            assert_eq!(read(answer), Agent { ready, says: says.to_owned() }, "{answer}");
        }
    }
}
