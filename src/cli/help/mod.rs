//! `boathook help`: the verbs, and the topics that are longer than the help of a verb. A topic is
//! one Markdown file here, and from it come what a terminal shows and a manual page.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::output::print;
use super::{Cli, Outcome};

mod manual_page;
mod markup;
mod terminal;

use markup::{Document, title};

/// Arguments of `help`.
#[derive(Debug, clap::Args)]
pub struct HelpArgs {
    /// A topic, or a verb (and what is below it)
    #[arg(value_name = "TOPIC|VERB")]
    words: Vec<String>,
}

/// A name, and the text.
type Topic = (&'static str, &'static str);

macro_rules! topics {
    ($($name:literal),+) => {
        &[$(($name, include_str!(concat!("", $name, ".md")))),+]
    };
}

const TOPICS: &[Topic] = topics![
    "operating",
    "promises",
    "security",
    "tokens",
    "sizing",
    "exposing",
    "elsewhere",
    "migrating",
    "fleet-file",
    "senders",
    "answers",
    "secrets",
    "expressions",
    "vessel"
];

/// The topics, a line each: what the help of the whole program ends with.
pub fn overview() -> String {
    let mut text = "Topics (boathook help TOPIC):\n".to_owned();
    for (name, source) in TOPICS {
        // At every start of the program: no more of it is read.
        let (_, summary) = title(source);
        text.push_str(&format!("    {name:<12} {summary}\n"));
    }
    text.trim_end().to_owned()
}

/// The manual pages of the topics: their file names and their content, which `source` signs.
pub fn manual_pages(source: &str) -> impl Iterator<Item = (String, String)> {
    TOPICS.iter().map(move |(name, text)| {
        let page = format!("boathook-{name}");
        let content = manual_page::render(&Document::parse(text), &page, source);
        (format!("{page}.{}", manual_page::SECTION), content)
    })
}

/// Shows a topic, or the help of a verb, or that of the whole program.
///
/// # Errors
/// When it cannot be written. What is neither topic nor verb ends the program as a wrong usage.
pub fn run(arguments: &HelpArgs) -> anyhow::Result<Outcome> {
    if let [word] = arguments.words.as_slice()
        && let Some((_, text)) = TOPICS.iter().find(|(name, _)| *name == word.as_str())
    {
        print(&terminal::render(&Document::parse(text), terminal::width()))?;
        return Ok(Outcome::Done);
    }
    match of_command(&arguments.words) {
        Some(help) => print(&help)?,
        None => unknown(&arguments.words.join(" ")).exit(),
    }
    Ok(Outcome::Done)
}

/// The help of the verb that `words` lead to, as its `--help` shows it.
fn of_command(words: &[String]) -> Option<String> {
    let mut command = Cli::command();
    // Gives the verbs their whole names.
    command.build();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word)?;
    }
    Some(found.render_long_help().ansi().to_string())
}

fn unknown(asked: &str) -> clap::Error {
    let mut command = Cli::command();
    let topics: Vec<_> = TOPICS.iter().map(|(name, _)| *name).collect();
    let verbs: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    let verbs: Vec<_> = verbs.iter().map(|verb| verb.get_name()).collect();
    let message = format!(
        "there is no help about {asked:?}\n\n  topics: {}\n  verbs:  {}",
        topics.join(", "),
        verbs.join(", ")
    );
    command.error(ErrorKind::InvalidSubcommand, message)
}

#[cfg(test)]
mod tests;
