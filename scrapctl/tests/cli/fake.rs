//! A node that says what a test wants, and dies when a test wants: a real socket, one answer per connection.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What the node does with a request.
pub(crate) enum Act {
    /// Answers.
    Json(u16, Value),
    /// Answers with headers.
    With(u16, Vec<(&'static str, String)>, String),
    /// Takes the request and dies without an answer.
    Drop,
    /// Promises more than it sends.
    Cut(String),
    /// Says nothing until the other side gives up.
    Silence,
    /// Writes these bytes after the head, and keeps the connection until the other side closes it, if so wanted.
    Stream { kind: &'static str, bytes: Vec<u8>, stay: bool },
    /// Echoes the rest of the request body as frames, as it comes, and ends with a status.
    Echo(i32),
}

/// A running fake node. Its thread ends with the test's process.
pub(crate) struct Node {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Node {
    /// A node that does what `act` says; it is given the request and how many came before.
    pub(crate) fn start(act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, act) = (seen.clone(), Arc::new(act));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, act) = (log.clone(), act.clone());
                thread::spawn(move || {
                    // A client that goes away is what some tests are about.
                    drop(serve(stream.unwrap(), &log, &*act));
                });
            }
        });
        Self { address, seen }
    }

    /// What it was asked, without the questions about where nodes are.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| !it.line.starts_with("GET /v1/nodes")).cloned().collect()
    }

    /// The first lines of what it was asked.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    act: &dyn Fn(&Seen, usize) -> Act,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if headers.get("transfer-encoding").is_some_and(|it| it == "chunked") {
        body = chunk(&mut reader)?.unwrap_or_default();
    }
    let line = line.split(" HTTP").next().unwrap_or_default().to_owned();
    let seen = Seen { line, headers, body: String::from_utf8_lossy(&body).into_owned() };
    let before = {
        let mut log = log.lock().unwrap();
        let same = log.iter().filter(|it| it.line == seen.line).count();
        log.push(seen.clone());
        same
    };
    match act(&seen, before) {
        Act::Json(status, value) => answer(&mut stream, status, &[], &value.to_string()),
        Act::With(status, headers, body) => answer(&mut stream, status, &headers, &body),
        Act::Drop => Ok(()),
        Act::Cut(body) => {
            let length = body.len() + 100;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
        }
        Act::Silence => wait_for_the_end(&mut reader),
        Act::Stream { kind, bytes, stay } => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n")?;
            stream.write_all(&bytes)?;
            if !stay {
                // Closing with unread input would reset the connection, and what was written would be lost.
                stream.shutdown(Shutdown::Write)?;
            }
            wait_for_the_end(&mut reader)
        }
        Act::Echo(status) => {
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            frame(&mut stream, 2, b"began\n")?;
            while let Some(piece) = chunk(&mut reader)? {
                frame(&mut stream, 1, &piece)?;
            }
            frame(&mut stream, 3, format!("{{\"status\":{status}}}").as_bytes())
        }
    }
}

fn wait_for_the_end(reader: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let mut rest = [0; 64];
    while reader.read(&mut rest)? > 0 {}
    Ok(())
}

fn frame(stream: &mut TcpStream, kind: u8, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    stream.write_all(&[&[kind][..], &length, payload].concat())
}

/// The next piece of a chunked body; `None` at its end.
fn chunk(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut size = String::new();
    reader.read_line(&mut size)?;
    let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
    let mut piece = vec![0; size + 2];
    reader.read_exact(&mut piece)?;
    piece.truncate(size);
    Ok((size > 0).then_some(piece))
}

fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<()> {
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "content-length: {}\r\n\r\n{body}", body.len())
}
