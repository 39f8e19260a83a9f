//! How far something long has come, on a terminal. Elsewhere it says nothing.

use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);
const BAR_LETTERS: u64 = 24;

/// One line on standard error that is drawn again and again, and gone at the end. Nothing where that
/// is no terminal.
pub struct Line {
    is_seen: bool,
    is_drawn: bool,
}

impl Line {
    /// Nothing is drawn yet.
    pub fn new() -> Self {
        Self { is_seen: io::stderr().is_terminal(), is_drawn: false }
    }

    /// Draws `text` in place of what was there.
    pub fn draw(&mut self, text: &str) {
        if self.is_seen {
            self.is_drawn |= write!(io::stderr(), "\r\x1b[K{text}").is_ok();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// How many bytes are done, of how many, and how fast that goes.
pub struct Progress {
    /// What is being done.
    verb: &'static str,
    /// About how many bytes there are.
    total: u64,
    done: u64,
    began: Instant,
    drawn_at: Instant,
    line: Line,
}

impl Progress {
    /// Nothing is done yet of about `total` bytes.
    pub fn new(verb: &'static str, total: u64) -> Self {
        let now = Instant::now();
        Self { verb, total, done: 0, began: now, drawn_at: now, line: Line::new() }
    }

    /// So many more bytes are done.
    pub fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.line.is_seen && self.drawn_at.elapsed() >= REDRAW {
            self.drawn_at = Instant::now();
            self.line.draw(&shown(self.verb, self.done, self.total, self.began.elapsed()));
        }
    }
}

fn shown(verb: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = (done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let full = (done.saturating_mul(BAR_LETTERS) / total.max(1)).min(BAR_LETTERS) as usize;
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(BAR_LETTERS as usize - full));
    let (done, rate, total) = (human_size(done), human_size(rate), human_size(total.max(done)));
    format!("{verb} [{bar}] {done} of about {total}, {rate}/s")
}

/// A number of bytes for a person: three digits and a unit.
pub fn human_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = if size < 100.0 { 1 } else { 0 };
    format!("{size:.digits$} {}", units[unit])
}

/// What is read from `R` is done.
pub struct Metered<R> {
    pub source: R,
    pub progress: Progress,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.progress.advance(count);
        Ok(count)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.source.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (250 << 10, "250 KiB"),
            (1010 << 10, "1.0 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn a_bar_never_is_longer_than_it_should_be() {
        let second = Duration::from_secs(1);
        assert_eq!(
            shown("copying", 512, 1024, second),
            "copying [############------------] 512 B of about 1.0 KiB, 512 B/s"
        );
        let over = shown("copying", 4096, 1024, second);
        assert!(over.contains(&format!("[{}]", "#".repeat(24))), "{over}");
        assert!(shown("copying", 0, 0, Duration::ZERO).contains(&"-".repeat(24)));
    }
}
