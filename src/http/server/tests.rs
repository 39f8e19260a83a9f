//! The server over real sockets, with a handler that does what the path says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::*;
use crate::http::message::{Answer, Body, Request, Stream};

const MIB: u64 = 1024 * 1024;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says what came of reading bodies, and waits where it is told to.
struct Toy {
    bodies: Sender<io::Result<usize>>,
    entered: Sender<()>,
    go_on: Receiver<()>,
}

impl Handler for Toy {
    fn handle(&self, request: &mut Request<'_>) -> Answer {
        match request.path.as_str() {
            "/refuse" => self.refuse(413, "too large"),
            "/panic" => panic!("as the test wants it"),
            "/wait" => {
                let _ = self.entered.send(());
                let _ = self.go_on.recv();
                Answer::new(200, "text/plain", "waited")
            }
            "/stream" => self.stream(),
            "/read" => {
                let mut bytes = Vec::new();
                let read = request.body.read_to_end(&mut bytes);
                let _ = self.bodies.send(read);
                Answer::new(200, "text/plain", bytes.len().to_string())
            }
            path => Answer::new(200, "text/plain", path.to_owned()),
        }
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        Answer::new(status, "text/plain", message)
    }
}

impl Toy {
    /// A word, and another one when the test says so; flushes until then.
    fn stream(&self) -> Answer {
        let go_on = self.go_on.clone();
        let write = Box::new(move |out: &mut dyn Write| {
            out.write_all(b"one")?;
            while go_on.recv_timeout(Duration::from_millis(5)).is_err() {
                out.flush()?;
            }
            out.write_all(b"two")
        });
        let stream = Stream { length: None, is_lasting: true, write };
        Answer { status: 200, headers: Vec::new(), body: Body::Stream(stream) }
    }
}

/// A server with one thread, so that a thread that is lost is missed.
struct Fixture {
    server: Server,
    bodies: Receiver<io::Result<usize>>,
    entered: Receiver<()>,
    go_on: Sender<()>,
}

impl Fixture {
    fn new() -> Self {
        let (bodies_in, bodies) = unbounded();
        let (entered_in, entered) = unbounded();
        let (go_on, go_on_out) = unbounded();
        let toy = Toy { bodies: bodies_in, entered: entered_in, go_on: go_on_out };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = Options { name: "toy", handlers: 1, body_bytes_max: 25 * MIB };
        let server = Server::start(listener, options, Arc::new(toy)).unwrap();
        Self { server, bodies, entered, go_on }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Whether a new connection is answered.
    fn is_alive(&self) -> bool {
        let mut client = self.connect();
        client.send("GET /alive HTTP/1.1\r\n\r\n");
        client.answer() == (200, "/alive".to_owned())
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The status and the headers of the next answer, interim ones included.
    fn head(&mut self) -> (u16, Vec<String>) {
        let status = self.line();
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {status:?}"));
        let headers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()));
        (status.parse().unwrap(), headers.collect())
    }

    /// The status and the body of the next answer that has a Content-Length.
    fn answer(&mut self) -> (u16, String) {
        let (status, headers) = self.head();
        if status == 100 {
            return self.answer();
        }
        let length = headers.iter().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.expect("a length").parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for path in ["/a", "/b"] {
        client.send(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert_eq!(client.answer(), (200, path.to_owned()));
    }
    client.send("POST /read HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(), (200, "3".to_owned()));
    assert_eq!(client.answer(), (200, "/c".to_owned()));
    client.send("HEAD /d HTTP/1.1\r\n\r\nGET /e HTTP/1.1\r\n\r\n");
    assert_eq!(client.head().0, 200);
    assert_eq!(client.answer(), (200, "/e".to_owned()));
    fixture.server.stop(PATIENCE);
}

#[test]
fn a_sender_of_40_mib_reads_its_413() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let length = 40 * MIB;
    client.send(&format!("POST /refuse HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"));
    let piece = vec![b'x'; MIB as usize];
    for _ in 0..40 {
        client.0.get_mut().write_all(&piece).expect("the sender may send to the end");
    }
    assert_eq!(client.answer(), (413, "too large".to_owned()));
    client.send("GET /next HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(), (200, "/next".to_owned()));
}

#[test]
fn a_sender_that_waits_reads_its_413_at_once() {
    let fixture = Fixture::new();
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut client = fixture.connect();
        client.send(&format!("POST /refuse HTTP/1.1\r\nContent-Length: 40000000\r\n{expect}\r\n"));
        // Not so much as a 100 Continue comes first.
        assert_eq!(client.head().0, 413);
    }
    let mut client = fixture.connect();
    client.send("POST /read HTTP/1.1\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().0, 100);
    client.send(&"x".repeat(2000));
    assert_eq!(client.answer(), (200, "2000".to_owned()));
}

#[test]
fn an_absurd_length_does_not_end_the_process() {
    let fixture = Fixture::new();
    for length in ["1000000000000000", "9223372036854775807", "+1000000000000000"] {
        let mut client = fixture.connect();
        client.send(&format!("POST /read HTTP/1.1\r\nContent-Length: {length}\r\n\r\nabc"));
        let expected = if length.starts_with('+') { 400 } else { 413 };
        assert_eq!(client.answer().0, expected, "{length}");
        drop(client);
        assert!(fixture.is_alive());
    }
    assert!(fixture.bodies.is_empty(), "a handler saw an absurd body");
}

#[test]
fn framing_in_doubt_is_refused() {
    let fixture = Fixture::new();
    for (header, status) in [
        ("Content-Length: five", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 99999999999999999999999", 413),
    ] {
        let mut client = fixture.connect();
        client.send(&format!("POST /read HTTP/1.1\r\n{header}\r\n\r\n12345"));
        assert_eq!(client.answer().0, status, "{header}");
    }
    let mut client = fixture.connect();
    client.send("POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.answer().0, 501);
    client.send(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(limits::REQUEST_LINE_BYTES_MAX)));
    assert_eq!(client.answer().0, 414);
    assert!(fixture.bodies.is_empty(), "a handler saw a body");
    assert!(fixture.is_alive());
}

#[test]
fn a_body_that_is_cut_short_is_not_complete() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("POST /read HTTP/1.1\r\nContent-Length: 100000\r\n\r\nonly this");
    client.0.get_mut().shutdown(Shutdown::Write).unwrap();
    let read = fixture.bodies.recv_timeout(PATIENCE).unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(fixture.is_alive());
}

#[test]
fn a_panic_is_answered_and_costs_no_thread() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for _ in 0..3 {
        client.send("GET /panic HTTP/1.1\r\n\r\n");
        assert_eq!(client.answer().0, 500);
    }
    assert!(fixture.is_alive());
}

#[test]
fn streams_are_sent_as_they_come_and_occupy_no_handler() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("GET /stream HTTP/1.1\r\n\r\n");
    let (status, headers) = client.head();
    assert_eq!(status, 200);
    assert!(headers.contains(&"Transfer-Encoding: chunked".to_owned()), "{headers:?}");
    assert_eq!((client.line(), client.line()), ("3".to_owned(), "one".to_owned()));
    assert!(fixture.is_alive(), "the only handler is with the stream");
    fixture.go_on.send(()).unwrap();
    assert_eq!((client.line(), client.line()), ("3".to_owned(), "two".to_owned()));
    assert_eq!((client.line(), client.line()), ("0".to_owned(), String::new()));
    client.send("GET /next HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer(), (200, "/next".to_owned()));
}

#[test]
fn stopping_answers_what_is_under_way_and_ends_streams() {
    let fixture = Fixture::new();
    let mut follower = fixture.connect();
    follower.send("GET /stream HTTP/1.1\r\n\r\n");
    assert_eq!(follower.head().0, 200);
    let mut client = fixture.connect();
    client.send("GET /wait HTTP/1.1\r\n\r\n");
    fixture.entered.recv_timeout(PATIENCE).unwrap();
    let Fixture { server, go_on, .. } = fixture;
    let stopping = Arc::clone(&server.shared);
    let stopper = thread::spawn(move || server.stop(PATIENCE));
    while !stopping.stopping.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // The stream sees it and ends without its last chunk, so that it does not look complete.
    assert_eq!((follower.line(), follower.line()), ("3".to_owned(), "one".to_owned()));
    assert_eq!(follower.line(), "!");
    go_on.send(()).unwrap();
    assert_eq!(client.answer(), (200, "waited".to_owned()));
    stopper.join().unwrap();
}
