//! `boathook open`: a link to the web pages that signs in without the token. It goes to standard
//! output, alone. It signs in the first browser that follows it, works once and not for long.

use serde::Deserialize;

use super::Outcome;
use super::locate::{ServerOptions, from_here};
use super::output::{advise, print, print_json};
use super::session::Session;

/// Arguments of `open`.
#[derive(Debug, clap::Args)]
pub struct OpenArgs {
    #[command(flatten)]
    server: ServerOptions,
}

/// A way to the pages that signs in.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) path: String,
    pub(super) expires_in_seconds: u64,
}

/// Asks for a link and prints it.
///
/// # Errors
/// When the server is not there or refuses.
pub fn run(arguments: &OpenArgs) -> anyhow::Result<Outcome> {
    let session = Session::open(&arguments.server)?;
    let answer = session.client.post("/session/links")?;
    if arguments.server.json {
        print_json(answer.raw())?;
        return Ok(Outcome::Done);
    }
    let link: Link = answer.parse()?;
    print(&format!("{}{}\n", from_here(session.client.base()), link.path))?;
    advise(&format!(
        "\nOpen it within {} seconds; it works once, and signs in any browser as you.",
        link.expires_in_seconds
    ));
    Ok(Outcome::Done)
}
