//! The tables of keys, in the order in which messages name them.

use serde_json::Value;

use super::{Key, Kind, respond, runner, values, verify};
use crate::model::confinement::{Confinement, Limits};
use crate::model::expression::Expression;
use crate::model::fleet::{Delivery, FleetDefinition};
use crate::model::guardrails::{
    Backoff, Guardrails, RETRY_COUNT_MAX, RETRY_WAIT_MAX, RUNTIME_CUTOFF_MAX,
};
use crate::model::overlap::Overlap;
use crate::model::schedule::{CatchUp, Schedule};
use crate::model::webhook::{Mode, WebhookSettings};

/// Highest `priority`, either way: enough to tell fleets apart, few enough to remember.
pub const PRIORITY_MAX: i8 = 10;
/// Least `memory` limit: below it the kernel cannot even map a program, and ends it without a reason.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Least `open_files` limit: standard streams, the program and its libraries.
const OPEN_FILES_MIN: u32 = 8;
/// Highest limit of a number. The kernel's own ends for files (`fs.nr_open`) and processes
/// (`kernel.pid_max`) are far below.
const COUNT_MAX: u32 = 1 << 30;

/// A key that the code of its block reads, writes and shows.
const fn by_hand<T>(name: &'static str) -> Key<T> {
    Key { name, kind: Kind::ByHand }
}

/// The keys of a fleet.
pub static FLEET: &[Key<FleetDefinition>] = &[
    by_hand("_id"),
    by_hand("name"),
    by_hand("project"),
    by_hand("vessels"),
    by_hand("connections"),
    Key {
        name: "concurrency",
        kind: Kind::Number {
            min: 1,
            max: u32::MAX,
            get: |it| it.concurrency.map(u64::from),
            set: |it, runs| it.concurrency = Some(runs),
        },
    },
    Key {
        name: "concurrency_key",
        kind: Kind::Special {
            read: |value, it| values::expression(value).map(|key| it.concurrency_key = key),
            yaml: |it| it.concurrency_key.as_ref().map(|key| values::scalar(key.text())),
            json: |it| it.concurrency_key.as_ref().map(Expression::text).into(),
        },
    },
    Key {
        name: "overlap",
        kind: Kind::Word {
            words: &[
                ("queue", |it| it.overlap = Overlap::Queue),
                ("skip", |it| it.overlap = Overlap::Skip),
                ("replace", |it| it.overlap = Overlap::Replace),
                ("cancel", |it| it.overlap = Overlap::Cancel),
            ],
            get: |it| it.overlap.word(),
        },
    },
    Key {
        name: "debounce",
        kind: Kind::Special {
            read: |value, it| values::debounce(value).map(|debounce| it.debounce = debounce),
            yaml: |it| it.debounce.map(values::debounce_yaml),
            json: |it| it.debounce.map_or(Value::Null, values::debounce_json),
        },
    },
    Key {
        name: "priority",
        kind: Kind::Signed {
            max: PRIORITY_MAX,
            get: |it| it.priority,
            set: |it, priority| it.priority = priority,
        },
    },
    Key {
        name: "delivery",
        kind: Kind::Word {
            words: &[
                ("at_least_once", |it| it.delivery = Delivery::AtLeastOnce),
                ("at_most_once", |it| it.delivery = Delivery::AtMostOnce),
            ],
            get: |it| it.delivery.word(),
        },
    },
    by_hand("notifications"),
    by_hand("triggers"),
    Key {
        name: "user",
        kind: Kind::Special {
            read: |value, it| values::user(value).map(|user| it.user = Some(user)),
            yaml: |it| it.user.as_deref().map(values::scalar),
            json: |it| it.user.as_deref().into(),
        },
    },
    Key {
        name: "runner",
        kind: Kind::Special {
            read: |value, it| runner::runner(value).map(|runner| it.runner = runner),
            yaml: |it| it.runner.as_ref().map(runner::yaml),
            json: |it| runner::json(it.runner.as_ref()),
        },
    },
    by_hand("notify"),
    Key {
        name: "keep_runs",
        kind: Kind::Special {
            read: |value, it| values::keep_runs(value).map(|kept| it.keep_runs = kept),
            yaml: |it| it.keep_runs.map(|kept| kept.to_string()),
            json: |it| it.keep_runs.map(|kept| kept.to_string()).into(),
        },
    },
    by_hand("webhook"),
    by_hand("schedules"),
];

/// The keys of an entry of a fleet's `schedules`.
pub static SCHEDULE: &[Key<Schedule>] = &[
    Key {
        name: "cron",
        kind: Kind::Special {
            read: |value, it| values::cron(value).map(|cron| it.cron = cron),
            yaml: |it| Some(values::scalar(it.cron.text())),
            json: |it| it.cron.text().into(),
        },
    },
    Key {
        name: "time_zone",
        kind: Kind::Special {
            read: |value, it| values::time_zone(value).map(|zone| it.time_zone = zone),
            yaml: |it| it.time_zone.as_deref().map(values::scalar),
            json: |it| it.time_zone.as_deref().into(),
        },
    },
    Key {
        name: "catch_up",
        kind: Kind::Word {
            words: &[
                ("latest", |it| it.catch_up = CatchUp::Latest),
                ("all", |it| it.catch_up = CatchUp::All),
                ("none", |it| it.catch_up = CatchUp::None),
            ],
            get: |it| it.catch_up.word(),
        },
    },
];

/// The keys of a fleet's `webhook`.
pub static WEBHOOK: &[Key<WebhookSettings>] = &[
    Key {
        name: "verify",
        kind: Kind::Special {
            read: |value, it| verify::verification(value).map(|checks| it.verify = checks),
            yaml: |it| it.verify.as_ref().and_then(verify::yaml),
            json: |it| serde_json::to_value(&it.verify).unwrap_or_default(),
        },
    },
    Key {
        name: "mode",
        kind: Kind::Word {
            words: &[
                ("enforce", |it| it.mode = Mode::Enforce),
                ("observe", |it| it.mode = Mode::Observe),
            ],
            get: |it| it.mode.word(),
        },
    },
    Key {
        name: "deduplicate",
        kind: Kind::Special {
            read: |value, it| values::deduplicate(value).map(|wanted| it.deduplicate = wanted),
            yaml: |it| values::deduplicate_yaml(&it.deduplicate),
            json: |it| values::deduplicate_json(&it.deduplicate),
        },
    },
    Key {
        name: "when",
        kind: Kind::Special {
            read: |value, it| values::expression(value).map(|when| it.when = when),
            yaml: |it| it.when.as_ref().map(|when| values::scalar(when.text())),
            json: |it| it.when.as_ref().map(Expression::text).into(),
        },
    },
    Key {
        name: "respond",
        kind: Kind::Special {
            read: |value, it| respond::respond(value).map(|answer| it.respond = answer),
            yaml: |it| it.respond.as_ref().map(respond::yaml),
            json: |it| it.respond.as_ref().map(respond::to_json).into(),
        },
    },
    Key {
        name: "allow",
        kind: Kind::Special {
            read: |value, it| values::networks(value).map(|networks| it.allow = networks),
            yaml: |it| (!it.allow.is_empty()).then(|| values::networks_yaml(&it.allow)),
            json: |it| it.allow.texts().collect::<Vec<_>>().into(),
        },
    },
    Key {
        name: "rate_limit",
        kind: Kind::Special {
            read: |value, it| values::rate(value).map(|rate| it.rate_limit = rate),
            yaml: |it| it.rate_limit.map(|rate| rate.to_string()),
            json: |it| it.rate_limit.map(|rate| rate.to_string()).into(),
        },
    },
    Key {
        name: "keep_path",
        kind: Kind::Special {
            read: |value, it| value.truth().map(|keep| it.keep_path = keep),
            yaml: |it| it.keep_path.then(|| "true".to_owned()),
            json: |it| it.keep_path.into(),
        },
    },
];

/// The keys of a vessel.
pub static VESSEL: &[Key<Confinement>] = &[
    by_hand("_id"),
    by_hand("command"),
    by_hand("run"),
    by_hand("source"),
    by_hand("working_directory"),
    by_hand("environment"),
    by_hand("guardrails"),
    by_hand("runner"),
    by_hand("notifications"),
    by_hand("limits"),
    Key {
        name: "nice",
        kind: Kind::Special {
            read: |value, it| values::nice(value).map(|nice| it.nice = Some(nice)),
            yaml: |it| it.nice.map(|nice| nice.to_string()),
            json: |it| it.nice.into(),
        },
    },
    Key {
        name: "umask",
        kind: Kind::Special {
            read: |value, it| values::umask(value).map(|mask| it.umask = Some(mask)),
            // Quoted, or other readers of YAML take it for a number.
            yaml: |it| it.umask.map(|mask| format!("\"{mask:03o}\"")),
            json: |it| it.umask.map(|mask| format!("{mask:03o}")).into(),
        },
    },
];

/// The keys of a vessel's `guardrails`.
pub static GUARDRAILS: &[Key<Guardrails>] = &[
    Key {
        name: "retry_count",
        kind: Kind::Number {
            min: 0,
            max: RETRY_COUNT_MAX,
            get: |it| Some(it.retry_count.into()),
            set: |it, count| it.retry_count = count,
        },
    },
    Key {
        name: "retry_wait",
        kind: Kind::Duration {
            max: RETRY_WAIT_MAX,
            get: |it| it.retry_wait,
            set: |it, wait| it.retry_wait = wait,
        },
    },
    Key {
        name: "retry_backoff",
        kind: Kind::Word {
            words: &[
                ("constant", |it| it.retry_backoff = Backoff::Constant),
                ("exponential", |it| it.retry_backoff = Backoff::Exponential),
            ],
            get: |it| it.retry_backoff.word(),
        },
    },
    Key {
        name: "runtime_cutoff",
        kind: Kind::Duration {
            max: RUNTIME_CUTOFF_MAX,
            get: |it| it.runtime_cutoff,
            set: |it, cutoff| it.runtime_cutoff = cutoff,
        },
    },
    Key {
        name: "exclude_exit_code_ranges",
        kind: Kind::Special {
            read: |value, it| {
                values::exit_codes(value).map(|codes| it.exclude_exit_code_ranges = codes)
            },
            yaml: |it| Some(values::exit_codes_yaml(&it.exclude_exit_code_ranges)),
            json: |it| values::exit_codes_json(&it.exclude_exit_code_ranges),
        },
    },
    Key {
        name: "retry_on_exit_codes",
        kind: Kind::Special {
            read: |value, it| values::exit_codes(value).map(|codes| it.retry_on_exit_codes = codes),
            yaml: |it| Some(values::exit_codes_yaml(&it.retry_on_exit_codes)),
            json: |it| values::exit_codes_json(&it.retry_on_exit_codes),
        },
    },
];

/// The keys of a vessel's `limits`. The API shows those that are set.
pub static LIMITS: &[Key<Limits>] = &[
    Key {
        name: "memory",
        kind: Kind::Size {
            min: MEMORY_BYTES_MIN,
            get: |it| it.memory,
            set: |it, bytes| it.memory = Some(bytes),
        },
    },
    Key {
        name: "cpu_time",
        kind: Kind::Seconds {
            get: |it| it.cpu_time,
            set: |it, seconds| it.cpu_time = Some(seconds),
        },
    },
    Key {
        name: "open_files",
        kind: Kind::Number {
            min: OPEN_FILES_MIN,
            max: COUNT_MAX,
            get: |it| it.open_files,
            set: |it, files| it.open_files = Some(files.into()),
        },
    },
    Key {
        name: "processes",
        kind: Kind::Number {
            min: 1,
            max: COUNT_MAX,
            get: |it| it.processes,
            set: |it, processes| it.processes = Some(processes.into()),
        },
    },
    Key {
        name: "file_size",
        kind: Kind::Size {
            min: 0,
            get: |it| it.file_size,
            set: |it, bytes| it.file_size = Some(bytes),
        },
    },
];
