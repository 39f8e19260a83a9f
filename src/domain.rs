//! The nouns: plain data and the rules that need nothing but data. No I/O, no clock, no threads.

pub mod backoff;
pub mod change;
pub mod confinement;
pub mod finding;
pub mod fleet;
pub mod graph;
pub mod ids;
pub mod mac;
pub mod mail;
pub mod name;
pub mod network;
pub mod notification;
pub mod overlap;
pub mod overrides;
pub mod rate;
pub mod request;
pub mod retention;
pub mod run;
pub mod server_proof;
pub mod share;
pub mod source;
pub mod suggest;
pub mod text;
pub mod variable;
pub mod webhook;
