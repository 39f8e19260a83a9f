//! The cost of the listener, and large bodies: bare tiny_http on a Unix socket against
//! the same behind the listener, and large uploads with small accepts beside them against the bare
//! database.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use boathook::internals::{
    Admitted, BodyStore, Handled, Handler, Head, Listener, Options, Refusal, Request, Response,
    Settings, limits,
};

use crate::client::{Address, Connection, body, load, post};
use crate::server::Server;
use crate::{median, millis, percentile};

/// Short rounds, and many: a shared machine is faster at one time than at another.
const TIME: Duration = Duration::from_secs(2);
const ROUNDS: usize = 9;
/// Threads that answer behind bare tiny_http: as many as behind the listener, and more. The ratio is to
/// whichever does better.
const BARE_HANDLERS: [usize; 2] = [limits::HOOK_HANDLERS, 16];
const UPLOADS: usize = 8;
const UPLOAD_BYTES: usize = 25 << 20;

pub fn run() {
    let (mut ratios, mut tcp_ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let best = |bare: fn(usize) -> f64| BARE_HANDLERS.map(bare).into_iter().fold(0.0, f64::max);
        let (bare, tcp) = (best(bare), best(bare_over_tcp));
        let listener = behind_listener();
        ratios.push(listener / bare);
        tcp_ratios.push(listener / tcp);
    }
    println!(
        "ratio (median of {ROUNDS})          {:.2}   (at least 0.6)   over TCP {:.2}",
        median(&mut ratios),
        median(&mut tcp_ratios)
    );
    uploads();
}

const ANSWER: &str = "{}";

/// tiny_http as it comes, on a Unix socket.
fn bare(handlers: usize) -> f64 {
    let path = std::env::temp_dir().join(format!("boathook-bench-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let server = tiny_http::Server::http_unix(&path).expect("a socket");
    let rate = served(server, Address::Unix(path.clone()), handlers, "tiny_http on a Unix socket");
    let _ = std::fs::remove_file(&path);
    rate
}

/// The same over TCP, which the listener's clients speak.
fn bare_over_tcp(handlers: usize) -> f64 {
    let server = tiny_http::Server::http("127.0.0.1:0").expect("a port");
    let address = server.server_addr().to_ip().expect("an address");
    served(server, address.into(), handlers, "tiny_http over TCP")
}

/// What `server` answers with so many threads.
fn served(server: tiny_http::Server, address: Address, handlers: usize, who: &str) -> f64 {
    let server = Arc::new(server);
    let threads: Vec<_> = (0..handlers)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                while let Ok(mut request) = server.recv() {
                    let mut body = Vec::new();
                    request.as_reader().read_to_end(&mut body).expect("a body");
                    let _ = request.respond(tiny_http::Response::from_string(ANSWER));
                }
            })
        })
        .collect();
    let request = post("/", "", &body());
    let mut answered = load(address, &request, 200, TIME, usize::MAX);
    answered.report(&format!("{who}, {handlers:>2}"));
    threads.iter().for_each(|_| server.unblock());
    threads.into_iter().for_each(|thread| thread.join().expect("a handler"));
    answered.rate
}

/// Does nothing.
struct Idle;

impl Handler for Idle {
    fn admit(&self, _: &Head, peer: SocketAddr) -> Result<Admitted, Response> {
        let body_bytes_max = 1 << 20;
        Ok(Admitted {
            remote_addr: peer,
            body_bytes_max,
            webhook: None,
            principal: None,
            has_token: true,
            is_urgent: false,
        })
    }

    fn handle(&self, request: Request) -> Handled {
        request.body_bytes().expect("a body");
        Response::new(200, "text/plain", ANSWER).into()
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Admitted>) -> Response {
        Response::new(refusal.status(), "text/plain", refusal.message.into_owned())
    }
}

fn behind_listener() -> f64 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let options = Options {
        name: "bench",
        handlers: limits::HOOK_HANDLERS,
        under_way_max: limits::HOOK_REQUESTS_MAX,
        counters: Arc::default(),
        settings: Arc::new(Settings::defaults(std::env::temp_dir())),
        bodies: Arc::new(BodyStore::new(std::env::temp_dir(), 64 << 20, 64 << 20)),
        tls: None,
    };
    let listener = Listener::start(socket, options, Arc::new(Idle)).expect("a listener");
    let request = post("/", "", &body());
    let mut answered = load(listener.address(), &request, 200, TIME, usize::MAX);
    answered.report("the same behind the listener");
    listener.stop(Duration::from_secs(5));
    answered.rate
}

/// Large bodies, all at once, and small ones beside them.
fn uploads() {
    let bare = bare_database();
    let server = Server::start("uploads", &["--workers", "8"]);
    let workers = 8;
    let hold = server.hold_workers(workers);
    let (_, path) = server.fleet("true", &["/bin/true"]);
    let large = post(&path, "", &vec![b'x'; UPLOAD_BYTES]);
    let small = post(&path, "", &body());
    let is_done = AtomicBool::new(false);
    let (rate, mut latencies, resident) = thread::scope(|scope| {
        let beside = scope.spawn(|| accept_beside(&server, &small, &is_done));
        let begin = Instant::now();
        let senders: Vec<_> = (0..UPLOADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(server.hooks);
                    for _ in 0..2 {
                        assert_eq!(connection.exchange(&large).0, 201);
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().expect("a sender"));
        let sent = (2 * UPLOADS * UPLOAD_BYTES) as f64 / 1e6;
        let rate = sent / begin.elapsed().as_secs_f64();
        is_done.store(true, Ordering::Relaxed);
        let (latencies, resident) = beside.join().expect("small accepts");
        (rate, latencies, resident)
    });
    drop(hold);
    println!(
        "{UPLOADS} uploads of 25 MiB at once    {rate:>6.0} MB/s   {:.2} of the bare database (at least 0.6)",
        rate / bare
    );
    println!(
        "small accepts beside them    {:>6} in all   p99 {:.1} ms (below 50)   resident {resident:.0} MB (below 150)",
        latencies.len(),
        millis(percentile(&mut latencies, 99)),
    );
}

/// Accepts small bodies until `is_done`. Returns how long each took, and the most memory that the
/// server had meanwhile, in MB.
fn accept_beside(server: &Server, small: &[u8], is_done: &AtomicBool) -> (Vec<Duration>, f64) {
    let mut connection = Connection::open(server.hooks);
    let (mut latencies, mut resident) = (Vec::new(), 0f64);
    while !is_done.load(Ordering::Relaxed) {
        let sent = Instant::now();
        assert_eq!(connection.exchange(small).0, 201);
        latencies.push(sent.elapsed());
        resident = resident.max(server.resident_mb());
        thread::sleep(Duration::from_millis(2));
    }
    (latencies, resident)
}

/// MB per second that sled takes in the same slices, each synced.
fn bare_database() -> f64 {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let _ = std::fs::remove_dir_all(&directory);
    let database = sled::Config::new()
        .path(&directory)
        .cache_capacity(boathook::internals::store::DATABASE_CACHE_BYTES)
        .flush_every_ms(Some(100))
        .open()
        .expect("a database");
    let file = std::fs::File::open(directory.join("db")).expect("its file");
    let row = vec![b'x'; limits::ROW_BYTES_MAX];
    let slices = 2 * UPLOADS * UPLOAD_BYTES / limits::SLICE_BYTES;
    let begin = Instant::now();
    for slice in 0..slices as u64 {
        let mut batch = sled::Batch::default();
        for chunk in 0..(limits::SLICE_BYTES / limits::ROW_BYTES_MAX) as u64 {
            batch.insert([slice.to_be_bytes(), chunk.to_be_bytes()].concat(), row.as_slice());
        }
        database.apply_batch(batch).expect("room");
        database.flush().expect("a flush");
        file.sync_data().expect("a sync");
    }
    let rate = (slices * limits::SLICE_BYTES) as f64 / 1e6 / begin.elapsed().as_secs_f64();
    println!("bare database, the same slices   {rate:>5.0} MB/s");
    drop(database);
    let _ = std::fs::remove_dir_all(&directory);
    rate
}
