//! An HTTP server that takes notifications and answers as a test tells it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::ServerBuilder;

/// What servers of [`Receiver::allowed_by`] sign with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that came in: header names in lower case.
#[derive(Clone, Debug)]
pub struct Received {
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    /// The value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }
}

/// Listens on loopback for as long as the test runs.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// A receiver whose answer to its request number `n` (from 0) is `answer(n)`: a status line's
    /// rest and further headers, such as `"200 OK\r\n"`, and a body behind an empty line. `None`: no
    /// answer, for ever.
    pub fn start(answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::answering(move |number, _| answer(number))
    }

    /// A receiver that answers as [`Receiver::start`] says, by the number and by what it received.
    pub fn answering(
        answer: impl Fn(usize, &Received) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (all, answer) = (Arc::clone(&received), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &all, &*answer));
            }
        });
        Self { address, received }
    }

    /// A server that may tell this receiver, and its directory of secrets, where [`SECRET`] is
    /// called `signing`.
    pub fn allowed_by(&self, builder: ServerBuilder) -> (TempDir, ServerBuilder) {
        let secrets = tempfile::tempdir().unwrap();
        fs::write(secrets.path().join("signing"), format!("{SECRET}\n")).unwrap();
        let builder = builder
            .setting("secrets_dir", secrets.path().to_str().unwrap())
            .setting("notify_hosts", &self.address.to_string());
        (secrets, builder)
    }

    /// What has come in so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    all: &Mutex<Vec<Received>>,
    answer: &dyn Fn(usize, &Received) -> Option<String>,
) {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<&TcpStream>| {
        line.clear();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = next(&mut reader);
    let Some(target) = first.split(' ').nth(1).map(str::to_owned) else { return };
    let mut headers = Vec::new();
    loop {
        let line = next(&mut reader);
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let request = Received { target, headers, body };
    let number = {
        let mut all = all.lock().unwrap();
        all.push(request.clone());
        all.len() - 1
    };
    match answer(number, &request) {
        Some(answer) => {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.trim_end(), ""));
            let length = body.len();
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close");
            let _ = (&stream).write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        }
        None => std::thread::park(),
    }
}
