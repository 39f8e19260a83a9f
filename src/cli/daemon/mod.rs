//! A server as a whole: wires storage, launcher, engine and listeners together, and takes them
//! apart in order.

use std::fs::Permissions;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::secrets::SecretStore;
use crate::config::{self, ConfigError, Settings};
use crate::diagnostics::{Facts, bind_advice};
use crate::engine::{Engine, EngineSettings, RecoveryError, World};
use crate::listener::forwarding::Forwarding;
use crate::listener::service::Listener;
use crate::listener::socket::widen_backlog;
use crate::listener::{Tls, TlsError};
use crate::model::clock::SystemClock;
use crate::model::limits;
use crate::model::random::SystemRandom;
use crate::notify::rules::Rules;
use crate::notify::{self, Notifier, NotifierSettings};
use crate::os::activation::{self, ActivatedSockets, ActivationError};
use crate::os::close_on_exec;
use crate::os::core_limit;
use crate::os::fatal;
use crate::os::logging;
use crate::os::priority::with_precedence;
use crate::os::signals::{self, Event};
use crate::os::systemd::{self, SelfCheck, Watchdog};
use crate::os::threads::{self, TooFewThreads};
use crate::runner::orphans;
use crate::runner::process::{ProcessLauncher, ProcessLauncherSettings, VesselLimits};
use crate::store::{self, DirectoryError, OUTPUT_DIRECTORY, OpenError, write_private_file};
use crate::web;
use crate::web::admin::AdminSettings;
use crate::web::auth::BearerToken;
use crate::web::hooks::HookSettings;
use crate::web::instruments::Instruments;
use crate::web::origin::Hosts;

mod capacity;
mod token;

use capacity::Capacity;
use token::admin_token;

/// Where clients on this machine find the admin API's address and token.
pub const ADMIN_URL_FILE: &str = "admin.url";
pub use crate::config::secrets::ADMIN_TOKEN_FILE;
pub use crate::store::is_data_directory_in_use;
/// How long requests under way may take to be answered when the server stops.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {address} for {what}: {source}; {}", bind_advice(source, *address, setting))]
    Listen { what: &'static str, setting: &'static str, address: SocketAddr, source: io::Error },
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("smtp_from: {0}; write ADDRESS or NAME <ADDRESS>")]
    Sender(String),
    #[error(
        "the credential {} is no token; make one with: head -c 32 /dev/urandom | basenc --base64url | tr -d '='",
        .0.display()
    )]
    Credential(PathBuf),
    #[error("the system has no randomness for a token: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    TooFewThreads(#[from] TooFewThreads),
    #[error("cannot start the {what}: {source}{}", threads::advice(source))]
    Thread { what: &'static str, source: io::Error },
}

/// A running server.
pub struct Daemon {
    engine: Arc<Engine>,
    hooks: Listener,
    admin: Listener,
    tls: Option<Arc<Tls>>,
    /// The workers and the timer.
    threads: Vec<JoinHandle<()>>,
    notifier: Notifier,
    hooks_url: String,
    admin_url: String,
    data_dir: PathBuf,
    shutdown_grace: Duration,
    kill_grace: Duration,
}

impl Daemon {
    /// Starts a server on the sockets in `inherited`, and on its own where there are none. When
    /// this returns, both listeners accept.
    ///
    /// # Errors
    /// When the data directory is in use or unusable, or an address is taken.
    pub fn start(settings: &Settings, inherited: ActivatedSockets) -> Result<Self, StartError> {
        // Vessels inherit it; our own files are made with modes of their own.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let data_dir = settings.data_dir.clone();
        close_on_exec::protect_vessels();
        fatal::stop_on_panics();
        settings.mail.as_ref().map_or(Ok(()), notify::check_sender).map_err(StartError::Sender)?;
        let thread = |what| move |source| StartError::Thread { what, source };
        threads::try_out(needed_threads(settings))?;
        // Opened first: a directory that is in use or of a newer schema stays as it is. With
        // precedence, since whoever waits for a 201 waits for its commit.
        let (storage, _committer) =
            with_precedence(|| store::open(&data_dir)).map_err(thread("database"))??;
        let ActivatedSockets { hooks, admin } = inherited;
        let hooks = Asked {
            what: "webhooks",
            setting: "hooks_listen",
            address: settings.hooks_listen,
            is_set: settings.sets_hooks_listen,
        }
        .listen(hooks)?;
        let admin = Asked {
            what: "the admin API",
            setting: "admin_listen",
            address: settings.admin_listen,
            is_set: settings.sets_admin_listen,
        }
        .listen(admin)?;
        let Capacity { wanted, limit, doors, hook_links, max_followers } = Capacity::of(settings);
        let output_dir = data_dir.join(OUTPUT_DIRECTORY);
        if !settings.allowed_users.is_empty() && settings.work_dir.starts_with(&data_dir) {
            // Other users pass through it to their work directories. Everything in it stays private
            // by its own mode; what there is cannot be listed.
            let passable = Permissions::from_mode(0o711);
            std::fs::set_permissions(&data_dir, passable).map_err(|source| StartError::File {
                action: "cannot let other users pass through",
                path: data_dir.clone(),
                source,
            })?;
        }
        let vessel_limits =
            VesselLimits { open_files: limit.given, core: core_limit::of_vessels() };
        let launcher = ProcessLauncher::new(ProcessLauncherSettings {
            work_dir: settings.work_dir.clone(),
            output_dir: output_dir.clone(),
            kill_grace: settings.kill_grace,
            max_output_bytes: settings.max_output_bytes,
            vessel_limits,
            allowed_users: settings.allowed_users.clone(),
        })
        .map_err(|source| StartError::File {
            action: "cannot make the directories in",
            path: data_dir.clone(),
            source,
        })?;
        let spawning = launcher.spawning();
        let engine_settings = EngineSettings {
            workers: settings.workers,
            max_queued_runs: settings.max_queued_runs,
            max_body_bytes: settings.max_body_bytes,
            min_free_bytes: settings.min_free_bytes,
            promised_bytes: doors.spool.promised_on_disk(),
            max_crash_attempts: settings.max_crash_attempts,
            keep_workdir: settings.keep_workdir,
            keep_runs: settings.keep_runs,
            output_dir,
            secrets: SecretStore::new(settings.secrets_dir.clone()),
        };
        let world = World {
            launcher: Box::new(launcher),
            clock: Box::new(SystemClock),
            random: Box::new(SystemRandom),
            boot_id: boot_id()?,
            on_pause: Box::new(|reason| {
                let line = reason.map(|reason| format!("Launching is paused: {reason}"));
                systemd::trouble(line.as_deref());
            }),
        };
        let engine = Engine::open(engine_settings, storage, world)?;
        let credential = config::credentials_directory().map(|it| it.join(ADMIN_TOKEN_FILE));
        let token = admin_token(&data_dir.join(ADMIN_TOKEN_FILE), credential.as_deref())?;
        let tls = tls(settings)?;
        let forwarding = Arc::<Forwarding>::default();
        let rules = Rules {
            hosts: settings.notify_hosts.clone(),
            commands: settings.notify_commands.clone(),
            has_mail: settings.mail.is_some(),
        };
        let facts = Facts {
            settings: settings.clone(),
            hooks: local_address(&hooks, settings.hooks_listen),
            admin: local_address(&admin, settings.admin_listen),
            descriptors: wanted,
            forwarding: Arc::clone(&forwarding),
            rules: rules.clone(),
        };
        let (hooks_url, admin_url) = (facts.hooks_url(), facts.admin_url());
        let public_base = match &settings.public_url {
            Some(url) => url.to_string(),
            None => hooks_url.clone(),
        };
        let hook_settings = HookSettings {
            max_body_bytes: settings.max_body_bytes,
            max_under_way: hook_links,
            trusted_proxies: settings.trusted_proxies.clone(),
            forwarding,
            rate_limit_per_ip: settings.rate_limit_per_ip,
        };
        let hook_doors = doors.clone().with_tls(tls.clone());
        let instruments = Arc::new(Instruments::default());
        let hooks = with_precedence(|| {
            let engine = Arc::clone(&engine);
            web::serve_hooks(hooks, engine, hook_settings, &hook_doors, &instruments)
        })
        .flatten()
        .map_err(thread("webhook listener"))?;
        let notifier = NotifierSettings {
            rules,
            mail: settings.mail.clone(),
            secrets: SecretStore::new(settings.secrets_dir.clone()),
            run_json: web::view::run_json,
            kill_grace: settings.kill_grace,
            vessel_limits,
        };
        let admin_settings = AdminSettings {
            token: BearerToken::new(token.reveal()),
            hosts: Hosts::new(settings.admin_hosts.iter().cloned()),
            public_base,
            max_followers,
            spawning,
            facts,
        };
        let admin =
            web::serve_admin(admin, Arc::clone(&engine), admin_settings, &doors, &instruments)
                .map_err(thread("admin listener"))?;
        let url_file = data_dir.join(ADMIN_URL_FILE);
        write_private_file(&url_file, &format!("{admin_url}\n")).map_err(|source| {
            StartError::File { action: "cannot write", path: url_file, source }
        })?;
        let mut threads = engine.start_workers().map_err(thread("workers"))?;
        threads.push(engine.start_recovery().map_err(thread("recovery"))?);
        threads.push(engine.start_timer().map_err(thread("timer"))?);
        threads.push(engine.start_sweeper().map_err(thread("sweeper"))?);
        let notifier = Notifier::start(&engine, notifier).map_err(thread("notifiers"))?;
        Ok(Self {
            engine,
            hooks,
            admin,
            tls,
            threads,
            notifier,
            hooks_url,
            admin_url,
            data_dir,
            shutdown_grace: settings.shutdown_grace,
            kill_grace: settings.kill_grace,
        })
    }

    /// Where webhooks listen, as a URL without a path.
    pub fn hooks_url(&self) -> &str {
        &self.hooks_url
    }

    /// Where the admin API listens, as a URL without a path.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Where everything is kept.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What tells whether this server works.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    fn self_check(&self) -> io::Result<SelfCheck> {
        let engine = Arc::clone(&self.engine);
        let commits = move |within| engine.commits(within);
        SelfCheck::new(self.hooks.address(), self.tls.is_some(), commits)
    }

    /// Reads the certificate again, for connections from now on.
    fn reload_certificate(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => log::info!("reloaded the certificate"),
            Some(Err(error)) => log::error!(error:%; "the certificate stays as it is"),
            None => {}
        }
    }

    /// Begins to stop: nothing more is started, while runs are still accepted.
    pub fn drain(&self) {
        self.engine.drain();
    }

    /// Waits for running vessels to finish, for the shutdown grace.
    fn await_idle(&self) {
        let left = self.engine.await_idle(self.shutdown_grace);
        if left > 0 {
            log::warn!(vessels = left; "the grace is over; what still runs is resumed at the next start");
        }
    }

    /// A thread that ends running vessels when another stop signal says not to wait for them. It
    /// exists from the start, for there may be no thread to be had when the server stops. It begins
    /// with the events that it is sent.
    fn watch_for_haste(&self) -> io::Result<Sender<Receiver<Event>>> {
        let engine = Arc::clone(&self.engine);
        let (hand, handed) = bounded::<Receiver<Event>>(1);
        thread::Builder::new().name("haste".into()).spawn(move || {
            let events = handed.recv().into_iter().flatten();
            for _ in events.filter(|event| *event == Event::Stop) {
                // The vessels end, and with them the wait.
                engine.abandon_running();
            }
        })?;
        Ok(hand)
    }

    /// Stops at once: ends what is running, answers what is in flight, and makes the last commit.
    pub fn stop(self) {
        self.engine.drain();
        self.engine.abandon_running();
        // Termination, its grace, and some time to see to the end of the last process.
        let left = self.engine.await_idle(self.kill_grace + ANSWER_GRACE);
        // What came in before the listeners stop is still accepted: nobody is refused for the moment
        // at which they sent.
        self.hooks.stop(ANSWER_GRACE);
        self.admin.stop(Duration::from_secs(1));
        self.engine.close();
        self.notifier.stop(self.kill_grace + ANSWER_GRACE);
        if left > 0 {
            log::error!(vessels = left; "vessels would not end; the next server will see to them");
            return;
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        self.engine.record_clean_stop();
        log::info!("stopped");
    }
}

/// Makes the orphans of vessels this process's own children. To be called before another thread is
/// started.
pub fn adopt_orphans() {
    if let Err(error) = orphans::adopt() {
        log::warn!(error:%; "orphans of vessels are not adopted: a daemon that a vessel leaves behind is not named in its log, and as process 1 of a container this server leaves zombies; start the container with --init");
    }
}

/// Runs a server until a signal stops it. `reload` reads the settings again, for SIGHUP.
///
/// # Errors
/// When the server does not start, or signals cannot be caught.
pub fn serve(
    settings: &Settings,
    reload: impl Fn() -> Result<Settings, ConfigError>,
) -> Result<(), StartError> {
    logging::start(settings.log);
    let thread = |what| move |source| StartError::Thread { what, source };
    for variable in config::unknown_variables() {
        log::warn!("{} is no setting and changes nothing; {}", variable.name, variable.advice());
    }
    // Changes the environment, which must not happen beside other threads.
    let inherited = activation::take()?;
    adopt_orphans();
    // Before anything else, so that a signal at any moment stops the server in order.
    let events = signals::listen().map_err(thread("signal handling"))?;
    systemd::busy("Opening the database and seeing to what the last server left");
    let daemon = Daemon::start(settings, inherited)?;
    let listens = format!("Webhooks at {}, admin at {}", daemon.hooks_url(), daemon.admin_url());
    let watchdog = systemd::watchdog_interval().map(|interval| {
        let mut check = daemon.self_check()?;
        Watchdog::start(interval, move |within| check.run(within))
    });
    let watchdog = watchdog.transpose().map_err(thread("watchdog"))?;
    let haste = daemon.watch_for_haste().map_err(thread("signal handling"))?;
    let ready = format!("boathook ready hooks={} admin={}", daemon.hooks_url(), daemon.admin_url());
    log::info!(hooks = daemon.hooks_url(), admin = daemon.admin_url(); "ready");
    if let Err(error) = writeln!(io::stdout(), "{ready}") {
        log::warn!(error:% = error; "nobody reads the ready line");
    }
    systemd::ready(&listens);
    while let Ok(Event::Reload) = events.recv() {
        systemd::reloading();
        daemon.reload_certificate();
        match reload() {
            Ok(settings) => {
                log::set_max_level(settings.log);
                log::info!("reloaded the log level; other settings change at the next start");
            }
            Err(error) => log::error!(error:% = error; "settings stay as they are"),
        }
        systemd::ready(&listens);
    }
    log::info!("stopping; running vessels may finish");
    systemd::stopping("Waiting for running vessels to finish");
    daemon.drain();
    let _ = haste.send(events);
    daemon.await_idle();
    if let Some(watchdog) = watchdog {
        watchdog.stop();
    }
    systemd::busy("Ending what is left");
    daemon.stop();
    logging::finish();
    Ok(())
}

/// Threads that a server has from the start.
fn needed_threads(settings: &Settings) -> usize {
    let handlers = limits::HOOK_HANDLERS + limits::ADMIN_HANDLERS + limits::NOTIFIERS;
    let reserves = 2 * limits::RESERVED_THREADS;
    settings.workers + handlers + reserves + limits::OTHER_THREADS
}

fn tls(settings: &Settings) -> Result<Option<Arc<Tls>>, TlsError> {
    let files = settings.tls.clone();
    files.map(|files| Tls::load(files.certificate, files.key).map(Arc::new)).transpose()
}

/// Where a listener is asked to be.
struct Asked {
    what: &'static str,
    setting: &'static str,
    address: SocketAddr,
    /// Whether the operator has set it.
    is_set: bool,
}

impl Asked {
    /// The socket that was handed over, else one of our own.
    fn listen(self, inherited: Option<TcpListener>) -> Result<TcpListener, StartError> {
        let Self { what, setting, address: asked, is_set } = self;
        let Some(listener) = inherited else {
            let failed = |source| StartError::Listen { what, setting, address: asked, source };
            let bound = TcpListener::bind(asked).and_then(|listener| {
                widen_backlog(&listener)?;
                Ok(listener)
            });
            return bound.map_err(failed);
        };
        let address = local_address(&listener, asked);
        if is_set && address != asked {
            log::warn!(
                "listening for {what} on the socket unit's {address}; `{setting}` ({asked}) is ignored"
            );
        }
        Ok(listener)
    }
}

/// Where `listener` really listens: port 0 has become a port by now.
fn local_address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// The kernel's id of the time since this machine was booted (proc(5)).
fn boot_id() -> Result<String, StartError> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let read = std::fs::read_to_string(&path);
    let boot_id =
        read.map_err(|source| StartError::File { action: "cannot read", path, source })?;
    Ok(boot_id.trim().to_owned())
}
