//! The metrics for a Prometheus server, in the order in which a request passes the parts that they measure. No label grows with what is configured or sent, and none holds a secret.

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::{Gauges, Load};
use crate::listener;
use crate::listener::Response;
use crate::model::metrics::{process, text};
use crate::web::instruments::Instruments;

/// Reads one of a listener's counters.
type CountOf = fn(&listener::Counters) -> u64;

pub(super) fn get(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    let mut text = text::Text::default();
    text.gauges("boathook_build_info", "Which version runs: always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let (load, gauges) = (admin.engine.load(), admin.engine.gauges());
    connections(&admin.instruments, &mut text);
    deliveries(admin, &mut text);
    runs(admin, &load, &gauges, &mut text);
    schedules(admin, &mut text);
    vessels(admin, &load, &mut text);
    store(admin, &mut text);
    notifications(admin, &gauges, &mut text);
    process::write(&mut text);
    Ok(Reply::Plain(Response::new(200, text::CONTENT_TYPE, text.into_string())))
}

fn connections(instruments: &Instruments, text: &mut text::Text) {
    let listeners = [("hooks", &instruments.hooks), ("admin", &instruments.admin)];
    let mut open = text.gauges("boathook_connections_open", "Connections that are being served.");
    for (listener, counters) in listeners {
        open.sample(&[("listener", listener)], counters.open());
    }
    let families: [(&'static str, &str, CountOf); 5] = [
        ("boathook_connections_accepted_total", "Connections that were accepted.", |it| {
            it.accepted.get()
        }),
        (
            "boathook_connections_turned_away_total",
            "Connections that found no place and were turned away at once.",
            |it| it.turned_away.get(),
        ),
        (
            "boathook_connections_given_up_total",
            "Connections that gave way to others when all places were taken.",
            |it| it.given_up.get(),
        ),
        (
            "boathook_accept_errors_total",
            "Times that the system would not let a listener accept; mostly for lack of descriptors.",
            |it| it.accept_errors.get(),
        ),
        ("boathook_requests_total", "Requests with a valid head.", |it| it.requests.get()),
    ];
    for (name, help, count) in families {
        let mut family = text.counters(name, help);
        for (listener, counters) in listeners {
            family.sample(&[("listener", listener)], count(counters));
        }
    }
    let mut refused = text.counters("boathook_requests_refused_total", "Refusals, by reason.");
    for (listener, counters) in listeners {
        refused.each(&[("listener", listener)], "reason", &counters.refused);
    }
}

fn deliveries(admin: &AdminHandler, text: &mut text::Text) {
    let help = "Requests to webhooks, by what became of them and why.";
    let mut family = text.counters("boathook_webhook_requests_total", help);
    for (verdict, reason, count) in admin.engine.delivery_counts().all() {
        family.sample(&[("verdict", verdict.word()), ("reason", reason)], count);
    }
}

fn runs(admin: &AdminHandler, load: &Load, gauges: &Gauges, text: &mut text::Text) {
    let (engine, instruments) = (&admin.engine, admin.engine.metrics());
    let is_accepting = u8::from(engine.check_room().is_ok());
    text.gauge("boathook_accepting", "Whether runs are accepted, as /healthz tells.", is_accepting);
    let is_paused = u8::from(engine.is_paused());
    let help = "Whether no vessel is started because the machine lacks what a start takes.";
    text.gauge("boathook_launching_paused", help, is_paused);
    text.counters("boathook_runs_accepted_total", "Runs that have become durable, by trigger.")
        .each(&[], "trigger", &instruments.accepted);
    text.histogram(
        "boathook_accept_duration_seconds",
        "From the last byte of a webhook's request until its run is durable.",
        &admin.instruments.accepting,
    );
    text.gauge("boathook_runs_waiting", "Runs that wait to start.", load.depth.waiting);
    let help = "Runs that may wait, to start or to be retried.";
    text.gauge("boathook_runs_waiting_max", help, load.waiting_max);
    let age = gauges.oldest_waiting_age.unwrap_or_default().as_secs_f64();
    let help = "How long the run has waited to start that was accepted first; 0 when none waits.";
    text.gauge("boathook_oldest_waiting_run_age_seconds", help, age);
    let help = "Senders that wait for the end of their runs.";
    text.gauge("boathook_waiting_senders", help, engine.waiting_senders());
    text.gauge("boathook_runs_active", "Runs that have started and not ended.", load.depth.active);
    let help = "Vessels that wait for their next attempt.";
    text.gauge("boathook_retries_waiting", help, load.depth.retries);
    text.counters("boathook_runs_ended_total", "Runs that have ended, by final status.").each(
        &[],
        "status",
        &instruments.ended,
    );
}

fn schedules(admin: &AdminHandler, text: &mut text::Text) {
    let instruments = admin.engine.metrics();
    text.counter(
        "boathook_due_times_passed_over_total",
        "Due times of schedules that did not run, as `catch_up` says.",
        instruments.due_times_passed_over.get(),
    );
    text.counter(
        "boathook_due_times_postponed_total",
        "Tries to run a due time that found no room; it is tried again.",
        instruments.due_times_postponed.get(),
    );
}

fn vessels(admin: &AdminHandler, load: &Load, text: &mut text::Text) {
    let instruments = admin.engine.metrics();
    text.gauge("boathook_workers", "Vessels that may run at once.", load.workers);
    text.gauge("boathook_workers_busy", "Vessels that are running.", load.depth.running);
    text.counters("boathook_vessel_attempts_total", "Attempts that have ended, by how they did.")
        .each(&[], "end", &instruments.attempts);
    text.histogram(
        "boathook_vessel_duration_seconds",
        "How long vessels ran, from the making of their work directory to the end of their last process.",
        &instruments.running,
    );
    text.histogram(
        "boathook_vessel_spawn_duration_seconds",
        "How long the system took to start the programs of vessels.",
        &admin.spawning,
    );
}

fn store(admin: &AdminHandler, text: &mut text::Text) {
    let instruments = admin.engine.commit_instruments();
    text.histogram(
        "boathook_commit_duration_seconds",
        "How long commits took, from the first of what they hold until all of it was on the disk.",
        &instruments.duration,
    );
    text.histogram(
        "boathook_commit_group_size",
        "How many requests for a commit shared one.",
        &instruments.group,
    );
    if let Some(disk) = admin.engine.disk_space() {
        let help = "What the server may still write where the data directory is.";
        text.gauge("boathook_disk_free_bytes", help, disk.free);
        let help = "The size of the file system where the data directory is.";
        text.gauge("boathook_disk_size_bytes", help, disk.total);
    }
    if let Some(bytes) = admin.engine.database_bytes() {
        text.gauge("boathook_database_size_bytes", "The database's file.", bytes);
    }
}

fn notifications(admin: &AdminHandler, gauges: &Gauges, text: &mut text::Text) {
    let instruments = admin.engine.metrics();
    let waiting = gauges.notifications_waiting;
    text.gauge("boathook_notifications_waiting", "Notifications to be delivered.", waiting);
    text.counter(
        "boathook_notifications_delivered_total",
        "Notifications that were delivered, or whose run was removed before.",
        instruments.notifications_delivered.get(),
    );
    text.counter(
        "boathook_notifications_given_up_total",
        "Notifications that were given up.",
        instruments.notifications_given_up.get(),
    );
}
