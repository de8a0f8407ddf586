// SPDX-License-Identifier: Apache-2.0
//! What the agent of a cluster says of itself, where one runs on this node.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
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
const ANSWER_BYTES_MAX: usize = 4096;

/// So many of a node's addresses are tried.
const ADDRESSES_MAX: usize = 64;

/// Asks it whether pods may come to this node; none where no agent runs. With component metrics
/// it answers on the node's own address alone, and one without a good configuration answers
/// before it reads what the plugin tells.
pub(super) fn ask(root: &Root, own: impl Iterator<Item = IpAddr>) -> Option<Agent> {
    let runs = operations::is_read(root);
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let global = own.filter(|ip| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    });
    let mut said = None;
    for address in [loopback].into_iter().chain(global.take(ADDRESSES_MAX)) {
        match answer(SocketAddr::from((address, PORT))) {
            Ok(agent) if runs || agent.ready == Some(false) => return Some(agent),
            // It is somebody else's port.
            Ok(_) => break,
            // It is there, and says nothing: the others would take as long.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                let says = format!("{address}, port {PORT}: no answer within {PATIENCE:?}");
                return runs.then_some(Agent { ready: None, says });
            }
            Err(error) => {
                said.get_or_insert(error);
            }
        }
    }
    said.filter(|_| runs).map(|error| Agent { ready: None, says: error.to_string() })
}

fn answer(address: SocketAddr) -> io::Result<Agent> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let next = |buffer: &mut [u8], left| {
        stream.set_read_timeout(Some(left))?;
        stream.read(buffer)
    };
    Ok(read(&String::from_utf8_lossy(&until_end(next, PATIENCE)?)))
}

/// What is answered until the end or for so long; each read has what is left of that.
fn until_end(
    mut next: impl FnMut(&mut [u8], Duration) -> io::Result<usize>,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let mut end = Instant::now() + patience;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while answer.len() < ANSWER_BYTES_MAX {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "it does not end its answer"));
        }
        match next(&mut buffer, left) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            // This process was stopped, as at a terminal, and goes on (signal(7)). It heard nothing meanwhile.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                end = Instant::now() + patience;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

pub(super) fn read(answer: &str) -> Agent {
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

    /// One that sends a byte now and then would keep a limit for each read from ever passing.
    #[test]
    fn one_that_answers_by_drops_is_left() {
        let drop = |buffer: &mut [u8], _| {
            buffer[0] = b'x';
            Ok(1)
        };
        assert_eq!(until_end(drop, Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        let long = Duration::from_secs(86_400);
        assert_eq!(until_end(drop, long).unwrap().len(), ANSWER_BYTES_MAX);
        let mut rest: &[u8] = b"HTTP/1.0 200 OK";
        let whole = until_end(
            |buffer: &mut [u8], left| {
                assert!(left > Duration::from_secs(3600));
                rest.read(buffer)
            },
            long,
        );
        assert_eq!(whole.unwrap(), b"HTTP/1.0 200 OK");
    }

    /// A socket with a time limit ends its call then, also where no signal is handled.
    #[test]
    fn an_answer_is_read_to_its_end_by_a_process_that_was_stopped_meanwhile() {
        let mut parts =
            [Ok("HTTP/1.0 "), Err(ErrorKind::Interrupted), Ok("200 OK"), Ok("")].into_iter();
        let next = |buffer: &mut [u8], _| match parts.next().unwrap() {
            Ok(part) => part.as_bytes().read(buffer),
            Err(kind) => Err(kind.into()),
        };
        let long = Duration::from_secs(86_400);
        assert_eq!(until_end(next, long).unwrap(), b"HTTP/1.0 200 OK");
    }

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
