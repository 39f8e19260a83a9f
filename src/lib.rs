//! Boathook turns a POST into a durable run of your own programs, on one machine, with one binary.

#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod engine;
pub mod fleet_file;
pub mod listener;
pub mod model;
pub mod notify;
pub mod os;
pub mod runner;
pub mod scheduler;
pub mod store;
pub mod web;
