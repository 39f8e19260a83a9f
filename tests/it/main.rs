//! Black-box tests of the `boathook` binary against its contract: every test starts the real
//! program on a data directory of its own and talks to it as its users do.
//!
//! Tests run in parallel on loaded machines. They wait for conditions, never for durations.

mod harness;

mod activation;
mod admin;
mod admission;
mod backup;
mod cli;
mod clock;
mod confinement;
mod crash;
mod crowds;
mod daemons;
mod description;
mod differential;
mod doctor;
mod environment;
mod evictions;
mod examples;
mod fleet_secrets;
mod full_disk;
mod fuzzed;
mod gate;
mod graph;
mod help;
mod hostile;
mod impostor;
mod intake;
mod layers;
mod lists;
mod made_up;
mod memory;
mod messages;
mod metrics;
mod names;
mod notices;
mod notifications;
mod orphans;
mod overrides;
mod payload;
mod powercut;
mod proxies;
mod recovery;
mod replay;
mod requests;
mod retention;
mod runs;
mod secrets;
mod shares;
mod shortages;
mod soak;
mod sources;
mod stopping;
mod supervised;
mod terminal;
mod text_files;
mod threads;
mod tls;
mod turns;
mod tutorial;
mod ui;
mod upgrade;
mod vessels;
mod webhooks;
