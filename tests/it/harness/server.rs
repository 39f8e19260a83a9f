//! A real `boathook serve` with a scratch directory around its data directory.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::api::{Api, Hook, is_final};
use super::{Journal, PATIENCE, processes, redacted, wait_for};

/// The program under test.
pub const BOATHOOK: &str = env!("CARGO_BIN_EXE_boathook");

/// How a server is to be started.
pub struct ServerBuilder {
    settings: Vec<(String, OsString)>,
    hooks_listen: String,
    admin_listen: String,
    shell_prefix: Option<String>,
    data_dir: Option<PathBuf>,
    hooks_socket: Option<OwnedFd>,
}

/// A running server. Killed, with everything it left running, when dropped.
pub struct Server {
    builder: ServerBuilder,
    scratch: TempDir,
    data_dir: PathBuf,
    process: Option<Running>,
    log: Arc<Mutex<String>>,
}

struct Running {
    child: Child,
    hooks: String,
    admin: String,
    is_tls: bool,
    /// What follows the ready line on stdout.
    more_stdout: Receiver<String>,
    log_end: LogEnd,
}

/// Of the log of one process, which is read beside it.
struct LogEnd(Receiver<()>);

impl LogEnd {
    /// Waits until all of the log is there. For a little while only: another process may have it open.
    fn wait(&self) {
        let _ = self.0.recv_timeout(Duration::from_secs(2));
    }
}

impl ServerBuilder {
    /// A setting, by its name in the configuration file.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((format!("BOATHOOK_{}", name.to_uppercase()), value.into()));
        self
    }

    /// Where webhooks listen, elsewhere than on loopback.
    pub fn hooks_listen(mut self, address: &str) -> Self {
        self.hooks_listen = address.to_owned();
        self
    }

    /// Where the admin API listens, at every start.
    pub fn admin_listen(mut self, address: &str) -> Self {
        self.admin_listen = address.to_owned();
        self
    }

    /// Another variable of the server's own environment.
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// Shell commands to run before the server takes the shell's place.
    pub fn after_shell(mut self, commands: &str) -> Self {
        self.shell_prefix = Some(commands.to_owned());
        self
    }

    /// A data directory elsewhere than in the server's scratch directory.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Hands the hooks listener over, as systemd would, at every start.
    pub fn hooks_socket(mut self, listener: TcpListener) -> Self {
        self.hooks_socket = Some(listener.into());
        self.variable("LISTEN_FDS", "1")
            .variable("LISTEN_FDNAMES", "hooks")
            .after_shell("exec 3<&0 0</dev/null; export LISTEN_PID=$$")
    }

    pub fn start(self) -> Server {
        let mut server = self.not_started();
        server.start_again();
        server
    }

    /// A server that is yet to be started.
    pub fn not_started(self) -> Server {
        let scratch = tempfile::Builder::new().prefix("boathook-it-").tempdir().unwrap();
        let data_dir = self.data_dir.clone().unwrap_or_else(|| scratch.path().join("data"));
        Server { builder: self, scratch, data_dir, process: None, log: Arc::default() }
    }
}

impl Server {
    pub fn builder() -> ServerBuilder {
        // Vessels that have to be killed should not hold up the tests that kill them.
        let builder = ServerBuilder {
            settings: Vec::new(),
            hooks_listen: "127.0.0.1:0".to_owned(),
            admin_listen: "127.0.0.1:0".to_owned(),
            shell_prefix: None,
            data_dir: None,
            hooks_socket: None,
        };
        builder.setting("kill_grace", "1s")
    }

    pub fn start() -> Self {
        Self::builder().start()
    }

    fn command(&self) -> Command {
        let mut command = match &self.builder.shell_prefix {
            Some(commands) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(format!("{commands}\nexec \"$0\" \"$@\"")).arg(BOATHOOK);
                command
            }
            None => Command::new(BOATHOOK),
        };
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--hooks-listen", &self.builder.hooks_listen])
            .args(["--admin-listen", &self.builder.admin_listen])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.scratch.path())
            .env("RUST_BACKTRACE", "1")
            .envs(self.builder.settings.iter().map(|(name, value)| (name, value)))
            .stdin(match &self.builder.hooks_socket {
                Some(socket) => Stdio::from(socket.try_clone().unwrap()),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the server without waiting until it is ready.
    fn launch(&self) -> (Child, Receiver<String>, LogEnd) {
        let mut child = self.command().spawn().expect("boathook starts");
        let (lines, stdout) = channel();
        let from_stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in from_stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut from_stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::clone(&self.log);
        let (ends_with_it, log_end) = channel();
        std::thread::spawn(move || {
            let _ends_with_it: Sender<()> = ends_with_it;
            let mut line = Vec::new();
            while from_stderr.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        (child, stdout, LogEnd(log_end))
    }

    /// Starts a server again on the same data directory and waits until it is ready.
    pub fn start_again(&mut self) {
        if let Err(problem) = self.try_start_again() {
            panic!("{problem}\n{}", self.log_tail());
        }
    }

    /// The same; an error when it does not become ready.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "the server is running already");
        let (mut child, stdout, log_end) = self.launch();
        let give_up = Instant::now() + PATIENCE;
        let line = loop {
            match stdout.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Timeout) if Instant::now() < give_up => {}
                Err(_) => {
                    let _ = child.kill();
                    let status = child.wait().unwrap();
                    log_end.wait();
                    return Err(format!("the server did not become ready: {status}"));
                }
            }
        };
        let is_tls = line.contains("hooks=https://");
        let line = line.replacen("hooks=https://", "hooks=http://", 1);
        let addresses = line
            .strip_prefix("boathook ready hooks=http://")
            .and_then(|rest| rest.split_once(" admin=http://"));
        let Some((hooks, admin)) = addresses else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("not a ready line: {line:?}"));
        };
        let (hooks, admin) = (hooks.to_owned(), admin.to_owned());
        self.process = Some(Running { child, hooks, admin, is_tls, more_stdout: stdout, log_end });
        Ok(())
    }

    /// Starts the server and kills it after `delay`, wherever it is by then.
    pub fn start_and_kill(&mut self, delay: Duration) {
        assert!(self.process.is_none(), "the server is running already");
        let (mut child, _stdout, log_end) = self.launch();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        log_end.wait();
    }

    fn running(&self) -> &Running {
        self.process.as_ref().expect("the server runs")
    }

    /// `host:port` of the hooks listener.
    pub fn hooks(&self) -> &str {
        &self.running().hooks
    }

    /// Whether the hooks listener speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.running().is_tls
    }

    /// `host:port` of the admin listener.
    pub fn admin(&self) -> &str {
        &self.running().admin
    }

    pub fn pid(&self) -> i32 {
        self.running().child.id() as i32
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A directory for the test's own files, outside the data directory.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A journal called `name` in the scratch directory.
    pub fn journal(&self, name: &str) -> Journal {
        Journal::new(self.scratch.path().join(name))
    }

    /// A client with the token that the server left in its data directory.
    pub fn api(&self) -> Api {
        Api::new(&format!("http://{}", self.admin()), &self.token())
    }

    /// The admin token.
    pub fn token(&self) -> String {
        let path = self.data_dir.join("admin.token");
        fs::read_to_string(path).expect("the server leaves admin.token").trim().to_owned()
    }

    /// Applies a fleet and adds its webhook: (fleet id, webhook).
    #[track_caller]
    pub fn fleet_with_webhook(&self, definition: &serde_json::Value) -> (String, Hook) {
        let api = self.api();
        let fleet = api.apply(definition);
        let hook = api.add_webhook(&fleet);
        (fleet, hook)
    }

    /// Everything the servers on this data directory logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The end of the log, without secrets.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 60;
        let log = redacted(&self.log());
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("--- the end of the server's log\n{}", tail.join("\n"))
    }

    /// Waits until `condition` holds; fails the test with `what` and the log's end otherwise.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if wait_for(|| condition().then_some(())).is_none() {
            panic!("waited in vain until {what}\n{}", self.log_tail());
        }
    }

    /// Waits until every run has ended: all of them.
    #[track_caller]
    pub fn wait_all_ended(&self) -> Vec<serde_json::Value> {
        let mut runs = Vec::new();
        self.wait_until("every run has ended", || {
            runs = self.api().all_runs();
            runs.iter().all(is_final)
        });
        runs
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).expect("the server is there");
    }

    /// SIGKILL; returns when the server is gone. Its vessels stay.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        process.log_end.wait();
    }

    /// Waits until the server has gone by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("the server runs");
        match wait_for(|| process.child.try_wait().unwrap()) {
            Some(status) => {
                process.log_end.wait();
                self.process = None;
                status
            }
            None => panic!("waited in vain until the server exits\n{}", self.log_tail()),
        }
    }

    /// SIGTERM; returns when the server has exited, which it must do with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.log_tail());
    }

    /// Kills the server and starts another one on the same data directory.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Whether the server has written anything to stdout after its ready line.
    pub fn has_more_stdout(&self) -> bool {
        self.running().more_stdout.try_recv().is_ok()
    }

    /// `script` for /bin/sh in the scratch directory: `$0` is the program, which finds this server.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, BOATHOOK]).current_dir(self.scratch()).stdin(Stdio::null());
        shell.env_clear();
        for (name, value) in self.cli(&[]).get_envs() {
            shell.envs(value.map(|value| (name, value)));
        }
        shell
    }

    /// `script` as [`shell`](Self::shell) runs it, on a terminal of its own: its exit code, and all
    /// that the terminal was sent.
    #[track_caller]
    pub fn on_terminal(&self, script: &str) -> (i32, String) {
        self.on_terminal_with(script, "")
    }

    /// The same with `typed` by a person.
    #[track_caller]
    pub fn on_terminal_with(&self, script: &str, typed: &str) -> (i32, String) {
        let path = self.scratch().join("on-terminal.sh");
        fs::write(&path, script.replace("\"$0\"", &format!("'{BOATHOOK}'"))).unwrap();
        // Of util-linux; runs its command on a new pseudo-terminal and copies what that shows.
        let mut command = self.shell("exec script -qec 'exec /bin/sh on-terminal.sh' /dev/null");
        command.env("SHELL", "/bin/sh").env("TERM", "xterm-256color");
        let input = self.scratch().join("typed");
        fs::write(&input, typed).unwrap();
        command.stdin(fs::File::open(input).unwrap());
        let output = command.output().expect("script is installed");
        let code = output.status.code().expect("an exit code");
        (code, String::from_utf8(output.stdout).expect("a terminal is sent UTF-8"))
    }

    /// A client command for this server: found by its data directory alone.
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BOATHOOK);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.scratch.path())
            .env("BOATHOOK_DATA_DIR", &self.data_dir)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        // What a killed server leaves is known by the work directory it was given.
        let prefix = format!("SHIPYARD_LOG_WORKDIR={}/", self.data_dir.display());
        let _ = wait_for(|| {
            let left = processes::with_environment_prefix(&prefix);
            processes::kill(&left);
            left.is_empty().then_some(())
        });
        if std::thread::panicking() {
            println!("{}", self.log_tail());
        }
    }
}

/// Runs `command` to its end: (exit code, stdout, stderr).
#[track_caller]
pub fn finish(mut command: Command) -> (i32, String, String) {
    let output = command.output().expect("boathook starts");
    let code = output.status.code().expect("an exit code");
    (
        code,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A backup of `server`, in its scratch directory.
#[track_caller]
pub fn back_up(server: &Server, name: &str) -> PathBuf {
    let path = server.scratch().join(name);
    let (code, _, said) = finish(server.cli(&["backup", path.to_str().unwrap()]));
    assert_eq!(code, 0, "{}\n{}", redacted(&said), server.log_tail());
    path
}

/// `boathook restore`, of `backup` to `data_dir`.
pub fn restore_command(backup: &Path, data_dir: &Path) -> Command {
    let mut command = Command::new(BOATHOOK);
    command.env_clear().arg("restore").arg(backup).arg("--data-dir").arg(data_dir);
    command
}

/// A server, not started, on what the backup restores to.
#[track_caller]
pub fn restored(backup: &Path, flags: &[&str]) -> Server {
    let server = Server::builder().not_started();
    let mut restore = restore_command(backup, server.data_dir());
    restore.args(flags);
    let (code, said, problems) = finish(restore);
    assert_eq!(code, 0, "{problems}");
    assert!(said.contains("restored the backup of") && problems.contains("serve"), "{said}");
    server
}

/// Reads `reader` until the text so far contains `needle`; the text.
#[track_caller]
pub fn read_until(reader: &mut impl Read, needle: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(needle) {
        let length = reader.read(&mut buffer).unwrap();
        assert!(length > 0, "ended before {needle:?}: {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
