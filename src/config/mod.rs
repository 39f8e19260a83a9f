//! The settings of a server and their sources: a flag, else the environment, else
//! `boathook.toml`, else its default ([`defaults`]). A server has one [`Settings`], which all rooms
//! that need settings share.
//!
//! A field of [`Sources`] is a flag, an environment variable and a line of the file at once.
//! [`Settings`] is the result, complete and checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::model::mail::MailServer;
use crate::model::network::Networks;
use crate::model::rate::Rate;
use crate::model::retention::Retention;
use crate::model::runner::Runners;

pub mod defaults;
mod effective;
mod environment;
mod file;
mod runners;
pub mod secrets;
mod smtp;
mod url;
mod values;

use defaults::{KEEP_VERSIONS_MAX, TIMEOUT_RANGE, WORKERS_MAX};
pub use effective::{DEFAULT_SOURCE, EffectiveSetting, effective};
pub use environment::{UnknownVariable, unknown_variables};

pub use file::{FileLine, file_lines, settings_file};
use file::{read_default_file, read_file};
use runners::{RunnerTable, runners};
pub use smtp::SmtpUrl;
use smtp::{MailSettings, mail_server};
pub use url::{BasePath, HttpUrl, PublicUrl, Reach, ServiceUrl};
pub use values::{
    ByteSize, Count, HostNames, KeepWorkdir, ListenAddress, LogLevel, Names, Period,
    TrustedProxies, whole_number,
};

/// The name of the configuration file, in the data directory and in [`SYSTEM_DIRECTORY`].
pub const FILE_NAME: &str = "boathook.toml";
/// The directory of the configuration file for the whole machine.
pub const SYSTEM_DIRECTORY: &str = "/etc/boathook";
/// The data directory of the packaged service.
pub const SYSTEM_DATA_DIRECTORY: &str = "/var/lib/boathook";

/// One source of settings: the command line with the environment, or the file. The
/// help texts name the [`defaults`]; a test compares the two.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Where everything is kept [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/boathook, else
    /// ~/.local/state/boathook]
    #[arg(long, env = "BOATHOOK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where webhooks listen; port 0 picks a free one [default: 127.0.0.1:9000]
    #[arg(long, env = "BOATHOOK_HOOKS_LISTEN", value_name = "ADDR")]
    pub hooks_listen: Option<ListenAddress>,

    /// Where the admin API listens; port 0 picks a free one [default: 127.0.0.1:9001]
    #[arg(long, env = "BOATHOOK_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<ListenAddress>,

    /// Names by which browsers may ask for the admin pages, separated by commas; those of a proxy in
    /// front [default: addresses and localhost only]
    #[arg(long, env = "BOATHOOK_ADMIN_HOSTS", value_name = "NAMES")]
    pub admin_hosts: Option<HostNames>,

    /// The path below which a proxy in front shows the admin pages and their API, such as /boathook
    /// [default: the host is theirs alone]
    #[arg(long, env = "BOATHOOK_ADMIN_BASE_PATH", value_name = "PATH")]
    pub admin_base_path: Option<BasePath>,

    /// What webhook URLs begin with, as senders see it: https://hooks.example.com [default: the
    /// address of the listener]
    #[arg(long, env = "BOATHOOK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// GitHub's API, of which `webhook recover` asks for missed deliveries; that of GitHub Enterprise
    /// Server: https://HOST/api/v3 [default: https://api.github.com]
    #[arg(long, env = "BOATHOOK_GITHUB_API_URL", value_name = "URL")]
    pub github_api_url: Option<ServiceUrl>,

    /// Certificate of the webhook listener, with those between it and the root, as PEM; read again
    /// at SIGHUP [default: no TLS]
    #[arg(long, env = "BOATHOOK_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, as PEM
    #[arg(long, env = "BOATHOOK_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Vessels that run at a time [default: 4 per core, at least 8]
    #[arg(long, env = "BOATHOOK_WORKERS", value_name = "N")]
    pub workers: Option<Count>,

    /// Runs that may wait to start; beyond it senders get 503 [default: 1000000]
    #[arg(long, env = "BOATHOOK_MAX_QUEUED_RUNS", value_name = "N")]
    pub max_queued_runs: Option<Count>,

    /// Connections to a listener at a time; beyond it idle ones give way, or clients get 503
    /// [default: 1024]
    #[arg(long, env = "BOATHOOK_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<Count>,

    /// Of these, connections from one address; loopback is not counted [default: 128]
    #[arg(long, env = "BOATHOOK_MAX_CONNECTIONS_PER_IP", value_name = "N")]
    pub max_connections_per_ip: Option<Count>,

    /// How long a client may take to send a request without its body [default: 10s]
    #[arg(long, env = "BOATHOOK_HEAD_TIMEOUT", value_name = "DURATION")]
    pub head_timeout: Option<Period>,

    /// How long a client may take to send a small body [default: 60s]
    #[arg(long, env = "BOATHOOK_BODY_TIMEOUT", value_name = "DURATION")]
    pub body_timeout: Option<Period>,

    /// How fast larger bodies must come, per second: --body-timeout is prolonged by a second for
    /// so many bytes [default: 1MiB]
    #[arg(long, env = "BOATHOOK_BODY_MIN_RATE", value_name = "BYTES")]
    pub body_min_rate: Option<ByteSize>,

    /// How long a connection may stay open between two requests [default: 30s]
    #[arg(long, env = "BOATHOOK_IDLE_TIMEOUT", value_name = "DURATION")]
    pub idle_timeout: Option<Period>,

    /// How long a client may take none of an answer [default: 30s]
    #[arg(long, env = "BOATHOOK_WRITE_TIMEOUT", value_name = "DURATION")]
    pub write_timeout: Option<Period>,

    /// Largest request body; beyond it senders get 413 [default: 25MiB]
    #[arg(long, env = "BOATHOOK_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<ByteSize>,

    /// Largest body that expressions read; for larger ones `body` and `text` are null [default: 1MiB]
    #[arg(long, env = "BOATHOOK_MAX_EXPRESSION_BODY_BYTES", value_name = "BYTES")]
    pub max_expression_body_bytes: Option<ByteSize>,

    /// Bytes of all bodies over 64 KiB that may be arriving at a time; beyond it senders get 503
    /// [default: 512MiB]
    #[arg(long, env = "BOATHOOK_MAX_INFLIGHT_BODY_BYTES", value_name = "BYTES")]
    pub max_inflight_body_bytes: Option<ByteSize>,

    /// Free disk space below which senders get 503; 0 to do without [default: 512MiB]
    #[arg(long, env = "BOATHOOK_MIN_FREE_BYTES", value_name = "BYTES")]
    pub min_free_bytes: Option<ByteSize>,

    /// Proxies whose X-Forwarded-For or Forwarded tells where a request comes from, such as
    /// 127.0.0.1,::1,10.0.0.0/8 [default: none]
    #[arg(long, env = "BOATHOOK_TRUSTED_PROXIES", value_name = "NETWORKS")]
    pub trusted_proxies: Option<TrustedProxies>,

    /// Requests that one address may send to the webhook listener, such as 100/m or
    /// 100/m burst 20; beyond it senders get 429 [default: no limit]
    #[arg(long, env = "BOATHOOK_RATE_LIMIT_PER_IP", value_name = "RATE")]
    pub rate_limit_per_ip: Option<Rate>,

    /// Output kept per attempt of a vessel [default: 10MiB]
    #[arg(long, env = "BOATHOOK_MAX_OUTPUT_BYTES", value_name = "BYTES")]
    pub max_output_bytes: Option<ByteSize>,

    /// Clients that may follow output, or download what is long, at a time [default: 64]
    #[arg(long, env = "BOATHOOK_MAX_FOLLOWERS", value_name = "N")]
    pub max_followers: Option<Count>,

    /// Senders that may wait for the end of their runs at a time; beyond it they get 202 at once
    /// [default: 256]
    #[arg(long, env = "BOATHOOK_MAX_WAITING", value_name = "N")]
    pub max_waiting: Option<Count>,

    /// Bytes of a vessel's answer to its sender; what is longer is cut [default: 1MiB]
    #[arg(long, env = "BOATHOOK_MAX_RESPONSE_BYTES", value_name = "BYTES")]
    pub max_response_bytes: Option<ByteSize>,

    /// Crashes of the server that a run may have behind it before it is given up [default: 3]
    #[arg(long, env = "BOATHOOK_MAX_CRASH_ATTEMPTS", value_name = "N")]
    pub max_crash_attempts: Option<Count>,

    /// Where runs have their work directories [default: <data-dir>/work]
    #[arg(long, env = "BOATHOOK_WORK_DIR", value_name = "DIR")]
    pub work_dir: Option<PathBuf>,

    /// Where the server keeps secrets, a file each [default: <data-dir>/secrets]
    #[arg(long, env = "BOATHOOK_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,

    /// Whether a work directory stays when its run has ended [default: never]
    #[arg(long, env = "BOATHOOK_KEEP_WORKDIR", value_name = "WHEN")]
    pub keep_workdir: Option<KeepWorkdir>,

    /// Which runs that have ended are kept: how long, how many of each fleet, or both, such as
    /// 30d, "1000 runs" or "30d, 1000 runs"; or forever [default: 90d]
    #[arg(long, env = "BOATHOOK_KEEP_RUNS", value_name = "RUNS")]
    pub keep_runs: Option<Retention>,

    /// Versions of a fleet that are kept, the newest ones; those that kept runs have stay as well
    /// [default: 1000]
    #[arg(long, env = "BOATHOOK_KEEP_VERSIONS", value_name = "N")]
    pub keep_versions: Option<Count>,

    /// Users that fleets may have their vessels run as; takes a server that runs as root or with
    /// the capabilities for it [default: none]
    #[arg(long, env = "BOATHOOK_ALLOWED_USERS", value_name = "NAMES")]
    pub allowed_users: Option<Names>,

    /// Whether packages that fleets name, and those of their repositories, are installed: true or
    /// false [default: false]
    #[arg(
        long,
        env = "BOATHOOK_INSTALL_PACKAGES",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub install_packages: Option<bool>,

    /// Where these packages are installed [default: <data-dir>/packages]
    #[arg(long, env = "BOATHOOK_PACKAGES_DIR", value_name = "DIR")]
    pub packages_dir: Option<PathBuf>,

    /// Bytes of installed packages; beyond it those go that were used least recently [default: 4GiB]
    #[arg(long, env = "BOATHOOK_MAX_PACKAGES_BYTES", value_name = "BYTES")]
    pub max_packages_bytes: Option<ByteSize>,

    /// The runner of vessels whose fleets ask for none: one of [runners.NAME] in the file [default:
    /// none]
    #[arg(long, env = "BOATHOOK_DEFAULT_RUNNER", value_name = "NAME")]
    pub default_runner: Option<String>,

    /// The runners that fleets may name. Only in the file.
    #[arg(skip)]
    pub runners: BTreeMap<String, RunnerTable>,

    /// Hosts that fleets may have told how runs ended: HOST or HOST:PORT [default: none]
    #[arg(long, env = "BOATHOOK_NOTIFY_HOSTS", value_name = "NAMES")]
    pub notify_hosts: Option<Names>,

    /// Programs that fleets may have run when runs have ended: absolute paths [default: none]
    #[arg(long, env = "BOATHOOK_NOTIFY_COMMANDS", value_name = "NAMES")]
    pub notify_commands: Option<Names>,

    /// The mail server for notifications: smtps://HOST, smtp+starttls://HOST, or smtp://HOST
    /// without encryption [default: no e-mail is sent]
    #[arg(long, env = "BOATHOOK_SMTP", value_name = "URL")]
    pub smtp: Option<SmtpUrl>,

    /// The address that e-mail comes from
    #[arg(long, env = "BOATHOOK_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,

    /// The user that the mail server asks for
    #[arg(long, env = "BOATHOOK_SMTP_USER", value_name = "NAME")]
    pub smtp_user: Option<String>,

    /// The name of the secret that is this user's password
    #[arg(long, env = "BOATHOOK_SMTP_SECRET", value_name = "NAME")]
    pub smtp_secret: Option<String>,

    /// By what name to greet the mail server: a name with its domain, or an address in brackets
    /// [default: the machine's own name, else its address]
    #[arg(long, env = "BOATHOOK_SMTP_HELLO", value_name = "NAME")]
    pub smtp_hello: Option<String>,

    /// How long running vessels may take to finish when the server stops [default: 30s]
    #[arg(long, env = "BOATHOOK_SHUTDOWN_GRACE", value_name = "DURATION")]
    pub shutdown_grace: Option<Period>,

    /// How long a vessel may take to end after SIGTERM before it is killed [default: 10s]
    #[arg(long, env = "BOATHOOK_KILL_GRACE", value_name = "DURATION")]
    pub kill_grace: Option<Period>,

    /// How much to log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, env = "BOATHOOK_LOG", value_name = "LEVEL")]
    pub log: Option<LogLevel>,
}

/// The settings of a server, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The configuration file; may not exist.
    pub file: PathBuf,
    /// Absolute; may not exist yet.
    pub data_dir: PathBuf,
    /// The address of the webhook listener. In a running server the real one: a port 0 is replaced
    /// by the port that the system chose, and the address of a socket unit counts.
    pub hooks_listen: SocketAddr,
    /// Whether the operator has set `hooks_listen`.
    pub sets_hooks_listen: bool,
    /// The address of the admin listener, likewise.
    pub admin_listen: SocketAddr,
    /// Whether the operator has set `admin_listen`.
    pub sets_admin_listen: bool,
    /// In lower case.
    pub admin_hosts: Vec<String>,
    pub admin_base_path: BasePath,
    pub public_url: Option<PublicUrl>,
    pub github_api_url: ServiceUrl,
    pub tls: Option<TlsFiles>,
    pub workers: usize,
    pub max_queued_runs: usize,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    /// Bytes per second.
    pub body_min_rate: u64,
    pub idle_timeout: Duration,
    pub write_timeout: Duration,
    pub max_body_bytes: u64,
    pub max_expression_body_bytes: u64,
    pub max_inflight_body_bytes: u64,
    pub min_free_bytes: u64,
    pub trusted_proxies: Networks,
    pub rate_limit_per_ip: Option<Rate>,
    pub max_output_bytes: u64,
    pub max_followers: usize,
    pub max_waiting: usize,
    pub max_response_bytes: u64,
    pub max_crash_attempts: u32,
    /// Absolute; may not exist yet.
    pub work_dir: PathBuf,
    /// Absolute; may not exist yet.
    pub secrets_dir: PathBuf,
    /// The credentials of the service. Absolute.
    pub credentials_dir: Option<PathBuf>,
    pub keep_workdir: KeepWorkdir,
    pub keep_runs: Retention,
    pub keep_versions: u32,
    pub allowed_users: Vec<String>,
    pub install_packages: bool,
    /// Absolute; may not exist yet.
    pub packages_dir: PathBuf,
    pub max_packages_bytes: u64,
    pub runners: Runners,
    pub notify_hosts: Vec<String>,
    pub notify_commands: Vec<String>,
    pub mail: Option<MailServer>,
    pub shutdown_grace: Duration,
    pub kill_grace: Duration,
    pub log: log::LevelFilter,
}

/// The files for TLS on the webhook listener. Both paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why settings cannot be loaded. Each message names the file or the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error(
        "{}: data_dir: this file was found in {}, so it cannot name another data directory; \
         give that one with --data-dir, or this file with --config",
        path.display(),
        data_dir.display()
    )]
    Misplaced { path: PathBuf, data_dir: PathBuf },
    #[error("no home directory to keep data in; name one with --data-dir")]
    NoDataDirectory,
    #[error("{key}: {message}")]
    Value { key: &'static str, message: String },
    #[error("cannot tell the current directory: {0}")]
    CurrentDirectory(#[source] io::Error),
}

impl Settings {
    /// Completes what the command line and the environment say (`given`) from the configuration
    /// file and the defaults. Without `file`, the first that exists of `boathook.toml` in the data
    /// directory and in [`SYSTEM_DIRECTORY`] is read.
    ///
    /// # Errors
    /// When the file cannot be read or a value is out of bounds.
    pub fn load(given: Sources, file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var_os(name);
        let data_dir = match &given.data_dir {
            Some(data_dir) => Some(data_dir.clone()),
            None => default_data_directory(environment, std::env::home_dir()),
        };
        let from_file = match file {
            Some(path) => read_file(path)?.ok_or_else(|| ConfigError::Read {
                path: path.to_owned(),
                source: io::ErrorKind::NotFound.into(),
            })?,
            None => read_default_file(data_dir.as_deref(), Path::new(SYSTEM_DIRECTORY))?,
        };
        let settings = Self::resolve(given, from_file, data_dir)?;
        Ok(match file {
            Some(file) => Self { file: absolute(file)?, ..settings },
            None => settings,
        })
    }

    fn resolve(
        given: Sources,
        file: Sources,
        data_dir_default: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        macro_rules! first {
            ($name:ident) => {
                given.$name.or(file.$name)
            };
        }
        let data_dir = first!(data_dir).or(data_dir_default).ok_or(ConfigError::NoDataDirectory)?;
        let mut settings = Self::defaults(absolute(&data_dir)?);
        // Takes each setting from where it is given.
        macro_rules! take {
            ($($name:ident)+) => {
                $(if let Some(value) = first!($name) {
                    settings.$name = value.into();
                })+
            };
        }
        settings.sets_hooks_listen = given.hooks_listen.or(file.hooks_listen).is_some();
        settings.sets_admin_listen = given.admin_listen.or(file.admin_listen).is_some();
        take! {
            hooks_listen admin_listen admin_hosts admin_base_path public_url github_api_url
            trusted_proxies rate_limit_per_ip
            workers max_queued_runs max_connections max_connections_per_ip max_followers max_waiting
            head_timeout body_timeout idle_timeout write_timeout shutdown_grace kill_grace
            body_min_rate max_body_bytes max_expression_body_bytes max_inflight_body_bytes
            max_response_bytes min_free_bytes max_output_bytes max_crash_attempts keep_workdir keep_runs
            keep_versions allowed_users install_packages max_packages_bytes notify_hosts notify_commands
            log
        }
        settings.tls = tls_files(first!(tls_cert), first!(tls_key))?;
        settings.mail = mail_server(MailSettings {
            url: first!(smtp),
            from: first!(smtp_from),
            user: first!(smtp_user),
            secret: first!(smtp_secret),
            hello: first!(smtp_hello),
        })?;
        settings.runners = runners(file.runners, first!(default_runner))?;
        if let Some(work_dir) = first!(work_dir) {
            settings.work_dir = absolute(&work_dir)?;
        }
        if let Some(secrets_dir) = first!(secrets_dir) {
            settings.secrets_dir = absolute(&secrets_dir)?;
        }
        if let Some(packages_dir) = first!(packages_dir) {
            settings.packages_dir = absolute(&packages_dir)?;
        }
        settings.credentials_dir =
            credentials_directory().map(|path| absolute(&path)).transpose()?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses values that are out of bounds.
    fn check(&self) -> Result<(), ConfigError> {
        let refused = |key, message| Err(ConfigError::Value { key, message });
        if self.workers > WORKERS_MAX {
            let message = format!("{} threads are too many; at most {WORKERS_MAX}", self.workers);
            return refused("workers", message);
        }
        if self.keep_versions > KEEP_VERSIONS_MAX {
            let message = format!("at most {KEEP_VERSIONS_MAX} versions");
            return refused("keep_versions", message);
        }
        for (key, time) in [
            ("head_timeout", self.head_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            if !TIMEOUT_RANGE.contains(&time) {
                return refused(key, "a timeout is between one second and one day".to_owned());
            }
        }
        // No notification of a fleet could match these.
        let is_host = |host: &str| {
            let url: Result<HttpUrl, _> = format!("http://{host}").parse();
            url.is_ok_and(|url| url.path.is_empty())
        };
        if let Some(host) = self.notify_hosts.iter().find(|host| !is_host(host)) {
            let message =
                format!("not HOST or HOST:PORT: {host:?}; write it without scheme and path");
            return refused("notify_hosts", message);
        }
        if let Some(command) = self.notify_commands.iter().find(|it| !it.starts_with('/')) {
            return refused("notify_commands", format!("not an absolute path: {command:?}"));
        }
        Ok(())
    }

    /// The URL of the webhook listener, without a path.
    pub fn hooks_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.hooks_listen)
    }

    /// The beginning of webhook URLs, as senders see it.
    pub fn public_base(&self) -> String {
        self.public_url.as_ref().map_or_else(|| self.hooks_url(), ToString::to_string)
    }

    /// The URL of the admin listener, without a path.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_listen)
    }
}

/// The data directory of a server that was given none: `$STATE_DIRECTORY` (systemd.exec(5)), else
/// `$XDG_STATE_HOME/boathook`, else `~/.local/state/boathook`.
pub fn default_data_directory(
    environment: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    // The specifications of both variables require absolute paths; others are ignored.
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let of_service = environment("STATE_DIRECTORY").and_then(|paths| {
        // systemd separates several state directories by colons.
        std::env::split_paths(&paths).next().and_then(absolute)
    });
    of_service.or_else(|| {
        let state = environment("XDG_STATE_HOME").map(PathBuf::from).and_then(absolute);
        state
            .or_else(|| Some(home.and_then(absolute)?.join(".local/state")))
            .map(|state| state.join("boathook"))
    })
}

/// The directory of the service's credentials (systemd.exec(5), LoadCredential=).
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(ConfigError::CurrentDirectory)
}

fn tls_files(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<TlsFiles>, ConfigError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (absolute(&certificate)?, absolute(&key)?);
            Ok(Some(TlsFiles { certificate, key }))
        }
        (None, None) => Ok(None),
        (given, _) => {
            let message = "tls_cert and tls_key go together; set both, or neither".to_owned();
            let key = if given.is_some() { "tls_key" } else { "tls_cert" };
            Err(ConfigError::Value { key, message })
        }
    }
}

#[cfg(test)]
mod tests;
