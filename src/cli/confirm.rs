//! Asks a person before something is done that cannot be taken back, or to many at once.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::bail;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 100;

/// Goes on when the person at the terminal agrees to `asked`.
///
/// # Errors
/// Without a terminal, or when the answer is not yes.
pub fn confirm(asked: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{asked} Nothing is done without a confirmation; give --yes");
    }
    match is_confirmed(asked, false)? {
        true => Ok(()),
        false => bail!("nothing was done"),
    }
}

/// Asks for a yes, unless `yes` was said on the command line or standard input is no terminal.
///
/// # Errors
/// When the person calls it off.
pub fn confirm_on_terminal(question: &str, yes: bool) -> anyhow::Result<()> {
    if !yes && io::stdin().is_terminal() && !is_confirmed(question, false)? {
        bail!("called off; nothing is changed");
    }
    Ok(())
}

/// The answer to `question`; `default` for an empty line.
///
/// # Errors
/// When standard input cannot be read.
pub fn is_confirmed(question: &str, default: bool) -> io::Result<bool> {
    let choice = if default { "[Y/n]" } else { "[y/N]" };
    let mut err = io::stderr();
    write!(err, "{question} {choice} ")?;
    err.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)? == 0 {
        return Ok(false);
    }
    Ok(match answer.trim() {
        "" => default,
        answer => ["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes)),
    })
}
