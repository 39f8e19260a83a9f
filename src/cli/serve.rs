//! `boathook serve`: settings in, server up.

use std::path::PathBuf;

use super::{Outcome, usage};
use crate::config::{self, ConfigError, Settings, Sources};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every setting is a flag, an environment variable and a line of the configuration file, the first \
of them that is given being the one that counts. In the file, names have underscores:

    hooks_listen = \"0.0.0.0:9000\"
    public_url = \"https://hooks.example.com\"
    max_body_bytes = \"25MiB\"
    shutdown_grace = \"30s\"

Without --config, boathook.toml in the data directory is read, or, if there is none, \
/etc/boathook/boathook.toml.

When it is ready, one line goes to standard output; the log goes to standard error:

    boathook ready hooks=http://127.0.0.1:9000 admin=http://127.0.0.1:9001

SIGTERM or Ctrl-C: running vessels get --shutdown-grace to finish, and what is left is resumed at \
the next start. A second signal skips the grace.")]
pub struct ServeArgs {
    /// Configuration file [default: boathook.toml in the data directory, else
    /// /etc/boathook/boathook.toml]
    #[arg(long, env = "BOATHOOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    sources: Sources,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// When a setting is wrong or the server cannot start.
pub fn run(arguments: ServeArgs) -> anyhow::Result<Outcome> {
    let load = || arguments.settings();
    let settings = load()?;
    let lines = config::file_lines(&settings.file)?.unwrap_or_default();
    let matches = usage::matches();
    let effective = config::effective(matches.subcommand_matches("serve"), &settings, &lines);
    crate::cli::daemon::serve(settings, effective, load)?;
    Ok(Outcome::Done)
}

impl ServeArgs {
    /// The settings of a server with these arguments.
    ///
    /// # Errors
    /// When one is wrong.
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        Settings::load(self.sources.clone(), self.config.as_deref())
    }
}
