//! What the command line writes: results to standard output, advice to standard error. Owns
//! colours, and what happens when the reader of a pipe has gone.

use std::io::{self, IsTerminal, Stdout, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::run::Status;
use crate::os::logging;
pub use crate::os::terminal::printable;
use crate::os::terminal::{self, Screen};

/// Text for orientation only.
pub const DIM: Style = Style::new().dimmed();
/// Text that stands out.
pub const BOLD: Style = Style::new().bold();
/// Something went as it should.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something did not.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Something to look at.
pub const NOTABLE: Style = AnsiColor::Yellow.on_default();

/// The word that people read for `Scheduled`.
const QUEUED: &str = "Queued";

/// The colour of a status, the same everywhere.
pub fn status_style(status: Status) -> Style {
    match status {
        Status::Scheduled | Status::Incomplete => DIM,
        Status::Running => AnsiColor::Cyan.on_default(),
        Status::Retrying | Status::Terminated => NOTABLE,
        Status::Success => GOOD,
        Status::Errored => BAD,
    }
}

/// `text` in `style`. Streams that are no terminal, and `NO_COLOR`, remove the styling again.
pub fn styled(text: &str, style: Style) -> String {
    if style == Style::new() { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

/// The word that people read for a status. JSON has the word of the API.
pub fn status_word(status: Status) -> String {
    match status {
        Status::Scheduled => QUEUED.to_owned(),
        _ => status.to_string(),
    }
}

/// Reads a status by the word of the API or by the one that people read.
///
/// # Errors
/// When there is no such status.
pub fn parse_status(text: &str) -> Result<Status, String> {
    if text.eq_ignore_ascii_case(QUEUED) { Ok(Status::Scheduled) } else { text.parse() }
}

/// A status in its colour.
pub fn styled_status(status: Status) -> String {
    styled(&status_word(status), status_style(status))
}

/// Standard output for text, coloured on a terminal only.
pub fn stdout() -> Guarded<AutoStream<Box<dyn Write>>> {
    let choice = AutoStream::choice(&io::stdout());
    Guarded(AutoStream::new(Box::new(terminal::stdout()), choice))
}

/// Standard output for bytes as they are, unless a terminal would obey them.
pub fn raw_stdout() -> Guarded<Screen<Stdout>> {
    Guarded(terminal::stdout())
}

/// Whether a person is likely to read standard output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writes `text` to standard output.
///
/// # Errors
/// When it cannot be written; see [`is_reader_gone`].
pub fn print(text: &str) -> io::Result<()> {
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes `text` to standard output without taking anything out of it, unless that is a terminal.
///
/// # Errors
/// When it cannot be written; see [`is_reader_gone`].
pub fn print_unchanged(text: &str) -> io::Result<()> {
    let mut out = raw_stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes JSON as the server sent it, indented, to standard output.
///
/// # Errors
/// When it cannot be written; see [`is_reader_gone`].
pub fn print_json(json: &RawValue) -> io::Result<()> {
    let mut out = raw_stdout();
    writeln!(out, "{}", indent_json(json.get()))?;
    out.flush()
}

/// Writes `value` in the same way.
///
/// # Errors
/// As [`print_json`].
pub fn print_as_json(value: &impl Serialize) -> io::Result<()> {
    print_json(&serde_json::value::to_raw_value(value)?)
}

/// Tells the person, on standard error, what is good to know or what comes next. Scripts read
/// standard output, which stays free of it.
pub fn advise(text: &str) {
    // A message that cannot be written has no other place to go.
    let choice = AutoStream::choice(&io::stderr());
    let mut out = AutoStream::new(Box::new(terminal::stderr()) as Box<dyn Write>, choice);
    let _ = writeln!(out, "{text}");
}

/// Says on standard error why the program ends without having done what it was asked to.
pub fn fail(text: &str) {
    match logging::writes_to_journal() {
        true => advise(&logging::for_journal(log::Level::Error, text)),
        false => advise(text),
    }
}

/// A command for the person to type, within advice.
pub fn command(text: &str) -> String {
    format!("    {}", styled(text, BOLD))
}

/// A stream whose reader may go away, as `head` does, without that being an error of ours.
pub struct Guarded<W>(W);

#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has gone")]
struct ReaderGone;

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

fn mark(error: io::Error) -> io::Error {
    // A broken pipe to the server is an error; only that of the output is not. Hence the mark.
    if error.kind() == io::ErrorKind::BrokenPipe { io::Error::other(ReaderGone) } else { error }
}

/// What went wrong and why, each cause once: many a message says its cause itself.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.is_empty() {
            cause
        } else if told.contains(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}

/// Whether all that happened is that the reader of our output has seen enough.
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

/// Valid JSON with line breaks and indentation; order of keys and form of numbers stay as they are.
pub fn indent_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_string {
            out.push(letter);
            match letter {
                '\\' => out.extend(letters.next()),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match letter {
            ' ' | '\t' | '\r' | '\n' => {}
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match letters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        break_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let told = |error: anyhow::Error| told(&error);
        assert_eq!(told(anyhow!("no disk")), "no disk");
        assert_eq!(told(anyhow!("no disk").context("it stops")), "it stops: no disk");
        assert_eq!(told(anyhow!("no disk").context("/a: no disk")), "/a: no disk");
    }

    #[test]
    fn json_keeps_its_order_and_numbers_when_it_is_indented() {
        let json = r#"{"b":1.0,"a":[ ],"c":{},"s":"x\"{,:}\\","l":[1,{"n":null}]}"#;
        let expected = "{\n  \"b\": 1.0,\n  \"a\": [],\n  \"c\": {},\n  \"s\": \"x\\\"{,:}\\\\\",\n  \
                        \"l\": [\n    1,\n    {\n      \"n\": null\n    }\n  ]\n}";
        assert_eq!(indent_json(json), expected);
        assert_eq!(indent_json(expected), expected);
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_a_server_that_did() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let ours = Guarded(Gone).write_all(b"x").unwrap_err();
        assert!(is_reader_gone(&anyhow::Error::from(ours).context("printing")));
        let theirs = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_reader_gone(&theirs.into()));
    }
}
