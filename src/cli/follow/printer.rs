//! Puts what several vessels print at the same time on one stream.

use std::io::{self, Write};

use crate::cli::api::VesselRun;
use crate::cli::output::{BOLD, DIM, printable, stdout_is_terminal, styled};

/// Bytes of a line that are held back until it is complete. Longer lines come in pieces.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Puts the outputs of several vessels on one stream. Lines stay whole. With headings, a line with
/// the vessel's name comes before its output whenever the vessel changes.
pub struct Printer<W> {
    out: W,
    headings: bool,
    /// The vessel that printed last.
    current: Option<usize>,
    /// Whether the last byte printed was no line break.
    is_mid_line: bool,
    vessels: Vec<Pending>,
}

/// What is known and held back of one vessel.
#[derive(Default)]
struct Pending {
    title: String,
    line: Vec<u8>,
}

impl Printer<io::Sink> {
    /// A printer that prints nothing.
    pub fn silent() -> Self {
        Self::new(io::sink(), false)
    }
}

impl<W: Write> Printer<W> {
    /// A printer onto `out`, with headings for a person or without for a program.
    pub fn new(out: W, headings: bool) -> Self {
        Self { out, headings, current: None, is_mid_line: false, vessels: Vec::new() }
    }

    /// From now on, the vessel at `index` is in its `attempt`.
    pub(super) fn title(&mut self, index: usize, vessel: &VesselRun, attempt: u32) {
        // The colours of the vessel before end here.
        let name = styled(&format!("== {}", printable(&vessel.vessel_name)), BOLD);
        let mut title = format!("{}{name}", anstyle::Reset);
        if attempt > 1 {
            title.push_str(&styled(&format!(" (attempt {attempt})"), DIM));
        }
        if !stdout_is_terminal() {
            title = anstream::adapter::strip_str(&title).to_string();
        }
        let pending = self.vessel(index);
        if pending.title != title {
            pending.title = title;
            if self.current == Some(index) {
                self.current = None;
            }
        }
    }

    fn vessel(&mut self, index: usize) -> &mut Pending {
        if self.vessels.len() <= index {
            self.vessels.resize_with(index + 1, Pending::default);
        }
        &mut self.vessels[index]
    }

    /// Prints what the vessel at `index` printed: whole lines; the rest, too, when a person reads
    /// and no other vessel is at it (`is_alone`), so that a prompt shows at once.
    pub(super) fn bytes(&mut self, index: usize, bytes: &[u8], is_alone: bool) -> io::Result<()> {
        let at_once = self.headings && is_alone;
        let pending = self.vessel(index);
        pending.line.extend_from_slice(bytes);
        let whole = match pending.line.iter().rposition(|byte| *byte == b'\n') {
            _ if at_once || pending.line.len() > LINE_BYTES_MAX => pending.line.len(),
            Some(position) => position + 1,
            None => return Ok(()),
        };
        let ready: Vec<u8> = pending.line.drain(..whole).collect();
        self.write(index, &ready)
    }

    /// The vessel at `index` prints no more for now: what was held back is due.
    pub(super) fn end(&mut self, index: usize) -> io::Result<()> {
        let rest = std::mem::take(&mut self.vessel(index).line);
        self.write(index, &rest)?;
        if self.headings && self.current == Some(index) {
            self.finish_line()?;
        }
        self.out.flush()
    }

    /// No vessel prints any more: whatever was held back is due.
    pub(super) fn end_all(&mut self) -> io::Result<()> {
        (0..self.vessels.len()).try_for_each(|index| self.end(index))
    }

    fn write(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        if self.headings && self.current != Some(index) {
            self.finish_line()?;
            let title = self.vessel(index).title.clone();
            // Bytes go out as they are, so what the terminal or NO_COLOR asks for is done here.
            let choice = anstream::AutoStream::choice(&io::stdout());
            let mut line = anstream::AutoStream::new(Vec::new(), choice);
            writeln!(line, "{title}")?;
            self.out.write_all(&line.into_inner())?;
        }
        self.current = Some(index);
        self.is_mid_line = *last != b'\n';
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn finish_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_mid_line) { self.out.write_all(b"\n") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vessel(name: &str) -> VesselRun {
        serde_json::from_value(serde_json::json!({
            "id": "v", "vessel_name": name, "status": "Running", "attempt": 1,
        }))
        .unwrap()
    }

    fn printed(headings: bool, print: impl FnOnce(&mut Printer<Vec<u8>>)) -> String {
        let mut printer = Printer::new(Vec::new(), headings);
        for (index, name) in ["build", "test"].into_iter().enumerate() {
            printer.title(index, &vessel(name), 1);
        }
        print(&mut printer);
        anstream::adapter::strip_str(&String::from_utf8(printer.out).unwrap()).to_string()
    }

    #[test]
    fn lines_of_vessels_that_run_together_stay_whole() {
        let print = |printer: &mut Printer<Vec<u8>>| {
            printer.bytes(0, b"one\ntw", false).unwrap();
            printer.bytes(1, b"uno\n", false).unwrap();
            printer.bytes(0, b"o\nend", false).unwrap();
            printer.end(0).unwrap();
            printer.bytes(1, b"due", false).unwrap();
            printer.end(1).unwrap();
        };
        let expected = "== build\none\n== test\nuno\n== build\ntwo\nend\n== test\ndue\n";
        assert_eq!(printed(true, print), expected);
        assert_eq!(printed(false, print), "one\nuno\ntwo\nenddue");
    }

    #[test]
    fn a_prompt_shows_at_once_when_nothing_else_runs() {
        let text = printed(true, |printer| printer.bytes(0, b"sure? ", true).unwrap());
        assert_eq!(text, "== build\nsure? ");
        let text = printed(false, |printer| printer.bytes(0, b"sure? ", true).unwrap());
        assert_eq!(text, "");
    }

    #[test]
    fn a_new_attempt_gets_a_heading_of_its_own() {
        let text = printed(true, |printer| {
            printer.bytes(0, b"no\n", true).unwrap();
            printer.title(0, &vessel("build"), 2);
            printer.bytes(0, b"yes\n", true).unwrap();
        });
        assert_eq!(text, "== build\nno\n== build (attempt 2)\nyes\n");
    }

    #[test]
    fn nothing_is_kept_when_the_following_fails() {
        let text = printed(false, |printer| {
            printer.bytes(1, b"half a li", false).unwrap();
            printer.end_all().unwrap();
        });
        assert_eq!(text, "half a li");
    }

    #[test]
    fn a_line_without_end_is_not_held_back_for_ever() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let text = printed(false, |printer| printer.bytes(0, &long, false).unwrap());
        assert_eq!(text.len(), long.len());
    }
}
