//! A load generator: keep-alive connections that each send the next request when the last one has
//! been answered.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::{CONNECTIONS, millis, percentile};

/// What a stretch of load came to.
pub struct Load {
    pub rate: f64,
    pub latencies: Vec<Duration>,
    /// Requests answered on the slowest connection, as a share of the median connection's.
    pub fairness: f64,
}

impl Load {
    pub fn report(&mut self, who: &str) {
        println!(
            "{who:<28} {:>8.0}/s   p50 {:>6.2} ms   p99 {:>6.2} ms   slowest connection {:.2} of the median",
            self.rate,
            millis(percentile(&mut self.latencies, 50)),
            millis(percentile(&mut self.latencies, 99)),
            self.fairness,
        );
    }
}

/// Where a server listens.
#[derive(Clone)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// One keep-alive connection.
pub struct Connection {
    reader: BufReader<Box<dyn Stream>>,
    line: String,
}

impl Connection {
    pub fn open(address: impl Into<Address>) -> Self {
        let stream: Box<dyn Stream> = match address.into() {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("the server accepts");
                stream.set_nodelay(true).expect("TCP_NODELAY can be set");
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).expect("it accepts")),
        };
        Self { reader: BufReader::new(stream), line: String::new() }
    }

    /// Sends `request` and reads the answer. Returns its status and body.
    pub fn exchange(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.reader.get_mut().write_all(request).expect("the server reads");
        let mut status = 0;
        let mut length = None;
        loop {
            self.line.clear();
            self.reader.read_line(&mut self.line).expect("the server answers");
            let line = self.line.trim_end();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().expect("a length"));
            }
        }
        let body = match length {
            Some(length) => self.read(length),
            None => self.read_chunks(),
        };
        (status, body)
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).expect("the whole answer");
        bytes
    }

    fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            self.line.clear();
            self.reader.read_line(&mut self.line).expect("a chunk");
            let length = usize::from_str_radix(self.line.trim_end(), 16).expect("a length");
            body.extend(self.read(length));
            self.read(2);
            if length == 0 {
                return body;
            }
        }
    }
}

/// A POST of `body` to `path`.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// 500 bytes of JSON.
pub fn body() -> Vec<u8> {
    let mut body =
        br#"{"ref":"refs/heads/main","repository":{"full_name":"acme/site"},"filler":""#.to_vec();
    body.resize(498, b'x');
    body.extend_from_slice(b"\"}");
    body
}

/// Sends `request` over and over on [`CONNECTIONS`] connections, for `time` or `requests` requests.
pub fn load(
    address: impl Into<Address>,
    request: &[u8],
    expected: u16,
    time: Duration,
    requests: usize,
) -> Load {
    load_mixed(address, &[request], expected, time, requests)
}

/// The same with several requests, by turns.
pub fn load_mixed<R: AsRef<[u8]> + Sync>(
    address: impl Into<Address>,
    mix: &[R],
    expected: u16,
    time: Duration,
    requests: usize,
) -> Load {
    let make = |connection: usize, number: usize| {
        let first = connection * mix.len() / CONNECTIONS;
        Cow::Borrowed(mix[(first + number) % mix.len()].as_ref())
    };
    load_made(address, make, expected, time, requests)
}

/// The same with requests that `make` makes, by the number of the connection and of the request on it.
pub fn load_made<'r>(
    address: impl Into<Address>,
    make: impl Fn(usize, usize) -> Cow<'r, [u8]> + Sync,
    expected: u16,
    time: Duration,
    requests: usize,
) -> Load {
    let address = address.into();
    let ready = Barrier::new(CONNECTIONS + 1);
    let each = requests.div_ceil(CONNECTIONS);
    let (elapsed, mut latencies): (Duration, Vec<Vec<Duration>>) = thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                // One after the other: tiny_http's own pool starves connections that arrive in
                // one burst.
                let mut connection = Connection::open(address.clone());
                let (make, ready) = (&make, &ready);
                let mut exchange = move |sent: usize| {
                    assert_eq!(connection.exchange(&make(number, sent)).0, expected);
                };
                exchange(0);
                scope.spawn(move || {
                    let mut latencies = Vec::with_capacity(1 << 14);
                    ready.wait();
                    let begin = Instant::now();
                    while begin.elapsed() < time && latencies.len() < each {
                        let sent = Instant::now();
                        exchange(latencies.len() + 1);
                        latencies.push(sent.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        let latencies =
            senders.into_iter().map(|sender| sender.join().expect("a sender")).collect();
        (begin.elapsed(), latencies)
    });
    latencies.sort_unstable_by_key(Vec::len);
    let fairness = latencies[0].len() as f64 / latencies[latencies.len() / 2].len() as f64;
    let latencies: Vec<Duration> = latencies.into_iter().flatten().collect();
    Load { rate: latencies.len() as f64 / elapsed.as_secs_f64(), latencies, fairness }
}
