// SPDX-License-Identifier: Apache-2.0
//! An API server that answers as it was told to, whatever it is asked. The unit tests of the
//! agent include it as well.

// Each of the two uses its own part.
#![allow(dead_code)]

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc::Receiver},
    thread,
};

use serde_json::{Value, json};

/// The answer to one request.
pub(crate) struct Answer {
    /// What the path of the request begins with.
    path: &'static str,
    status: u16,
    body: Body,
    first: Box<dyn FnOnce() + Send>,
}

enum Body {
    Whole(String),
    Chunks(Vec<String>, Ending),
    Live(Vec<String>, Receiver<Value>),
}

/// What follows the last part of a stream.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// Nothing more to tell.
    End,
    /// The connection breaks inside a chunk.
    Cut,
    /// Neither a word nor an end.
    Silence,
}

impl Answer {
    fn new(status: u16, body: Body) -> Self {
        Self { path: "", status, body, first: Box::new(|| ()) }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new(200, Body::Whole(body.to_string()))
    }

    pub(crate) fn refusal(code: u16, message: &str) -> Self {
        Self::new(code, Body::Whole(failure(code, message).to_string()))
    }

    pub(crate) fn failure(status: &Value) -> Self {
        let code = u16::try_from(status["code"].as_u64().unwrap()).unwrap();
        Self::new(code, Body::Whole(status.to_string()))
    }

    pub(crate) fn stream(events: &[Value], ending: Ending) -> Self {
        Self::lines(events.iter().map(line).collect(), ending)
    }

    pub(crate) fn lines(lines: Vec<String>, ending: Ending) -> Self {
        Self::new(200, Body::Chunks(lines, ending))
    }

    /// A stream that goes on with what `rest` gives, and breaks when that is at its end.
    pub(crate) fn live(events: &[Value], rest: Receiver<Value>) -> Self {
        Self::new(200, Body::Live(events.iter().map(line).collect(), rest))
    }

    /// Of a status that may be none.
    pub(crate) fn of_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Only for requests of such a path.
    pub(crate) fn at(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// What is done before it is given.
    pub(crate) fn after(mut self, first: impl FnOnce() + Send + 'static) -> Self {
        self.first = Box::new(first);
        self
    }

    fn write(self, to: &mut TcpStream) -> std::io::Result<()> {
        (self.first)();
        write!(to, "HTTP/1.1 {} said\r\nContent-Type: application/json\r\n", self.status)?;
        let (lines, ending, rest) = match self.body {
            Body::Whole(body) => {
                return write!(to, "Content-Length: {}\r\n\r\n{body}", body.len());
            }
            Body::Chunks(lines, ending) => (lines, ending, None),
            Body::Live(lines, rest) => (lines, Ending::Cut, Some(rest)),
        };
        write!(to, "Transfer-Encoding: chunked\r\n\r\n")?;
        let rest = rest.iter().flatten().map(|event| line(&event));
        for line in lines.into_iter().chain(rest) {
            write!(to, "{:x}\r\n{line}\r\n", line.len())?;
        }
        match ending {
            Ending::End => write!(to, "0\r\n\r\n"),
            Ending::Cut => {
                write!(
                    to,
                    "1000\r\n{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"half"
                )?;
                to.shutdown(Shutdown::Both)
            }
            Ending::Silence => {
                to.flush()?;
                to.read(&mut [0]).map(|_| ())
            }
        }
    }
}

fn line(event: &Value) -> String {
    format!("{event}\n")
}

pub(crate) fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Said", "code": code})
}

/// A server with its answers, in the order of the requests. Who asks for more hears
/// nothing.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), answers)
    }

    pub(crate) fn start_at(address: IpAddr, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, log) = (Arc::new(Mutex::new(VecDeque::from(answers))), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, log) = (Arc::clone(&answers), Arc::clone(&log));
                thread::spawn(move || serve(stream.unwrap(), &answers, &log));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The path, query and token of each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &Mutex<VecDeque<Answer>>,
    log: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    loop {
        let (mut request, mut token) = (String::new(), String::new());
        loop {
            let line = lines.next()?.ok()?;
            if let Some(path) = line.strip_prefix("GET ") {
                request = path.replace(" HTTP/1.1", "");
            } else if let Some((_, given)) = line.split_once(": Bearer ") {
                token = format!(" {given}");
            } else if line.is_empty() {
                break;
            }
        }
        let answer = {
            let mut answers = answers.lock().unwrap();
            let place = answers.iter().position(|answer| request.starts_with(answer.path));
            place.and_then(|place| answers.remove(place))
        };
        log.lock().unwrap().push(request + &token);
        let answer = answer.unwrap_or_else(|| Answer::lines(Vec::new(), Ending::Silence));
        answer.write(&mut stream).ok()?;
    }
}
