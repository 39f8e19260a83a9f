//! `boathook completions`: what a shell needs to complete the command line. What is generated knows verbs
//! and options; what stands behind it asks the server for the names of fleets and the ids of runs.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Outcome, output};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where the script goes:
    bash    boathook completions bash > \\
                ~/.local/share/bash-completion/completions/boathook
    zsh     boathook completions zsh > a file _boathook in a directory of $fpath
    fish    boathook completions fish > ~/.config/fish/completions/boathook.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The part of bash. Names are taken as they come: nothing expands them.
const NAMES_BASH: &str = r#"
_boathook_with_names() {
    local names
    names=$(boathook complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ -n $names ]]; then
        mapfile -t COMPREPLY <<< "$names"
        return 0
    fi
    _boathook "$@"
}
complete -F _boathook_with_names -o bashdefault -o default boathook
"#;

/// The part of zsh, in which the generated functions go by the name `_boathook_verbs`.
const NAMES_ZSH: &str = r#"
_boathook() {
    local -a names
    names=(${(f)"$(boathook complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#names} )); then
        compadd -Q -a names
    else
        _boathook_verbs "$@"
    fi
}
if [ "$funcstack[1]" = "_boathook" ]; then
    _boathook "$@"
else
    compdef _boathook boathook
fi
"#;
/// Where the generated script of zsh registers itself.
const REGISTRATION_ZSH: &str = "\nif [ \"$funcstack[1]\"";

/// The part of fish.
const NAMES_FISH: &str = "\n\
complete -c boathook -f -a '(boathook complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'\n";

/// Prints the completion script of a shell.
///
/// # Errors
/// When it cannot be written.
pub fn run(arguments: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "boathook", &mut script);
    let script = String::from_utf8_lossy(&script);
    output::print(&with_names(arguments.shell, &script))?;
    Ok(Outcome::Done)
}

fn with_names(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{NAMES_BASH}"),
        Shell::Fish => format!("{script}{NAMES_FISH}"),
        Shell::Zsh => {
            let functions = script.split(REGISTRATION_ZSH).next().unwrap_or(script);
            format!("{}{NAMES_ZSH}", functions.replace("_boathook", "_boathook_verbs"))
        }
        _ => script.to_owned(),
    }
}
