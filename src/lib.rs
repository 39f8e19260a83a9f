//! Boathook turns a POST into a durable run of your own programs, on one machine, with one binary.
//!
//! The rooms are private: the compiler warns of code that nothing reaches. The binary uses [`main`],
//! tests and benches use [`internals`].

// Tests may do what production code may not: `[lints]` in Cargo.toml knows no difference.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

mod cli;
mod config;
mod diagnostics;
mod engine;
mod fleet_file;
mod listener;
mod model;
mod notify;
mod os;
mod runner;
mod scheduler;
mod store;
mod web;

pub use cli::main;

/// The parts of the rooms that the integration tests, the simulation, the fuzz targets and the
/// benches use. Nothing here is an interface for others.
#[doc(hidden)]
pub mod internals {
    pub use crate::config::Settings;
    pub use crate::engine::{
        AcceptError, Assignment, AttemptOutcome, AuditFilter, Engine, EngineError, ExpectedVersion,
        FinishedAttempt, HistorySize, NewAccessToken, Reach, ReplayError, RunFilter, VersionPasses,
        World,
    };
    pub use crate::fleet_file::{FleetFile, parse_yaml};
    pub use crate::listener::{
        Admitted, BodyStore, Decoder, Framing, Handled, Handler, Head, Listener, Options, Request,
        Response, Scanner,
    };
    pub use crate::model::access::{Role, Scope};
    pub use crate::model::audit::{AuditClass, AuditEntry};
    pub use crate::model::change::{Change, HistoryEntry, QueueEntry, ServerRecord};
    pub use crate::model::clock::{Clock, Timestamp};
    pub use crate::model::concurrency_key::ConcurrencyKey;
    pub use crate::model::debounce::{Debounce, Hold};
    pub use crate::model::event::{
        Arrival, ArrivalRecord, BodyHash, Deduplicate, Event, EventEntry, EventKey,
    };
    pub use crate::model::expression::{Expression, Payload, Variables};
    pub use crate::model::fleet::{Delivery, Fleet, FleetDefinition};
    pub use crate::model::graph::Condition;
    pub use crate::model::guardrails::{Backoff, Guardrails};
    pub use crate::model::ids::{FleetId, InstanceId, RequestId, RunId, RunIds, VesselRunId};
    pub use crate::model::overlap::Overlap;
    pub use crate::model::overrides::Overrides;
    pub use crate::model::random::Random;
    pub use crate::model::refusal::Refusal;
    pub use crate::model::request::RequestHead;
    pub use crate::model::retention::Retention;
    pub use crate::model::run::{
        End, PayloadSize, RunRecord, Skip, Status, Trigger, VesselRunRecord,
    };
    pub use crate::model::schedule::{CatchUp, ScheduleEntry, ScheduleKey};
    pub use crate::os::fatal::end_with;
    pub use crate::runner::output::{CapturedOutput, Kept, LiveOutput};
    pub use crate::runner::shortage::Shortage;
    pub use crate::runner::stop::{Stop, StopSignal};
    pub use crate::runner::{Ended, HowEnded, Launch, Launcher, Unfinished};

    pub mod backup {
        pub use crate::store::backup::format::{Header, RowChange, Writer};
        pub use crate::store::backup::restore::verify;
    }

    pub mod defaults {
        pub use crate::config::defaults::MAX_CONNECTIONS;
    }

    pub mod ledger {
        pub use crate::engine::{DeliveryFilter, NewDelivery, StoredDeliveries};
        pub use crate::model::delivery::{Delivery, KEPT_FOR, KEPT_PER_FLEET_MAX, Verdict};
        pub use crate::model::ids::RequestId;
    }

    pub mod limits {
        pub use crate::cli::CLIENT_VERSIONS_PAGE;
        pub use crate::listener::{
            DRAIN_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX, RESERVED_THREADS,
        };
        pub use crate::model::limits::{
            CLOCK_STEP_MAX, HEAD_BYTES_MAX, REJECTED_CONNECTIONS, ROW_BYTES_MAX, SLICE_BYTES,
        };
        pub use crate::os::logging::REFUSALS_LOGGED_MAX;
        pub use crate::web::{ADMIN_HANDLERS, HOOK_HANDLERS, HOOK_REQUESTS_MAX};
    }

    pub mod senders {
        pub use crate::model::sender::table::PRESETS;
        pub use crate::model::sender::{
            Algorithm, Check, Encoding, Form, KeyForm, Piece, Rule, Template, TimestampPlace, Unit,
            Verification,
        };
        pub use crate::model::variable::SecretName;
        pub use crate::web::senders::crypto::Key;
        pub use crate::web::senders::explain::{Hints, explain};
        pub use crate::web::senders::signatures::{Malformed, moment, part, signatures};
        pub use crate::web::senders::signed::{Content, Feed, Texts, feed};
        pub use crate::web::senders::{Context, Failure, Outcome, Presented, verify};
    }

    pub mod statistics {
        pub use crate::model::statistics::{Hour, KEPT_FOR, Tally};
    }

    pub mod store {
        pub use crate::store::faults::Faults;
        pub use crate::store::{DATABASE_CACHE_BYTES, DataDirectory, SCHEMA, Store, open};
    }
}
