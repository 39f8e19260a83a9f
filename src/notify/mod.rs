//! Delivers the notifications of runs that ended, by command, POST or e-mail. The notifiers take due
//! notifications from the engine on threads of their own, so that a slow receiver delays no run. A failed
//! delivery is tried again, also after a restart. Delivery is at least once: a crash after it repeats it.
//!
//! The operator's settings decide which receivers are allowed ([`rules`]).

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::config::Settings;
use crate::config::secrets::{Secret, SecretStore};
use crate::engine::{Engine, RunView};
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::InstanceId;
use crate::model::mail::MailServer;
use crate::model::notification::{
    EmailNotifications, Format, NotificationRecord, Recipient, Retry, Target,
};
use crate::model::variable::{FixedValue, SecretName};
use crate::os::threads;
use crate::runner::helper_process::HelperProcess;
use crate::runner::start::VesselLimits;
use crate::runner::stop::{Stop, StopSignal};

mod chat;
mod mail;
mod post;
pub mod rules;
mod text;

/// Threads that deliver notifications: when one waits for a slow receiver, three are left.
pub const NOTIFIERS: usize = 4;
/// How long a command may take: it may wait for a slow service itself.
const NOTIFICATION_COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the receiver of a POST or the mail server may take.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Delivers notifications by the means that the settings allow.
struct Deliverer {
    settings: Arc<Settings>,
    secrets: SecretStore,
    /// Renders a run as JSON.
    run_json: fn(&RunView) -> String,
    vessel_limits: VesselLimits,
}

/// Whether e-mail can be sent as from the sender of `server`.
///
/// # Errors
/// Why not, for a person.
pub fn check_sender(server: &MailServer) -> Result<(), String> {
    mail::check_sender(&server.from)
}

/// The threads that deliver notifications.
pub struct Notifier {
    threads: Vec<(JoinHandle<()>, Arc<StopSignal>)>,
    /// Disconnected when the last thread has ended.
    ended: Receiver<()>,
}

/// Why a notification was not delivered.
struct Failed {
    /// For a person. Names neither secrets nor the path of a URL, which may be one.
    why: String,
    retry: Retry,
}

impl Failed {
    fn for_now(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry: Retry::Usual }
    }

    fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry: Retry::Never }
    }
}

impl Notifier {
    /// Begins to deliver the notifications of `engine`, until that is closed.
    ///
    /// # Errors
    /// When the system has no thread or descriptor.
    pub fn start(
        engine: &Arc<Engine>,
        settings: Arc<Settings>,
        run_json: fn(&RunView) -> String,
        vessel_limits: VesselLimits,
    ) -> io::Result<Self> {
        let secrets = SecretStore::of(&settings);
        let deliverer = Arc::new(Deliverer { settings, secrets, run_json, vessel_limits });
        let (alive, ended) = bounded::<()>(0);
        let threads = (0..NOTIFIERS).map(|number| {
            let (engine, deliverer) = (Arc::clone(engine), Arc::clone(&deliverer));
            let stop = Arc::new(StopSignal::new()?);
            let (heard, alive) = (Arc::clone(&stop), alive.clone());
            let thread = threads::vital(format!("notifier-{number}")).spawn(move || {
                let _alive = alive;
                while let Some(record) = engine.next_notification() {
                    deliverer.deliver(&engine, record, &heard);
                }
            })?;
            Ok((thread, stop))
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, ended })
    }

    /// Ends running commands and waits up to `patience` for deliveries under way; the next server
    /// repeats those that take longer. Close the engine first.
    pub fn stop(self, patience: Duration) {
        for (_, stop) in &self.threads {
            stop.raise(Stop::Abandon);
        }
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            log::warn!("a notification is still being delivered; the next server repeats it");
            return;
        }
        for (thread, _) in self.threads {
            let _ = thread.join();
        }
    }
}

/// One notification that is being delivered.
struct Delivery<'a> {
    record: &'a NotificationRecord,
    run: &'a RunView,
    version: &'a FleetVersion,
    stop: &'a StopSignal,
}

impl Deliverer {
    fn deliver(&self, engine: &Engine, record: NotificationRecord, stop: &StopSignal) {
        let Some(run) = engine.run(record.run) else {
            if !engine.is_stored(record.run) {
                // The run was removed from the history meanwhile.
                return engine.notification_delivered(&record);
            }
            let Failed { why, retry } =
                Failed::for_good("the run cannot be read from the database");
            return engine.notification_failed(record, &why, retry);
        };
        let Some(version) = engine.version_of(&run.run) else {
            let number = run.run.fleet_version;
            let why = format!("version {number} of the fleet cannot be read from the database");
            let Failed { why, retry } = Failed::for_good(why);
            return engine.notification_failed(record, &why, retry);
        };
        let delivery = Delivery { record: &record, run: &run, version: &version, stop };
        // The HTTP client resolves names on its own threads, and panics without them.
        let delivered = match threads::try_out(1) {
            Ok(()) => self.try_to(engine, &delivery),
            Err(error) => Err(Failed::for_now(error.to_string())),
        };
        match delivered {
            Ok(true) => engine.notification_delivered(&record),
            // The server stops; the next one delivers it.
            Ok(false) => {}
            Err(Failed { why, retry }) => engine.notification_failed(record, &why, retry),
        }
    }

    /// Delivers a notification. False when the server stopped before the end.
    fn try_to(&self, engine: &Engine, delivery: &Delivery<'_>) -> Result<bool, Failed> {
        let definition = &delivery.version.definition;
        let address = |of: &Option<EmailNotifications>, email: u16| {
            let emails = of.as_ref().map(|it| it.emails.as_slice()).unwrap_or_default();
            emails.get(usize::from(email)).cloned()
        };
        let gone = || Failed::for_good("the fleet names no such recipient");
        match delivery.record.recipient {
            Recipient::Entry(index) => {
                let entry = definition.notify.get(usize::from(index)).ok_or_else(gone)?;
                match &entry.target {
                    Target::Command(command) => {
                        self.run_command(engine.instance(), delivery, command)
                    }
                    Target::Url { url, secret, format } => {
                        self.post(delivery, url, secret.as_ref(), *format).map(|()| true)
                    }
                }
            }
            Recipient::FleetEmail(email) => {
                let to = address(&definition.notifications, email).ok_or_else(gone)?;
                self.mail(delivery, &to, None)
            }
            Recipient::VesselEmail { vessel, email } => {
                let vessel = usize::from(vessel);
                let of = definition.vessels.get(vessel).ok_or_else(gone)?;
                let to = address(&of.notifications, email).ok_or_else(gone)?;
                self.mail(delivery, &to, Some(vessel))
            }
        }
    }

    fn post(
        &self,
        delivery: &Delivery<'_>,
        url: &FixedValue,
        secret: Option<&SecretName>,
        format: Format,
    ) -> Result<(), Failed> {
        let url = match url {
            FixedValue::Literal(url) => url.clone(),
            FixedValue::Secret { secret } => self.secret(secret)?.trim().to_owned(),
        };
        let uri = rules::check_url(&self.settings, &url).map_err(Failed::for_good)?;
        let secret = secret.map(|secret| self.secret(secret)).transpose()?;
        let body = chat::message(format, &text::brief(delivery.run))
            .unwrap_or_else(|| self.payload(delivery));
        let message = post::Message { id: &delivery.record.message_id(), body: &body };
        post::send(&uri, secret.as_deref(), &message)
    }

    fn secret(&self, secret: &SecretName) -> Result<String, Failed> {
        self.secrets
            .current(secret)
            .map(Secret::into_text)
            .map_err(|error| Failed::for_now(format!("the secret `{}`: {error}", secret.as_str())))
    }

    fn run_command(
        &self,
        instance: InstanceId,
        delivery: &Delivery<'_>,
        command: &[String],
    ) -> Result<bool, Failed> {
        rules::check_command(&self.settings, command).map_err(Failed::for_good)?;
        let payload = self.payload(delivery);
        let helper = HelperProcess {
            limits: self.vessel_limits,
            instance,
            run: delivery.record.run,
            notification: &delivery.record.message_id(),
            command,
            input: payload.as_bytes(),
            timeout: NOTIFICATION_COMMAND_TIMEOUT,
            kill_grace: self.settings.kill_grace,
        };
        helper.run(delivery.stop).map_err(Failed::for_now)
    }

    fn mail(
        &self,
        delivery: &Delivery<'_>,
        to: &str,
        vessel: Option<usize>,
    ) -> Result<bool, Failed> {
        let Some(server) = &self.settings.mail else {
            return Err(Failed::for_good(rules::NO_MAIL));
        };
        let password = match &server.secret {
            None => None,
            Some(secret) => Some(self.secret(secret)?),
        };
        let letter =
            mail::Letter { id: &delivery.record.message_id(), to, run: delivery.run, vessel };
        mail::send(server, password, &letter).map(|()| true)
    }

    /// The event as JSON, in the layout of Standard Webhooks.
    fn payload(&self, delivery: &Delivery<'_>) -> String {
        let run = &delivery.run.run;
        let ended_at: Timestamp = run.ended_at.unwrap_or(run.queued_at);
        let data = (self.run_json)(delivery.run);
        format!(r#"{{"type":"run.finished","timestamp":"{ended_at}","data":{data}}}"#)
    }
}
