//! Asks for a line on a terminal that does not show it. The terminal passes on each byte, so that a line
//! may be longer than the 4,095 bytes that the line discipline keeps (termios(3)).

use std::io::{self, Write};

use rustix::stdio::stdin;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("called off; nothing is changed")]
    CalledOff,
    #[error("it has several lines; put them into a file and redirect that to standard input")]
    SeveralLines,
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("cannot read from the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// The line that a person types or pastes after `prompt`, of at most `bytes_max` bytes. Standard input
/// has to be a terminal.
///
/// # Errors
/// See [`InputError`].
pub fn ask(prompt: &str, bytes_max: usize) -> Result<Vec<u8>, InputError> {
    let quiet = Quiet::begin()?;
    let mut err = io::stderr();
    write!(err, "{prompt}")?;
    err.flush()?;
    let line = read_line(bytes_max);
    drop(quiet);
    writeln!(err)?;
    line
}

/// The terminal while it shows nothing of what is typed.
struct Quiet {
    original: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let original = tcgetattr(stdin())?;
        let mut quiet = original.clone();
        quiet
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { original })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Flushes as well: what is left of a paste is not for the shell.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.original);
    }
}

fn read_line(bytes_max: usize) -> Result<Vec<u8>, InputError> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = match rustix::io::read(stdin(), &mut buffer) {
            Err(rustix::io::Errno::INTR) => continue,
            length => length.map_err(io::Error::from)?,
        };
        if length == 0 {
            return Err(InputError::CalledOff);
        }
        if is_complete(&mut line, &buffer[..length], bytes_max)? {
            return Ok(line);
        }
    }
}

/// Adds what was typed to `line`, with the keys that edit a line. Whether the line has ended.
fn is_complete(line: &mut Vec<u8>, typed: &[u8], bytes_max: usize) -> Result<bool, InputError> {
    for (at, byte) in typed.iter().enumerate() {
        match byte {
            b'\n' | b'\r' if at + 1 < typed.len() => return Err(InputError::SeveralLines),
            b'\n' | b'\r' => return Ok(true),
            // Ctrl-C, Ctrl-\, and Ctrl-D in an empty line.
            0x03 | 0x1c => return Err(InputError::CalledOff),
            0x04 if line.is_empty() => return Err(InputError::CalledOff),
            0x04 => return Ok(true),
            // Backspace, which removes a whole character.
            0x08 | 0x7f => {
                while line.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            // Ctrl-U.
            0x15 => line.clear(),
            b'\t' | 0x20.. if line.len() < bytes_max => line.push(*byte),
            b'\t' | 0x20.. => return Err(InputError::TooLong(bytes_max)),
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(chunks: &[&[u8]]) -> Result<Option<String>, String> {
        let mut line = Vec::new();
        for chunk in chunks {
            if is_complete(&mut line, chunk, 8).map_err(|error| error.to_string())? {
                return Ok(Some(String::from_utf8(line).unwrap()));
            }
        }
        Ok(None)
    }

    #[test]
    fn keys_edit_the_line() {
        let line = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(typed(&[b"open", b"sesa", b"\n"]), line("opensesa"));
        assert_eq!(typed(&["aé\u{7f}b\r".as_bytes()]), line("ab"));
        assert_eq!(typed(&[b"\x7f\x08a\x1b\x00b\tc\n"]), line("ab\tc"));
        assert_eq!(typed(&[b"wrong\x15right\x04"]), line("right"));
        assert_eq!(typed(&[b"\n"]), line(""));
        assert_eq!(typed(&[b"a"]), Ok(None));
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_refused() {
        for (chunk, why) in [
            (&b"a\x03"[..], "called off"),
            (b"\x04", "called off"),
            (b"one\ntwo\n", "several lines"),
            (b"123456789\n", "longer than 8 bytes"),
        ] {
            let message = typed(&[chunk]).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}
