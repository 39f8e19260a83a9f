//! The real binary, on a data directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Connection, post};

/// A running server; killed when it goes out of scope.
pub struct Server {
    child: Child,
    pub hooks: SocketAddr,
    pub admin: SocketAddr,
    data_dir: PathBuf,
    arguments: Vec<String>,
    /// From the start of the process to its ready line.
    pub ready_after: Duration,
}

impl Server {
    /// Starts on a new data directory below the target directory: a disk, not a tmpfs.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let data_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&data_dir);
        std::fs::create_dir_all(&data_dir).expect("a data directory");
        Self::start_on(data_dir, arguments.iter().map(|it| (*it).to_owned()).collect())
    }

    fn start_on(data_dir: PathBuf, arguments: Vec<String>) -> Self {
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_boathook"))
            .args(["serve", "--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--log", "error", "--data-dir"])
            .arg(&data_dir)
            .args(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a ready line");
        let ready_after = begin.elapsed();
        let address = |key: &str| {
            let (_, rest) = line.split_once(key).expect("an address");
            rest.split_whitespace().next().expect("an address").parse().expect("an address")
        };
        let (hooks, admin) = (address("hooks=http://"), address("admin=http://"));
        Self { child, hooks, admin, data_dir, arguments, ready_after }
    }

    /// Ends the server and starts it again on the same data.
    pub fn restart(mut self) -> Self {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (data_dir, arguments) = (std::mem::take(&mut self.data_dir), self.arguments.clone());
        Self::start_on(data_dir, arguments)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An admin request; the `data` of its answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.admin(method, path, body);
        serde_json::from_slice::<Value>(&answer).expect("JSON")["data"].take()
    }

    /// An admin request without a body; its answer as it is.
    pub fn raw(&self, method: &str, path: &str) -> Vec<u8> {
        self.admin(method, path, "")
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let token = std::fs::read_to_string(self.data_dir.join("admin.token")).expect("a token");
        let headers = format!("Authorization: Bearer {}\r\n", token.trim());
        let request = String::from_utf8(post(path, &headers, body.as_bytes())).expect("text");
        let request = request.replacen("POST", method, 1);
        let (status, answer) = Connection::open(self.admin).exchange(request.as_bytes());
        assert!(status < 300, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// Adds a fleet of one vessel with a webhook. Returns its id and the path of its URL.
    pub fn fleet(&self, name: &str, command: &[&str]) -> (String, String) {
        let vessels = serde_json::json!({"main": {"command": command}});
        self.add_fleet(&serde_json::json!({"name": name, "vessels": vessels}))
    }

    /// Adds a fleet with a webhook. Returns its id and the path of its URL.
    pub fn add_fleet(&self, fleet: &Value) -> (String, String) {
        let fleet = self.api("POST", "/api/v1/fleets", &fleet.to_string());
        let id = fleet["id"].as_str().expect("an id").to_owned();
        let webhook = self.api("POST", &format!("/api/v1/fleets/{id}/webhook"), "");
        let url = webhook["url"].as_str().expect("a URL");
        let path = url.find("/hooks/").expect("a path");
        (id, url[path..].to_owned())
    }

    /// Resident memory in MB.
    pub fn resident_mb(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
        kib.expect("a number") / 1024.0
    }

    /// Occupies every worker, so that what is accepted next waits. Dropping the result lets go.
    pub fn hold_workers(&self, workers: usize) -> Hold {
        let pipe = self.data_dir.join("hold");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let held = format!("exec cat {} >/dev/null", pipe.display());
        let (fleet, path) = self.fleet("hold", &["/bin/sh", "-c", &held]);
        let mut connection = Connection::open(self.hooks);
        for _ in 0..workers {
            connection.exchange(&post(&path, "", b""));
        }
        let running = format!("/api/v1/runs?fleet={fleet}&status=Running&limit=1000");
        while self.api("GET", &running, "").as_array().map_or(0, Vec::len) < workers {
            std::thread::sleep(Duration::from_millis(20));
        }
        Hold { _writer: std::fs::OpenOptions::new().write(true).open(&pipe).expect("the pipe") }
    }

    /// Waits until no run of `fleet` is waiting or running.
    pub fn await_drained(&self, fleet: &str) {
        for status in ["Scheduled", "Running"] {
            let left = format!("/api/v1/runs?fleet={fleet}&status={status}&limit=1");
            while !self.api("GET", &left, "").as_array().is_some_and(Vec::is_empty) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Workers that wait for the end of a pipe.
pub struct Hold {
    _writer: std::fs::File,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.data_dir.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.data_dir);
        }
    }
}
