//! A whole server: [`Daemon`] wires the store, launcher, engine, listeners and notifier together and
//! takes them apart in order; [`serve`] runs one until a signal stops it.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::Mode;

use crate::config::{EffectiveSetting, Settings};
use crate::diagnostics::{Facts, bind_advice};
use crate::engine::{Engine, RecoveryError, World};
use crate::listener::forwarding::Forwarding;
use crate::listener::{Listener, Tls, TlsError};
use crate::model::clock::SystemClock;
use crate::model::random::SystemRandom;
use crate::notify::{self, Notifier};
use crate::os::activation::{ActivatedSockets, ActivationError};
use crate::os::close_on_exec;
use crate::os::core_limit;
use crate::os::fatal;
use crate::os::priority::with_precedence;
use crate::os::private_file;
use crate::os::signals::Event;
use crate::os::systemd::{self, SelfCheck};
use crate::os::threads::{self, TooFewThreads};
use crate::runner::process::ProcessLauncher;
use crate::runner::start::VesselLimits;
use crate::store::{self, DirectoryError, OpenError};
use crate::web;
use crate::web::admin::AdminHandler;
use crate::web::auth::BearerToken;
use crate::web::hooks::HookHandler;
use crate::web::instruments::Instruments;

mod capacity;
mod serve;
mod sockets;
mod token;

use capacity::Capacity;
pub use serve::{adopt_orphans, serve};
use sockets::Sockets;
use token::admin_token;

/// Where clients on this machine find the admin API's address and token.
pub const ADMIN_URL_FILE: &str = "admin.url";
pub use crate::config::secrets::ADMIN_TOKEN_FILE;
pub use crate::store::is_data_directory_in_use;
/// Time for requests under way when the server stops.
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
    settings: Arc<Settings>,
    engine: Arc<Engine>,
    hooks: Listener,
    admin: Listener,
    tls: Option<Arc<Tls>>,
    /// The workers, the recovery, the timer and the sweeper.
    threads: Vec<JoinHandle<()>>,
    notifier: Notifier,
}

impl Daemon {
    /// Starts a server on the sockets in `handed_over`, and on its own where there are none. When
    /// this returns, both listeners accept.
    ///
    /// # Errors
    /// When the data directory is in use or unusable, or an address is taken.
    pub fn start(
        mut settings: Settings,
        effective: Vec<EffectiveSetting>,
        handed_over: ActivatedSockets,
    ) -> Result<Self, StartError> {
        set_up_process();
        settings.mail.as_ref().map_or(Ok(()), notify::check_sender).map_err(StartError::Sender)?;
        capacity::try_out_threads(&settings)?;

        // The data directory comes first: one that is in use or of a newer schema stays as it is.
        let (store, _committer) = with_precedence(|| store::open(&settings.data_dir))
            .map_err(no_thread("database"))??;
        let sockets = Sockets::listen(&mut settings, handed_over)?;
        let Capacity { asked, limit } = Capacity::of(&mut settings);
        let settings = Arc::new(settings);
        let bodies = capacity::body_store(&settings);

        let vessel_limits =
            VesselLimits { open_files: limit.given, core: core_limit::of_vessels() };
        let launcher = launcher(&settings, store.output_dir(), vessel_limits)?;
        let spawning = launcher.spawning();
        let promised_bytes = bodies.promised_on_disk();
        let engine = Engine::open(Arc::clone(&settings), store, world(launcher, promised_bytes)?)?;
        let versions = engine.version_passes();

        let token = admin_token(&settings.data_dir)?;
        let tls = tls(&settings)?;
        let instruments = Arc::new(Instruments::default());
        let forwarding = Arc::<Forwarding>::default();
        let hooks = HookHandler::new(
            Arc::clone(&engine),
            Arc::clone(&settings),
            Arc::clone(&forwarding),
            Arc::clone(&instruments),
        );
        let hooks =
            with_precedence(|| web::serve_hooks(sockets.hooks, hooks, &bodies, tls.clone()))
                .flatten()
                .map_err(no_thread("webhook listener"))?;

        let settings_of_facts = Arc::clone(&settings);
        let facts =
            Facts { settings: settings_of_facts, effective, concurrency: asked, forwarding };
        let admin = AdminHandler::new(
            Arc::clone(&engine),
            Arc::clone(&settings),
            BearerToken::new(token.reveal()),
            facts,
            spawning,
            instruments,
        );
        let admin =
            web::serve_admin(sockets.admin, admin, &bodies).map_err(no_thread("admin listener"))?;
        publish_admin_url(&settings)?;

        let mut threads = engine.start_workers().map_err(no_thread("workers"))?;
        threads.push(engine.start_recovery().map_err(no_thread("recovery"))?);
        threads.push(engine.start_timer().map_err(no_thread("timer"))?);
        threads.push(engine.start_schedules().map_err(no_thread("schedules"))?);
        threads.push(engine.start_sweeper(versions).map_err(no_thread("sweeper"))?);
        threads.push(engine.start_delivery_writer().map_err(no_thread("writer of deliveries"))?);
        let shared = Arc::clone(&settings);
        let notifier = Notifier::start(&engine, shared, web::view::run_json, vessel_limits)
            .map_err(no_thread("notifiers"))?;
        Ok(Self { settings, engine, hooks, admin, tls, threads, notifier })
    }

    /// The settings, with the addresses on which the server really listens.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The check that feeds the watchdog.
    fn self_check(&self) -> SelfCheck {
        let engine = Arc::clone(&self.engine);
        let commits = move |within| engine.commits(within);
        SelfCheck::new(self.hooks.address(), self.tls.is_some(), commits)
    }

    /// Reads the certificate again, for new connections.
    fn reload_certificate(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => log::info!("reloaded the certificate"),
            Some(Err(error)) => log::error!(error:%; "the certificate stays as it is"),
            None => {}
        }
    }

    /// Begins to stop: no vessel is started any more, runs are still accepted.
    pub fn drain(&self) {
        self.engine.drain();
    }

    /// Waits for running vessels to finish, up to the shutdown grace.
    fn await_idle(&self) {
        let left = self.engine.await_idle(self.settings.shutdown_grace);
        if left > 0 {
            log::warn!(vessels = left; "shutdown_grace is over; the runs of these vessels go on at the next start");
        }
    }

    /// Starts a thread that ends running vessels at the second stop signal. It waits for the events
    /// that [`serve`] sends to it when the server stops: at that time the system may have no thread
    /// left.
    fn watch_for_second_stop(&self) -> io::Result<Sender<Receiver<Event>>> {
        let engine = Arc::clone(&self.engine);
        let (hand, handed) = bounded::<Receiver<Event>>(1);
        threads::vital("second-stop").spawn(move || {
            let events = handed.recv().into_iter().flatten();
            for _ in events.filter(|event| *event == Event::Stop) {
                // The vessels end, and with them the wait.
                engine.abandon_running();
            }
        })?;
        Ok(hand)
    }

    /// Stops at once: ends running vessels, answers requests under way, and makes the last commit.
    pub fn stop(self) {
        self.engine.drain();
        self.engine.abandon_running();
        // SIGTERM, its grace, SIGKILL, and time to record the ends.
        let wait_max = self.settings.kill_grace + ANSWER_GRACE;
        let left = self.engine.await_idle(wait_max);
        self.engine.release_waiting();
        // The engine accepts what came in before the listeners stop.
        self.hooks.stop(ANSWER_GRACE);
        self.admin.stop(Duration::from_secs(1));
        self.engine.close();
        self.notifier.stop(wait_max);
        if left > 0 {
            log::error!(vessels = left; "vessels do not end; the next server ends them");
            return;
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        self.engine.record_clean_stop();
        log::info!("stopped");
    }
}

/// Sets what the whole process needs before it starts threads or programs.
fn set_up_process() {
    // Vessels inherit the umask. The server gives its own files their modes explicitly.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    close_on_exec::protect_vessels();
    fatal::stop_on_panics();
}

fn launcher(
    settings: &Arc<Settings>,
    output_dir: PathBuf,
    limits: VesselLimits,
) -> Result<ProcessLauncher, StartError> {
    let data_dir = &settings.data_dir;
    let failed = |action| {
        let path = data_dir.clone();
        move |source| StartError::File { action, path, source }
    };
    let is_below = settings.work_dir.starts_with(data_dir)
        || settings.install_packages && settings.packages_dir.starts_with(data_dir);
    if !settings.allowed_users.is_empty() && is_below {
        // Other users pass through it to their work directories and packages. They cannot list it, and each file
        // in it is private by its own mode.
        let passable = Permissions::from_mode(0o711);
        std::fs::set_permissions(data_dir, passable)
            .map_err(failed("cannot let other users pass through"))?;
    }
    ProcessLauncher::new(Arc::clone(settings), output_dir, limits)
        .map_err(failed("cannot make the directories in"))
}

fn world(launcher: ProcessLauncher, promised_bytes: Arc<AtomicU64>) -> Result<World, StartError> {
    Ok(World {
        launcher: Box::new(launcher),
        clock: Box::new(SystemClock),
        random: Box::new(SystemRandom),
        boot_id: boot_id()?,
        promised_bytes,
        on_pause: Box::new(|reason| {
            let line = reason.map(|reason| format!("Launching is paused: {reason}"));
            systemd::trouble(line.as_deref());
        }),
    })
}

/// Writes the file in which clients on this machine find the admin API.
fn publish_admin_url(settings: &Settings) -> Result<(), StartError> {
    let path = settings.data_dir.join(ADMIN_URL_FILE);
    private_file::write(&path, format!("{}\n", settings.admin_url()).as_bytes())
        .map_err(|source| StartError::File { action: "cannot write", path, source })
}

/// The error of a part of the server that gets no thread.
fn no_thread(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Thread { what, source }
}

fn tls(settings: &Settings) -> Result<Option<Arc<Tls>>, TlsError> {
    let files = settings.tls.clone();
    files.map(|files| Tls::load(files.certificate, files.key).map(Arc::new)).transpose()
}

/// The kernel's id of the time since this machine was booted (proc(5)).
fn boot_id() -> Result<String, StartError> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let read = std::fs::read_to_string(&path);
    let boot_id =
        read.map_err(|source| StartError::File { action: "cannot read", path, source })?;
    Ok(boot_id.trim().to_owned())
}
