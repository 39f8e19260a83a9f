//! Programs that listen where a server listened, or is said to: the command line tells them nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::harness::server::{finish, read_until};
use crate::harness::{Server, wait_until};

/// What an impostor does with a connection, the first request of which was read.
#[derive(Clone)]
enum Trick {
    /// Answers everything with this status and data.
    Say(u16, String),
    /// Passes everything on to this address.
    PassOn(String),
    Close,
    /// Answers nothing.
    Wait,
}

/// A program that listens at an address and keeps what it is sent.
struct Impostor {
    address: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Impostor {
    fn start(address: &str, trick: Trick) -> Self {
        let mut listener = None;
        wait_until("the address is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, trick) = (Arc::clone(&kept), trick.clone());
                thread::spawn(move || play(stream, &trick, &kept));
            }
        });
        Self { address, received }
    }

    fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }

    /// Fails if it was sent anything but the request for a proof.
    #[track_caller]
    fn learnt_nothing(&self, token: &str) {
        let received = self.received();
        assert!(!received.contains(token), "the token was sent");
        assert!(!received.contains("Authorization"), "{received}");
        assert!(!received.contains("a private body"), "{received}");
        let requests = received.lines().filter(|line| line.contains(" HTTP/1.1"));
        for request in requests {
            assert!(request.starts_with("GET /api/v1/proof?nonce="), "{request}");
        }
    }
}

fn play(mut stream: TcpStream, trick: &Trick, kept: &Mutex<Vec<u8>>) {
    let upstream = match trick {
        Trick::PassOn(address) => TcpStream::connect(address).ok(),
        _ => None,
    };
    if let Some(upstream) = &upstream {
        let (mut from, mut to) = (upstream.try_clone().unwrap(), stream.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.lock().unwrap().extend_from_slice(&buffer[..count]);
        match trick {
            Trick::Say(status, data) => {
                let body = format!(r#"{{"request":{{"id":"x"}},"data":{data}}}"#);
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
            Trick::PassOn(_) => {
                let _ = upstream.as_ref().unwrap().write_all(&buffer[..count]);
            }
            Trick::Close => return,
            Trick::Wait => {}
        }
    }
}

fn fleet_file(server: &Server) -> String {
    let path = server.scratch().join("fleet.yaml");
    fs::write(&path, "name: f\nvessels: {v: {run: \"echo a private body\"}}\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn after_a_stop_no_verb_sends_the_token_to_what_took_the_port() {
    let mut server = Server::start();
    let token = server.token();
    let admin = server.admin().to_owned();
    let fleet = fleet_file(&server);
    let run = "00000000-0000-0000-0000-000000000000";
    server.stop();
    assert!(server.data_dir().join("admin.url").is_file(), "as before the stop");
    let impostor = Impostor::start(&admin, Trick::Say(200, "[]".to_owned()));
    let start = format!("boathook serve --data-dir {}", server.data_dir().display());
    let backup = server.scratch().join("backup");
    let backup = backup.to_str().unwrap();
    for arguments in [
        &["runs", "list"][..],
        &["fleet", "apply", &fleet],
        &["fleet", "list", "--json"],
        &["webhook", "add", "f"],
        &["run", "f", "--body", &fleet, "--follow"],
        &["runs", "logs", run, "--follow"],
        &["runs", "body", run],
        &["runs", "stop", run],
        &["backup", backup],
        &["open"],
    ] {
        let (code, stdout, stderr) = finish(server.cli(arguments));
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("is stopped") && stderr.contains(&start), "{stderr}");
        assert!(stderr.contains(&admin), "{stderr}");
    }
    assert!(!fs::exists(backup).unwrap());
    let (code, stdout, _) = finish(server.cli(&["doctor"]));
    assert_eq!(code, 1);
    assert!(stdout.contains("is not your server") && stdout.contains("is stopped"), "{stdout}");
    assert!(stdout.contains("database       ok"), "{stdout}");
    impostor.learnt_nothing(&token);
    assert!(impostor.received().contains("/api/v1/proof"), "it was asked");
}

#[test]
fn a_given_address_is_proven_before_a_given_token_is_sent() {
    let server = Server::start();
    let token = server.token();
    let token_file = server.data_dir().join("admin.token");
    let token_file = token_file.to_str().unwrap();
    let impostor = Impostor::start("127.0.0.1:0", Trick::Say(200, "[]".to_owned()));
    let url = format!("http://{}", impostor.address);
    let clean = |arguments: &[&str]| {
        let mut command = server.cli(arguments);
        command.env_remove("BOATHOOK_DATA_DIR");
        command
    };
    let refuse = |command: Command| {
        let (code, stdout, stderr) = finish(command);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains("is not your server") && stderr.contains(&url), "{stderr}");
        assert!(!stderr.contains(&token));
    };
    refuse(clean(&["runs", "list", "--url", &url, "--token-file", token_file]));
    let mut command = clean(&["runs", "list"]);
    command.env("BOATHOOK_URL", &url).env("BOATHOOK_TOKEN", &token);
    refuse(command);
    let data_dir = server.data_dir().to_str().unwrap();
    refuse(clean(&["runs", "list", "--url", &url, "--data-dir", data_dir]));
    impostor.learnt_nothing(&token);

    // A tunnel leads to the server, and its address is given by who made it.
    let tunnel = Impostor::start("127.0.0.1:0", Trick::PassOn(server.admin().to_owned()));
    let url = format!("http://{}", tunnel.address);
    let (code, _, stderr) =
        finish(clean(&["runs", "list", "--url", &url, "--token-file", token_file]));
    assert_eq!(code, 0, "{stderr}");
    // A name of this machine, and a slash at the end.
    let port = server.admin().rsplit(':').next().unwrap();
    let url = format!("http://localhost:{port}/");
    let (code, _, stderr) =
        finish(clean(&["runs", "list", "--url", &url, "--token-file", token_file]));
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn no_answer_but_a_proof_is_taken_for_one() {
    let mut server = Server::start();
    let token = server.token();
    let proof = |nonce: &str| {
        let answer = server.api().get(&format!("/api/v1/proof?nonce={nonce}")).expect(200);
        answer.data().to_string()
    };
    let of_yesterday = proof(&"0".repeat(64));
    // Each answer is another, so that none can be prepared.
    assert_ne!(of_yesterday, proof(&"1".repeat(64)));
    let admin = server.admin().to_owned();
    server.stop();
    let mut address = admin;
    for trick in [
        Trick::Say(200, of_yesterday.clone()),
        Trick::Say(200, of_yesterday.replace(|it: char| it.is_ascii_digit(), "0")),
        Trick::Say(200, "null".to_owned()),
        Trick::Say(401, "null".to_owned()),
        Trick::Say(503, "null".to_owned()),
        Trick::Say(302, "null".to_owned()),
        Trick::Close,
        Trick::Wait,
    ] {
        let impostor = Impostor::start(&address, trick);
        let (code, _, stderr) = finish(server.cli(&["runs", "list"]));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("is stopped"), "{stderr}");
        impostor.learnt_nothing(&token);
        // The next one listens elsewhere.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        address = listener.local_addr().unwrap().to_string();
        fs::write(server.data_dir().join("admin.url"), format!("http://{address}\n")).unwrap();
    }
    fs::remove_file(server.data_dir().join("admin.url")).unwrap();
    server.start_again();
    assert_eq!(finish(server.cli(&["runs", "list"])).0, 0);
}

#[test]
fn the_proof_of_another_server_with_the_same_token_does_not_count() {
    let mut server = Server::start();
    let token = server.token();
    let credentials = server.scratch().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("admin.token"), &token).unwrap();
    let other = Server::builder().variable("CREDENTIALS_DIRECTORY", &credentials).start();
    assert!(other.token() == token);
    let admin = server.admin().to_owned();
    server.stop();
    let impostor = Impostor::start(&admin, Trick::PassOn(other.admin().to_owned()));
    let (code, _, stderr) = finish(server.cli(&["runs", "list"]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(other.admin()) && stderr.contains("is stopped"), "{stderr}");
    impostor.learnt_nothing(&token);
}

#[test]
fn a_connection_that_is_opened_again_is_proven_again() {
    let mut server = Server::start();
    let token = server.token();
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "f", "vessels": {"v": {"run": "echo begun; exec sleep 100000"}},
    }));
    let run = api.start(&fleet);
    let mut follower = server.cli(&["runs", "logs", &run, "--follow"]);
    follower.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = follower.spawn().unwrap();
    read_until(follower.stdout.as_mut().unwrap(), "begun");
    let admin = server.admin().to_owned();
    server.kill();
    let impostor = Impostor::start(&admin, Trick::Say(200, "[]".to_owned()));
    let output = follower.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("is not your server"), "{stderr}");
    impostor.learnt_nothing(&token);

    // What a kill leaves behind is no obstacle.
    server.start_again();
    assert_eq!(finish(server.cli(&["runs", "list"])).0, 0);
}

#[test]
fn a_server_that_does_not_listen_yet_is_not_called_stopped() {
    let server = Server::start();
    // As if the port of another server, or of one that is just starting, were recorded.
    fs::write(server.data_dir().join("admin.url"), "http://127.0.0.1:1\n").unwrap();
    let (code, _, stderr) = finish(server.cli(&["runs", "list"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("nothing answers") && !stderr.contains("is stopped"), "{stderr}");
    assert!(stderr.contains("starting or stopping"), "{stderr}");
}

#[test]
fn a_proof_is_for_a_number_of_the_right_form_and_needs_no_token() {
    let server = Server::start();
    let stranger = server.api().with_token("wrong");
    for query in ["", "?nonce=", "?nonce=00", "?nonce=zz", "?nonce=00&x=1"] {
        assert_eq!(stranger.get(&format!("/api/v1/proof{query}")).status, 400, "{query}");
    }
    let path = format!("/api/v1/proof?nonce={}", "0a".repeat(32));
    let proof = stranger.get(&path).expect(200).data();
    assert_eq!(proof["address"], server.admin());
    assert_eq!(stranger.call("POST", &path, None).status, 405);
    assert_eq!(stranger.get("/api/v1/proof/x").status, 401);
    // The webhook listener knows nothing of it.
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = crate::harness::http::exchange(server.hooks(), request.as_bytes()).unwrap();
    assert_eq!(answer.status, 405);
}
