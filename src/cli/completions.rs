//! `boathook completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Outcome, output};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where the script goes:
    bash    boathook completions bash > ~/.local/share/bash-completion/completions/boathook
    zsh     boathook completions zsh > a file _boathook in a directory of $fpath
    fish    boathook completions fish > ~/.config/fish/completions/boathook.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completion script of a shell.
///
/// # Errors
/// When it cannot be written.
pub fn run(arguments: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "boathook", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
