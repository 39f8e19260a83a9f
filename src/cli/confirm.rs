//! Asks before something is done to many at once.

use std::io::{self, BufRead, IsTerminal};

use anyhow::bail;

use super::output::advise;

/// Goes on when the person at the terminal agrees to `asked`.
///
/// # Errors
/// Without a terminal, or when the answer is not yes.
pub fn confirm(asked: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{asked} Nothing is done without a confirmation; give --yes");
    }
    advise(&format!("{asked} [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}
