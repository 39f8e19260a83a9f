//! Filters what the program prints on a terminal: text and colours pass (SGR, ECMA-48 8.3.117). Senders,
//! vessels, fleet files and backups choose much of the text. A terminal would obey the other sequences:
//! for the clipboard (OSC 52), the title, the cursor, and for reports that arrive as if they were typed.
//! The pages have the same rule (`http/ui/ansi.js`).

use std::io::{self, IsTerminal, Stderr, Stdout, Write};

/// Bytes of the parameters of an SGR sequence. Those of programs have some twenty.
const SGR_BYTES_MAX: usize = 64;
/// Stands for a character that a terminal would obey.
const REPLACEMENT: &str = "\u{fffd}";

/// Whether a terminal may obey `letter` rather than show it: the controls of ASCII and ISO 8859 (C1), and
/// those that change the direction of text.
pub fn is_control(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as one line that no terminal obeys.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if is_control(letter) { '\u{fffd}' } else { letter }).collect()
}

/// `text` as a [`Filter`] passes it.
pub fn filtered(text: &str) -> String {
    let mut filter = Filter::default();
    let mut bytes = filter.pass(text.as_bytes());
    bytes.extend(filter.finish());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A stream that filters what goes to a terminal. Any other destination gets every byte as it is.
pub struct Screen<W: Write> {
    out: W,
    filter: Option<Filter>,
}

impl<W: Write + IsTerminal> Screen<W> {
    /// A filter before `out`, if that is a terminal.
    pub fn new(out: W) -> Self {
        let filter = out.is_terminal().then(Filter::default);
        Self { out, filter }
    }
}

/// Standard output.
pub fn stdout() -> Screen<Stdout> {
    Screen::new(io::stdout())
}

/// Standard error.
pub fn stderr() -> Screen<Stderr> {
    Screen::new(io::stderr())
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(filter) = &mut self.filter else { return self.out.write(bytes) };
        self.out.write_all(&filter.pass(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    /// Ends an incomplete character and the colours, so that the next prompt has none.
    fn drop(&mut self) {
        let rest = self.filter.as_mut().map(Filter::finish).unwrap_or_default();
        if !rest.is_empty() {
            // An error of the stream shows at the next write of the program.
            let _ = self.out.write_all(&rest).and_then(|()| self.out.flush());
        }
    }
}

/// Where a [`Filter`] is in the text. Sequences may be split anywhere among the pieces of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After a carriage return.
    Return,
    /// After ESC and any intermediate bytes.
    Escape,
    /// In a control sequence: after `ESC [`.
    Sequence,
    /// In a string that is for the terminal: OSC, DCS, SOS, PM or APC.
    String,
    /// After ESC in such a string.
    StringEscape,
}

/// Removes everything but text and colours from a stream of bytes.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// The parameters of a sequence, or the beginning of a character.
    held: Vec<u8>,
    /// Whether the last colours that went through are still in effect.
    is_coloured: bool,
}

impl Filter {
    /// What a terminal may see of `bytes`, which continue those before.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 8);
        for byte in bytes {
            // A byte that ends a state unexpectedly is looked at again in the state that follows.
            while !self.take(*byte, &mut out) {}
        }
        out
    }

    /// The rest at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.state == State::Text && !self.held.is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
        if self.is_coloured {
            out.extend_from_slice(b"\x1b[0m");
        }
        *self = Self::default();
        out
    }

    /// Takes in `byte`; false: the state has changed, and the byte has yet to be taken in.
    fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        match self.state {
            State::Text => return self.text(byte, out),
            State::Return => match byte {
                b'\r' => {}
                // Text that would overwrite its line is a line of its own, so that it hides nothing.
                b'\n' => return self.leave(State::Text),
                _ => {
                    out.push(b'\n');
                    return self.leave(State::Text);
                }
            },
            State::Escape => match byte {
                b'[' => self.state = State::Sequence,
                b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::String,
                0x1b | 0x20..=0x2f => {}
                0x30..=0x7e => self.state = State::Text,
                _ => return self.leave(State::Text),
            },
            State::Sequence => match byte {
                0x20..=0x3f if self.held.len() <= SGR_BYTES_MAX => self.held.push(byte),
                0x20..=0x3f => {}
                0x40..=0x7e => self.end_sequence(byte, out),
                _ => {
                    self.held.clear();
                    return self.leave(State::Text);
                }
            },
            State::String => match byte {
                0x07 | 0x18 | 0x1a => self.state = State::Text,
                0x1b => self.state = State::StringEscape,
                // A string without end hides no more than its line.
                b'\n' => return self.leave(State::Text),
                _ => {}
            },
            State::StringEscape => match byte {
                b'\\' => self.state = State::Text,
                _ => return self.leave(State::Escape),
            },
        }
        true
    }

    fn leave(&mut self, next: State) -> bool {
        self.state = next;
        false
    }

    fn end_sequence(&mut self, last: u8, out: &mut Vec<u8>) {
        let parameters = std::mem::take(&mut self.held);
        self.state = State::Text;
        // Private sequences that end with m change the codes of keys.
        let is_sgr = last == b'm'
            && parameters.len() <= SGR_BYTES_MAX
            && parameters.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'));
        if is_sgr {
            self.is_coloured = !matches!(parameters.as_slice(), b"" | b"0");
            out.extend_from_slice(b"\x1b[");
            out.extend_from_slice(&parameters);
            out.push(b'm');
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        if !self.held.is_empty() || byte >= 0x80 {
            return self.character(byte, out);
        }
        match byte {
            0x1b => self.state = State::Escape,
            b'\r' => self.state = State::Return,
            b'\n' | b'\t' | 0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(picture(byte).as_bytes()),
        }
        true
    }

    /// Takes in a byte of a character that is not ASCII. Bytes that are not UTF-8 are replaced: a terminal
    /// with another character set could obey them.
    fn character(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        self.held.push(byte);
        match std::str::from_utf8(&self.held) {
            Ok(character) => {
                let is_shown = !character.chars().any(is_control);
                let shown = if is_shown { character } else { REPLACEMENT };
                out.extend_from_slice(shown.as_bytes());
            }
            // More of it has to come.
            Err(error) if error.error_len().is_none() => return true,
            Err(_) => {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                let is_taken = self.held.len() == 1;
                self.held.clear();
                return is_taken;
            }
        }
        self.held.clear();
        true
    }
}

/// The picture of a control character of ASCII: U+2400 and after.
fn picture(control: u8) -> String {
    let picture = if control == 0x7f {
        Some('\u{2421}')
    } else {
        char::from_u32(0x2400 + u32::from(control))
    };
    picture.map_or_else(|| REPLACEMENT.to_owned(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut filter = Filter::default();
        let mut out = filter.pass(bytes);
        out.extend(filter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_and_colours_pass_and_sequences_do_not() {
        for (bytes, expected) in [
            ("plain\ttext\nä€😀\n", "plain\ttext\nä€😀\n"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[38;5;208m\x1b[4:3mx\x1b[m", "\x1b[38;5;208m\x1b[4:3mx\x1b[m"),
            // Colours end with the stream.
            ("\x1b[7mx", "\x1b[7mx\x1b[0m"),
            ("\x1b]52;c;cm0gLXJm\x07after", "after"),
            ("\x1b]0;title\x1b\\after", "after"),
            ("\x1bP+q544e\x1b\\\x1b_x\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\after", "after"),
            ("\x1b]0;no end\nafter\n", "\nafter\n"),
            ("\x1b]0;a\x1b[31mb", "\x1b[31mb\x1b[0m"),
            ("\x1b[2J\x1b[1;1H\x1b[6n\x1b[?1049h\x1bc\x1b(0\x1b#8a", "a"),
            ("\x1b[>4;1m\x1b[?1m\x1b[1 m\x1b[!ma", "a"),
            ("\x1b\x1b[2Ja\x1b", "a"),
            ("\x1b[3\nb", "\nb"),
            (
                "bell\x07 back\x08 del\x7f nul\0",
                "bell\u{2407} back\u{2408} del\u{2421} nul\u{2400}",
            ),
            ("one\r\ntwo\r\r\n", "one\ntwo\n"),
            ("safe\rrm -rf", "safe\nrm -rf"),
            // C1 as UTF-8, and changes of direction.
            ("\u{9b}2Ja\u{9d}0;x\u{9c}\u{85}", "\u{fffd}2Ja\u{fffd}0;x\u{fffd}\u{fffd}"),
            ("a\u{202e}b\u{2066}c\u{2069}", "a\u{fffd}b\u{fffd}c\u{fffd}"),
        ] {
            assert_eq!(shown(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        for (bytes, expected) in [
            (&b"\x9b2Ja"[..], "\u{fffd}2Ja"),
            (b"\xff\xfea", "\u{fffd}\u{fffd}a"),
            (b"\xc2a", "\u{fffd}a"),
            (b"\xe2\x82\x1b[2Ja", "\u{fffd}a"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(shown(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sequences_are_known_wherever_a_stream_is_split() {
        let text = "a\x1b[1;31mb\x1b]52;c;eA==\x07c\r\nd\u{9b}e\x1b[2J\u{202e}€\x1b[>4m\r9\x1b[0m";
        let whole = shown(text.as_bytes());
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut filter = Filter::default();
                let bytes = text.as_bytes();
                let mut out = filter.pass(&bytes[..first]);
                out.extend(filter.pass(&bytes[first..second]));
                out.extend(filter.pass(&bytes[second..]));
                out.extend(filter.finish());
                assert_eq!(String::from_utf8(out).unwrap(), whole, "{first} {second}");
            }
        }
    }

    #[test]
    fn endless_parameters_are_not_kept() {
        let mut filter = Filter::default();
        filter.pass(b"\x1b[");
        for _ in 0..1000 {
            assert!(filter.pass(b"1111111111").is_empty());
        }
        assert!(filter.held.len() <= SGR_BYTES_MAX + 1);
        assert_eq!(filter.pass(b"ma"), b"a");
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }
}
