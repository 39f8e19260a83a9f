//! `boathook open`: a link to the web pages that signs in without the token. It goes to standard
//! output, alone. Whoever follows it first is in, so it works once and not for long.

use std::net::IpAddr;

use serde::Deserialize;

use super::Outcome;
use super::locate::ServerOptions;
use super::output::{advise, print, print_json};
use super::session::Session;
use crate::config::HttpUrl;

/// Arguments of `open`.
#[derive(Debug, clap::Args)]
pub struct OpenArgs {
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Deserialize)]
struct Link {
    path: String,
    expires_in_seconds: u64,
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
    print(&format!("{}{}\n", for_browsers(session.client.base()), link.path))?;
    advise(&format!(
        "\nOpen it within {} seconds; it works once. Whoever has it is signed in as you.",
        link.expires_in_seconds
    ));
    Ok(Outcome::Done)
}

/// `base` as a browser on this machine can reach it: the address that stands for all interfaces
/// leads nowhere.
fn for_browsers(base: &str) -> String {
    let address = base.parse::<HttpUrl>().ok().and_then(|url| url.host.parse::<IpAddr>().ok());
    match address {
        Some(address) if address.is_unspecified() => {
            base.replacen("0.0.0.0", "127.0.0.1", 1).replacen("[::]", "[::1]", 1)
        }
        _ => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_an_address_that_exists() {
        for (base, expected) in [
            ("http://0.0.0.0:9001", "http://127.0.0.1:9001"),
            ("http://[::]:9001", "http://[::1]:9001"),
            ("http://192.0.2.7:9001", "http://192.0.2.7:9001"),
            ("https://boat.example.com", "https://boat.example.com"),
        ] {
            assert_eq!(for_browsers(base), expected);
        }
    }
}
