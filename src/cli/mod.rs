//! The command line: its shape, and which file holds which verb. Verbs that ask a running server
//! for something are clients of the admin API and nothing else.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::model::run::Status;
use crate::os::core_limit;
use crate::runner::shim;

mod api;
mod backup;
mod client;
mod complete;
mod completions;
mod configuration;
mod confirm;
mod daemon;
mod deliveries;
mod demo;
mod diff;
mod doctor;
mod fleet;
mod follow;
mod forward;
mod help;
mod import;
mod locate;
mod manual;
mod open;
mod output;
mod progress;
mod project;
mod recover;
mod restore;
mod run;
mod runs;
mod schedule;
mod secret;
mod serve;
mod session;
mod status;
mod table;
mod time;
mod token;
mod usage;
mod webhook;
mod wrap;

pub use fleet::CLIENT_VERSIONS_PAGE;
use usage::parse;

const FIRST_STEPS: &str = "\
First steps:
    boathook demo                        see it work, in a throwaway server
    boathook serve                       start a server of your own
    boathook fleet apply deploy.yaml     teach it a fleet
    boathook webhook add deploy          get the URL that starts it
    boathook runs list                   see what became of it
    boathook open                        the same and more in your browser

Options that say which server is meant (boathook fleet --help) may stand before the verb, too.";

/// Turns a POST into a durable run of your own programs.
///
/// A fleet is a graph of vessels, which are programs. A fleet has at most one webhook, a secret
/// URL: whatever is POSTed to it is kept safe on disk, and then its vessels run with it.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = format!("{FIRST_STEPS}\n\n{}", help::overview())
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server
    Serve(Box<serve::ServeArgs>),
    /// Show the whole thing at work in a throwaway server
    Demo(demo::DemoArgs),
    /// Apply, list, show and delete fleets, and look at their versions
    Fleet(fleet::FleetArgs),
    /// Add, show, replace and remove a fleet's webhook
    Webhook(webhook::WebhookArgs),
    /// Set, list and remove secrets
    Secret(secret::SecretArgs),
    /// Make, list, change and delete projects, which group fleets and have a time zone
    Project(project::ProjectArgs),
    /// Make, list and revoke tokens for people and programs
    Token(token::TokenArgs),
    /// Start a run of a fleet
    Run(run::RunArgs),
    /// List, show, follow, stop and replay runs
    Runs(runs::RunsArgs),
    /// List schedules and when they are due next
    Schedule(schedule::ScheduleArgs),
    /// List, show and run deliveries: requests to webhooks, and what became of them
    Deliveries(deliveries::DeliveriesArgs),
    /// As a vessel's command: send the request of the run to another URL
    Forward(forward::ForwardArgs),
    /// Make fleet files of what another program has
    Import(import::ImportArgs),
    /// Say in a few lines how the server is and what it does
    Status(status::StatusArgs),
    /// Examine the server and its machine, and say what to do about what is found
    Doctor(doctor::DoctorArgs),
    /// Save everything that a running server has in one file
    Backup(backup::BackupArgs),
    /// Make a new data directory of a backup, or verify one
    Restore(restore::RestoreArgs),
    /// Check the settings of a server, and show them with where they come from
    Config(configuration::ConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the names that fit in a place of the command line, for completion scripts
    #[command(hide = true)]
    Complete(complete::CompleteArgs),
    /// Write the manual pages into a directory, for packagers
    #[command(hide = true)]
    Manual(manual::ManualArgs),
    /// Print a link that signs your browser in to the web pages, once
    Open(open::OpenArgs),
    /// Explain a topic, or a verb
    Help(help::HelpArgs),
}

/// How a verb ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It did what it was asked to.
    Done,
    /// It did some of it, and has said what it did not.
    PartlyFailed,
    /// What became of the request that it forwarded.
    Forwarded(forward::Forwarded),
    /// The run that it followed ended with this status.
    Followed(Status),
}

impl Outcome {
    /// The exit status that scripts see.
    fn code(self) -> u8 {
        match self {
            Outcome::Done | Outcome::Followed(Status::Success) => 0,
            Outcome::Forwarded(forwarded) => forwarded.code(),
            Outcome::Followed(Status::Errored) => 3,
            Outcome::Followed(Status::Terminated) => 4,
            Outcome::Followed(Status::Incomplete) => 5,
            // A run is followed to its end; any other status means that it was not.
            Outcome::PartlyFailed | Outcome::Followed(_) => 1,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        outcome.code().into()
    }
}

/// The program: parses the command line, runs its verb and says what went wrong. A process that was
/// started as a shim becomes the program of a vessel instead.
pub fn main() -> ExitCode {
    if let Some(failed) = shim::take_over() {
        return failed;
    }
    core_limit::lower();
    match run(parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::fail(&format!("boathook: {}", output::told(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// When it could not be done, with a message for the person who typed it.
fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.verb {
        Verb::Serve(arguments) => serve::run(*arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Fleet(arguments) => fleet::run(arguments),
        Verb::Webhook(arguments) => webhook::run(arguments),
        Verb::Secret(arguments) => secret::run(arguments),
        Verb::Project(arguments) => project::run(arguments),
        Verb::Token(arguments) => token::run(arguments),
        Verb::Run(arguments) => run::run(arguments),
        Verb::Runs(arguments) => runs::run(arguments),
        Verb::Schedule(arguments) => schedule::run(arguments),
        Verb::Deliveries(arguments) => deliveries::run(arguments),
        Verb::Forward(arguments) => forward::run(&arguments),
        Verb::Import(arguments) => import::run(arguments),
        Verb::Status(arguments) => status::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Backup(arguments) => backup::run(&arguments),
        Verb::Restore(arguments) => restore::run(&arguments),
        Verb::Config(arguments) => configuration::run(&arguments),
        Verb::Complete(arguments) => complete::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Manual(arguments) => manual::run(&arguments),
        Verb::Open(arguments) => open::run(&arguments),
        Verb::Help(arguments) => help::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_lines_of_the_contract_are_understood() {
        for line in [
            "serve --config f --data-dir d --hooks-listen 0.0.0.0:9000 --admin-listen [::1]:0 \
             --public-url https://a.example",
            "demo --exit",
            "fleet apply a.yaml dir -",
            "fleet list --json",
            "fleet apply dir --check",
            "fleet apply dir --diff",
            "fleet edit x",
            "fleet copy x y",
            "fleet delete x --yes",
            "webhook remove x --yes",
            "config check --config f",
            "config show --json",
            "runs logs r --prefix",
            "fleet --data-dir d show x --yaml",
            "fleet delete x",
            "fleet versions x",
            "fleet diff x 1",
            "fleet diff x 1 2",
            "fleet revert x 1",
            "webhook add x --url http://h",
            "webhook show x --token-file f",
            "webhook replace x --grace 1h30m",
            "webhook remove x",
            "run x --body - --header X-A:b --header Y:c --follow",
            "run x --overrides f --json",
            "runs list --fleet x --status errored --trigger webhook --since 2h --limit 5",
            "runs list --since 2026-01-02T03:04:05Z",
            "runs queue --fleet x --limit 5 --json",
            "runs stats --fleet x --json",
            "runs show r",
            "runs logs r --vessel v --follow",
            "runs logs --latest",
            "runs logs --latest --fleet x --failed --tail 20 --vessel v",
            "runs body r",
            "runs stop r",
            "schedule list",
            "schedule list --fleet x --next 5 --json",
            "secret set API_KEY --generate",
            "secret list --json",
            "secret remove API_KEY --yes",
            "secret remove API_KEY --force",
            "project list --json",
            "project show p",
            "project create p --time-zone Europe/Berlin",
            "project set p --name q --time-zone UTC",
            "project delete p",
            "token create ci --role trigger --fleet x --expires 90d",
            "token create ann --role author --project p --json",
            "token list --json",
            "token revoke ci",
            "import hooks hooks.json",
            "import hooks - --template --output d --project p --keep-paths --secrets --url http://h",
            "status",
            "status --json",
            "doctor",
            "doctor --data-dir d --json",
            "completions bash",
            "runs replay r",
            "runs replay r --from v",
            "runs replay --status errored --since 2h --fleet x --yes",
            "runs stop --waiting --fleet x",
            "deliveries list --fleet x --verdict refused --reason paused --since 2h --limit 5",
            "deliveries show d --json",
            "deliveries body d",
            "deliveries replay d",
            "open",
            "backup f --url http://h --json",
            "backup -",
            "restore f --data-dir d --resume-runs",
            "restore --verify f --json",
            "restore - --data-dir d",
            "help",
            "help operating",
            "help fleet apply",
        ] {
            let words = ["boathook"].into_iter().chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "runs list --status gone",
            "runs replay",
            "runs replay r --status errored",
            "runs replay --since 2h --from v",
            "runs stop r --waiting",
            "runs stop --yes",
            "deliveries list --verdict odd",
            "run x --dry-run --overrides b",
            "fleet apply",
            "fleet apply d --check --diff",
            "runs logs",
            "runs logs r --latest",
            "runs logs r --failed",
            "project set p",
            "token create ci",
            "token create ci --role root",
            "token create ci --role reader --project p --fleet x",
            "token create ci --role reader --expires 90",
            "secret set a/b",
            "secret set ..",
            "backup",
            "restore f --verify --resume-runs",
        ] {
            let words = ["boathook"].into_iter().chain(line.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let of = |status| Outcome::Followed(status).code();
        assert_eq!(of(Status::Success), 0);
        assert_eq!(of(Status::Errored), 3);
        assert_eq!(of(Status::Terminated), 4);
        assert_eq!(of(Status::Incomplete), 5);
        assert_eq!(Outcome::Done.code(), 0);
        assert_eq!(Outcome::PartlyFailed.code(), 1);
    }
}
