//! nginx and Caddy in front of servers, configured by blocks of the help topics.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;
use tempfile::TempDir;

use super::server::finish;

/// The first block in this language below the heading of a topic, with `replacements` made, each of which
/// must be there.
pub fn topic_block(
    topic: &str,
    heading: &str,
    language: &str,
    replacements: &[(&str, &str)],
) -> String {
    let (_, section) = topic.split_once(heading).expect("a heading of the topic");
    let (_, rest) = section.split_once(&format!("```{language}\n")).expect("a block in the topic");
    let (block, _) = rest.split_once("```").unwrap();
    replacements.iter().fold(block.to_owned(), |block, (from, to)| {
        assert!(block.contains(from), "no {from:?} in the block");
        block.replace(from, to)
    })
}

pub fn free_port() -> u16 {
    // Below the ports that the system gives away: no server of another test takes it meanwhile.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A proxy in front of servers. Ended when dropped.
pub struct Proxy {
    child: Child,
    pub scratch: TempDir,
    /// What clients begin URLs with.
    pub base: String,
    /// Of curl, to get there.
    pub arguments: Vec<String>,
}

impl Proxy {
    fn spawn(mut command: Command, scratch: TempDir, base: String, arguments: Vec<String>) -> Self {
        let log = fs::File::create(scratch.path().join("log")).unwrap();
        let child = command
            .current_dir(scratch.path())
            .env_clear()
            .env("HOME", scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the proxy is installed: tests/run installs it");
        Self { child, scratch, base, arguments }
    }

    /// nginx with these blocks of its `http` block. `scratch` may hold their files.
    pub fn nginx(scratch: TempDir, blocks: &str, base: String, arguments: Vec<String>) -> Self {
        let directory = scratch.path().display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {directory}/pid;\n\
             error_log {directory}/error.log;\nevents {{}}\n\
             http {{ access_log {directory}/access.log;\n{paths}{blocks}}}\n"
        );
        let file = scratch.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-e").arg(scratch.path().join("early.log")).arg("-c").arg(&file);
        Self::spawn(command, scratch, base, arguments)
    }

    /// Caddy with this Caddyfile.
    pub fn caddy(text: &str, base: String) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let caddyfile = scratch.path().join("Caddyfile");
        fs::write(&caddyfile, text).unwrap();
        let mut adapt = Command::new("caddy");
        adapt.args(["adapt", "--config"]).arg(&caddyfile);
        let (code, adapted, said) = finish(adapt);
        assert_eq!(code, 0, "{said}");
        let mut configuration: serde_json::Value = serde_json::from_str(&adapted).unwrap();
        // Its own admin listener has one port on the whole machine.
        configuration["admin"] = json!({"disabled": true});
        let file = scratch.path().join("caddy.json");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new("/usr/bin/caddy");
        command.args(["run", "--config"]).arg(&file);
        Self::spawn(command, scratch, base, Vec::new())
    }

    /// What curl says with these arguments, the last of which is a target.
    pub fn curl(&self, arguments: &[&str], target: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60"])
            .args(&self.arguments)
            .args(arguments)
            .arg(format!("{}{target}", self.base));
        finish(curl).1
    }

    /// POSTs the file `body` as 127.0.0.2: (status, answer).
    pub fn post(&self, target: &str, body: &Path, more: &[&str]) -> (String, String) {
        let file = format!("@{}", body.display());
        let own = ["--interface", "127.0.0.2", "-w", "\n%{http_code}"];
        let content = ["-H", "Content-Type: application/octet-stream", "--data-binary", &file];
        let said = self.curl(&[&own[..], &content, more].concat(), target);
        let (answer, status) = said.rsplit_once('\n').unwrap_or_default();
        (status.to_owned(), answer.to_owned())
    }

    /// A request without a body: (status, the header `Access-Control-Allow-Origin`).
    pub fn ask(&self, method: &str, target: &str) -> (String, String) {
        let how: &[&str] = if method == "HEAD" { &["-I"] } else { &["-X", method] };
        let shown = "%{http_code} %header{access-control-allow-origin}";
        let said = self.curl(&[how, &["-o", "/dev/null", "-w", shown]].concat(), target);
        let (status, origin) = said.split_once(' ').unwrap_or_default();
        (status.to_owned(), origin.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            println!("--- the proxy's log\n{}", super::redacted(&log));
        }
    }
}
