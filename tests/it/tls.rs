//! TLS on the webhook listener: with real clients, with those that speak something else, and while
//! certificates change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::certificate::{Certificate, HOST};
use crate::harness::http::Connection;
use crate::harness::server::finish;
use crate::harness::{Hook, Random, Server, ServerBuilder, sha256};

fn with(certificate: &Certificate) -> ServerBuilder {
    Server::builder()
        .setting("tls_cert", certificate.certificate.to_str().unwrap())
        .setting("tls_key", certificate.key.to_str().unwrap())
}

fn port(server: &Server) -> &str {
    server.hooks().rsplit_once(':').unwrap().1
}

/// curl with `arguments` on `target`, believing `certificate`: (exit code, answer, status).
fn curl(
    server: &Server,
    certificate: &Certificate,
    arguments: &[&str],
    target: &str,
) -> (i32, String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "-w", "\n%{num_connects} %{http_code}"])
        .args(certificate.curl_arguments(port(server)))
        .args(arguments)
        .arg(format!("https://{HOST}:{}{target}", port(server)));
    let (code, stdout, _) = finish(curl);
    let (answer, status) = stdout.rsplit_once('\n').unwrap_or_default();
    (code, answer.to_owned(), status.to_owned())
}

/// What openssl's client says of a handshake with `arguments`.
fn handshake(server: &Server, arguments: &[&str]) -> (bool, String) {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", server.hooks(), "-servername", HOST]).args(arguments);
    let output = openssl.stdin(Stdio::null()).output().expect("openssl is installed");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn posts_arrive_over_tls() {
    let scratch = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(scratch.path(), "first");
    let mut server = with(&certificate).start();
    assert!(server.is_tls(), "the ready line says so");
    let api = server.api();
    let fleet = api.apply(&json!({"name": "sealed", "vessels": {"v": {"command": ["sha256sum"]}}}));
    let added =
        api.call("POST", &format!("/api/v1/fleets/{fleet}/webhook"), None).expect(201).data();
    let url = added["url"].as_str().unwrap();
    assert!(url.starts_with("https://127.0.0.1:"));
    let hook = Hook::from_url(url);
    let mut random = Random::seeded(1);
    let body = scratch.path().join("body");
    for (length, header) in
        [(0, "A: b"), (70_000, "Transfer-Encoding: chunked"), (25 << 20, "A: b")]
    {
        let bytes = random.bytes(length);
        fs::write(&body, &bytes).unwrap();
        let data = format!("@{}", body.display());
        let (code, answer, status) =
            curl(&server, &certificate, &["-H", header, "--data-binary", &data], &hook.target());
        assert_eq!((code, status.as_str()), (0, "1 201"), "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let run = api.wait_status(answer["data"]["fleet_run_id"].as_str().unwrap(), "Success");
        assert_eq!(api.output(&run, "v"), format!("{}  -\n", sha256(&bytes)));
    }
    let health = curl(&server, &certificate, &[], "/healthz");
    assert_eq!(health, (0, "ok".into(), "1 200".into()));
    // One connection for several requests.
    let twice = format!("https://{HOST}:{}/healthz", port(&server));
    let (code, answer, status) = curl(&server, &certificate, &[&twice], "/healthz");
    assert_eq!((code, answer.as_str()), (0, "ok\n1 200ok"));
    assert_eq!(status, "0 200", "the second one makes no connection");
    server.stop();
}

#[test]
fn only_what_is_safe_is_spoken() {
    let scratch = tempfile::tempdir().unwrap();
    let server = with(&Certificate::make(scratch.path(), "first")).start();
    for version in ["-tls1_2", "-tls1_3"] {
        let (ok, said) = handshake(&server, &[version, "-alpn", "h2,http/1.1"]);
        assert!(ok && said.contains("ALPN protocol: http/1.1"), "{version}: {said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let (ok, said) = handshake(&server, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert!(!ok && said.contains("SSL alert number"), "{version}: {said}");
    }
    // HTTP without TLS is told so, and nothing else.
    let mut plain = Connection::open(server.hooks()).unwrap();
    plain.send(b"POST /hooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    let answer = plain.answer().unwrap().expect(400);
    assert!(answer.json()["request"]["id"].is_string());
    assert_eq!(plain.read_to_end(), b"");
    // So is noise, with less to say.
    let mut noise = Connection::open(server.hooks()).unwrap();
    noise.send(b"\x80\x00\x01\x02").unwrap();
    noise.finish_sending().unwrap();
    assert!(!noise.read_to_end().starts_with(b"HTTP"));
    assert!(handshake(&server, &[]).0);
}

#[test]
fn a_handshake_has_as_much_time_as_a_head() {
    let scratch = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(scratch.path(), "first");
    let server = with(&certificate).setting("head_timeout", "1s").start();
    let begun = Instant::now();
    let silent = Connection::open(server.hooks()).unwrap();
    let mut halting = Connection::open(server.hooks()).unwrap();
    // The beginning of a ClientHello.
    halting.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    assert_eq!(silent.read_to_end(), b"");
    halting.read_to_end();
    assert!(begun.elapsed() < crate::harness::PATIENCE, "they are let go");
    assert_eq!(curl(&server, &certificate, &[], "/healthz").2, "1 200");
}

#[test]
fn certificates_change_without_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| Certificate::make(scratch.path(), name));
    let served = Certificate {
        certificate: scratch.path().join("served.pem"),
        key: scratch.path().join("served.key"),
    };
    let serve = |certificate: &Certificate| {
        fs::copy(&certificate.certificate, &served.certificate).unwrap();
        fs::copy(&certificate.key, &served.key).unwrap();
    };
    let code = |server: &Server, certificate| curl(server, certificate, &[], "/healthz").0;
    const NOT_BELIEVED: i32 = 60;

    serve(&first);
    fs::set_permissions(&served.key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut server = with(&served).start();
    server.wait_until("it warns", || server.log().contains("others may read the TLS key"));
    assert_eq!((code(&server, &first), code(&server, &second)), (0, NOT_BELIEVED));
    serve(&second);
    server.signal(Signal::HUP);
    server.wait_until("the new one is served", || code(&server, &second) == 0);
    assert_eq!(code(&server, &first), NOT_BELIEVED);

    // Half of a pair, or no certificate at all, changes nothing.
    for (path, content) in [
        (&served.certificate, fs::read(&first.certificate).unwrap()),
        (&served.certificate, b"not PEM".to_vec()),
        (&served.key, Vec::new()),
    ] {
        let complaints = || server.log().matches("the certificate stays as it is").count();
        let before = complaints();
        fs::write(path, content).unwrap();
        server.signal(Signal::HUP);
        server.wait_until("it complains", || complaints() > before);
        assert_eq!(code(&server, &second), 0);
        serve(&second);
    }
    server.stop();
}

#[test]
fn what_cannot_be_served_keeps_the_server_from_starting() {
    let scratch = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| Certificate::make(scratch.path(), name));
    let crossed = Certificate { certificate: first.certificate.clone(), key: second.key.clone() };
    let missing =
        Certificate { certificate: scratch.path().join("no.pem"), key: first.key.clone() };
    let without_key =
        Certificate { certificate: first.certificate.clone(), key: scratch.path().join("no.key") };
    let swapped = Certificate { certificate: first.key.clone(), key: first.key.clone() };
    for (certificate, expected) in [
        (crossed, "does not go with the certificate"),
        (missing, "no.pem is missing; the setting tls_cert names it"),
        (without_key, "no.key is missing; the setting tls_key names it"),
        (swapped, "there is no certificate in"),
    ] {
        let mut server = with(&certificate).not_started();
        assert!(server.try_start_again().is_err());
        server.wait_until("it says why", || server.log().contains(expected));
    }
    let mut server =
        Server::builder().setting("tls_key", first.key.to_str().unwrap()).not_started();
    assert!(server.try_start_again().is_err());
    server.wait_until("it says why", || server.log().contains("tls_cert and tls_key go together"));
}
