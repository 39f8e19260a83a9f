//! A listener over real sockets, with a handler that does what the path says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::super::*;
use crate::config::Settings;
use crate::model::refusal::Refusal;

pub const MIB: u64 = 1024 * 1024;

/// Longer than anything here takes; a test that waits so long has failed.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a request came to a handler as.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    length: u64,
    read: u64,
}

/// Waits where it is told to.
pub struct TestHandler {
    seen: Sender<Seen>,
    go_on: Receiver<()>,
}

impl Handler for TestHandler {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        match head.path.as_str() {
            "/health" => Err(Response::new(200, "text/plain", "healthy")),
            "/unknown" => Err(self.refuse(Refusal::bad_request("unknown"), None)),
            _ => Ok(Admitted {
                remote_addr: peer,
                body_bytes_max: 25 * MIB,
                webhook: None,
                principal: None,
                has_token: true,
                is_urgent: false,
            }),
        }
    }

    fn handle(&self, request: Request) -> Handled {
        let read = io::copy(&mut request.body.reader(), &mut io::sink()).unwrap();
        let seen = Seen { path: request.path.clone(), length: request.body.length(), read };
        let _ = self.seen.send(seen);
        let answer = match request.path.as_str() {
            "/panic" => panic!("as the test wants it"),
            "/wait" => {
                let _ = self.go_on.recv();
                Response::new(200, "text/plain", "waited")
            }
            path @ ("/later" | "/later-panic") => {
                let (go_on, panics) = (self.go_on.clone(), path == "/later-panic");
                return Handled::AfterCommit(Box::new(move || {
                    let _ = go_on.recv();
                    assert!(!panics, "as the test wants it");
                    Response::new(200, "text/plain", "later").into()
                }));
            }
            "/stream" => self.stream(None),
            "/short" => self.stream(Some(1000)),
            path => Response::new(200, "text/plain", format!("{path} {read}")),
        };
        answer.into()
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Admitted>) -> Response {
        Response::new(refusal.status(), "text/plain", refusal.message.into_owned())
    }
}

impl TestHandler {
    /// A word, and another one when the test says so; flushes until then.
    fn stream(&self, length: Option<u64>) -> Response {
        let go_on = self.go_on.clone();
        let write = Box::new(move |out: &mut dyn Write| {
            out.write_all(b"one")?;
            out.flush()?;
            while go_on.recv_timeout(Duration::from_millis(5)).is_err() {
                out.flush()?;
            }
            out.write_all(b"two")?;
            if length.is_some() { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        });
        let stream = Stream { length, write };
        Response { status: 200, headers: Vec::new(), body: ResponseBody::Stream(stream) }
    }
}

/// A listener with one thread that answers, so that a thread that is lost is missed.
pub struct Fixture {
    pub listener: Listener,
    pub seen: Receiver<Seen>,
    pub go_on: Sender<()>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (seen_in, seen) = unbounded();
        let (go_on, go_on_out) = unbounded();
        let test = TestHandler { seen: seen_in, go_on: go_on_out };
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = Settings {
            max_connections: 100,
            max_connections_per_ip: 100,
            head_timeout: TEST_TIMEOUT,
            body_timeout: TEST_TIMEOUT,
            body_min_rate: MIB,
            idle_timeout: TEST_TIMEOUT,
            write_timeout: TEST_TIMEOUT,
            ..Settings::defaults(std::env::temp_dir())
        };
        change(&mut settings);
        let options = Options {
            name: "test",
            handlers: 1,
            under_way_max: 3,
            counters: Arc::default(),
            settings: Arc::new(settings),
            bodies: Arc::new(BodyStore::new(std::env::temp_dir(), MIB, 64 * MIB)),
            tls: None,
        };
        let listener = Listener::start(socket, options, Arc::new(test)).unwrap();
        Self { listener, seen, go_on }
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.listener.address()).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Whether a new connection is answered.
    pub fn is_alive(&self) -> bool {
        let mut client = self.connect();
        client.send("GET /alive HTTP/1.1\r\nHost: x\r\n\r\n");
        client.answer() == (200, "/alive 0".to_owned())
    }

    /// Waits until all connections have ended.
    pub fn await_no_connections(&self) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.listener.shared.connections.count() > 0 {
            assert!(Instant::now() < deadline, "connections do not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The status and the headers of the next answer, interim ones included.
    pub fn head(&mut self) -> (u16, Vec<String>) {
        let status = self.line();
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {status:?}"));
        let headers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        (status.parse().unwrap(), headers.collect())
    }

    /// The status and the body of the next answer that has a Content-Length.
    pub fn answer(&mut self) -> (u16, String) {
        let (status, headers) = self.head();
        let length = headers.iter().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.expect("a length").parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    /// What comes until the other side closes, and whether it closed in order.
    pub fn rest(&mut self) -> (String, bool) {
        let mut rest = Vec::new();
        let ended = self.0.read_to_end(&mut rest).is_ok();
        (String::from_utf8(rest).unwrap(), ended)
    }
}
