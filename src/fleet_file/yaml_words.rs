//! What is wrong with a text that is no YAML, in words for its author. The parser speaks of its own states.

/// A part of the parser's message, and what to say. The first that fits counts.
const WORDS: [(&str, &str); 22] = [
    (
        "mapping values are not allowed",
        "a key cannot stand here; put a value that has a colon in quotes",
    ),
    ("did not find expected key", "a key is expected here, indented like the keys beside it"),
    (
        "did not find expected '-'",
        "an item that begins with `- ` is expected here, indented like the others",
    ),
    ("expected ',' or '}'", "a comma or the closing } is missing"),
    ("expected ',' or ']'", "a comma or the closing ] is missing"),
    ("expected node content", "a value is missing here"),
    ("simple key expect", "the colon behind a key is missing"),
    ("block sequence entries", "an item of a list cannot begin here; put it in a line of its own"),
    ("mapping keys are not allowed", "a key cannot begin here; put it in a line of its own"),
    ("misplaced bracket", "a bracket closes here that none has opened"),
    ("unexpected end of stream", "the text ends before a quote or a bracket is closed"),
    ("unexpected eof", "the text ends before a quote or a bracket is closed"),
    ("found unknown escape", "no such escape; in single quotes a backslash is only a backslash"),
    ("hexadecimal", "an escape of a character is cut short"),
    ("trailing content", "text follows the closing quote; put all of the value in quotes"),
    ("plain scalar cannot start", "a value cannot begin like this; put it in quotes"),
    ("unexpected character", "a value cannot begin with this character; put it in quotes"),
    (
        "while scanning a block scalar",
        "only a comment may follow | or >; the text begins in the next line",
    ),
    (
        "placement of ':'",
        "a colon cannot stand here; is a bracket or a quote open in a line above?",
    ),
    ("unknown anchor", "put a value that begins with * in quotes; references are not supported"),
    ("tab", "indent with spaces; a tab cannot stand here"),
    ("indentation", "the line is not indented like any line above it"),
];
/// What to say of everything else.
const OTHER: &str =
    "this is no YAML; look at quotes, colons and indentation here and in the line above";

/// `message` of the parser in words.
pub(super) fn in_words(message: &str) -> &'static str {
    WORDS.iter().find(|(part, _)| message.contains(part)).map_or(OTHER, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use crate::fleet_file::parse_yaml;

    #[test]
    fn errors_are_told_in_words_for_the_author() {
        for (text, words) in [
            ("name: a: b\n", "put a value that has a colon in quotes"),
            ("name: [a\nvessels: {}\n", "is a bracket or a quote open in a line above?"),
            ("name: a\n\tb: c\n", "replace it by spaces"),
            ("name: \"a\n", "before a quote or a bracket is closed"),
            ("name: \"\\q\"\n", "no such escape"),
            ("name: 'a' b\n", ""),
            ("name: @a\n", "put it in quotes"),
            ("name: a\n}\n", "a bracket closes here that none has opened"),
        ] {
            let message = parse_yaml(text).unwrap_err().to_string();
            assert!(message.contains(words), "{text:?}: {message}");
            assert!(!message.contains("scalar") && !message.contains("while"), "{message}");
            assert!(message.starts_with("line "), "{message}");
        }
    }
}
