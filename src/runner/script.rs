//! Line ends and byte order marks of scripts. A shell takes CR and a mark for parts of its
//! commands: `set -e` fails, and the script goes on without it.

use std::borrow::Cow;

use crate::os::text_file::MARK;

/// `script` without a byte order mark, and with LF as its line ends. Python and JavaScript read
/// both forms alike, also inside multi-line strings.
pub(super) fn normalized(script: &str) -> Cow<'_, str> {
    let script = script.strip_prefix(MARK).unwrap_or(script);
    if !script.contains("\r\n") && !script.ends_with('\r') {
        return Cow::Borrowed(script);
    }
    let mut lines = script.split('\n').map(|line| line.trim_end_matches('\r'));
    let mut text = String::with_capacity(script.len());
    text.extend(lines.next());
    for line in lines {
        text.push('\n');
        text.push_str(line);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::normalized;

    #[test]
    fn line_ends_become_lf_and_the_mark_goes() {
        for (script, expected) in [
            ("", ""),
            ("a", "a"),
            ("a\nb\n", "a\nb\n"),
            ("set -e\r\nfalse\r\n", "set -e\nfalse\n"),
            ("set -e\r\nfalse\r", "set -e\nfalse"),
            ("a\r\r\nb", "a\nb"),
            ("\u{feff}#!/bin/sh\r\n\r\n", "#!/bin/sh\n\n"),
            ("printf 'a\rb'\n", "printf 'a\rb'\n"),
        ] {
            assert_eq!(normalized(script), expected, "{script:?}");
        }
    }
}
