//! Boathook turns a POST into a durable run of your own programs, on one machine, with one binary.

#![deny(unsafe_code)]

pub mod activation;
pub mod admission;
pub mod archive;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core_limit;
pub mod daemon;
pub mod descriptors;
pub mod doctor;
pub mod domain;
pub mod duration;
pub mod engine;
pub mod fatal;
pub mod fleet_file;
pub mod gate;
pub mod http;
pub mod inherited;
pub mod launch;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod priority;
pub mod queue;
pub mod random;
pub mod restore;
pub mod secrets;
pub mod signals;
pub mod size;
pub mod storage;
pub mod systemd;
pub mod terminal;
pub mod text_file;
pub mod threads;
pub mod time_zone;
pub mod trust;
