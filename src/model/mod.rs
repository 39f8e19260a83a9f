//! Plain data and the rules that need nothing but data: no I/O, no clock, no threads.

pub mod change;
pub mod client_address;
pub mod clock;
pub mod computed;
pub mod confinement;
pub mod defaults;
#[allow(dead_code, reason = "the ledger of deliveries is under way")]
pub mod delivery;
pub mod duration;
#[allow(dead_code, reason = "the ledger of deliveries is under way")]
pub mod event;
pub mod expression;
pub mod finding;
pub mod fleet;
pub mod graph;
pub mod guardrails;
pub mod ids;
pub mod limits;
pub mod mac;
pub mod mail;
pub mod metrics;
pub mod name;
pub mod network;
pub mod notification;
pub mod output_name;
pub mod overlap;
pub mod overrides;
pub mod random;
pub mod rate;
pub mod rate_limit;
pub mod refusal;
pub mod request;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod sender;
pub mod server_proof;
pub mod share;
pub mod size;
pub mod source;
pub mod suggest;
pub mod text;
pub mod text_value;
pub mod time_zone;
pub mod variable;
pub mod webhook;
