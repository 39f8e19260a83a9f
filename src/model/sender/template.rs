//! Templates of signed content: text with the places of the body, the timestamp, the event id and the URL.

use std::fmt;

use crate::model::suggest::closest;

/// Bytes of a template: several times the longest that a provider uses.
const TEMPLATE_BYTES_MAX: usize = 255;

/// The placeholders that a fleet file may use.
const WORDS: [(&str, Piece<'static>); 4] =
    [("body", Piece::Body), ("ts", Piece::Timestamp), ("id", Piece::Id), ("url", Piece::Url)];

/// The content that a signature covers, such as `{ts}.{body}`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Template<'a>(&'a str);

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Literal(&'a str),
    Body,
    /// The text of the timestamp as sent.
    Timestamp,
    Id,
    Url,
    /// The decoded field `payload` of a form; of any other body, the body. Presets only.
    Payload,
    /// The names and values of a form, sorted by name, without separators; nothing of any other body.
    /// Presets only.
    Form,
}

/// Why a text is no template of signed content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "has no {{body}}, so the signature would not cover the body; write {{body}} where it stands"
    )]
    NoBody,
    #[error("has {{{0}}} twice; keep one of them")]
    Twice(&'static str),
    #[error("{{{name}}} is no placeholder; there are {{body}}, {{ts}}, {{id}} and {{url}}{}", hint(.meant))]
    Unknown { name: String, meant: Option<&'static str> },
    #[error(
        "a brace is not closed or not opened; placeholders are {{body}}, {{ts}}, {{id}} and {{url}}"
    )]
    Unbalanced,
    #[error("is longer than {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
}

fn hint(meant: &Option<&'static str>) -> String {
    meant.map(|meant| format!("; did you mean {{{meant}}}?")).unwrap_or_default()
}

impl<'a> Template<'a> {
    /// A template of the table of presets. A test holds all of them to [`Template::parse`].
    pub const fn of_table(text: &'a str) -> Self {
        Self(text)
    }

    /// Reads the template of a fleet file.
    ///
    /// # Errors
    /// When it has no body, or anything in braces that is no placeholder.
    pub fn parse(text: &'a str) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        let mut seen = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (_, brace) = rest.split_at(at);
            let inner = brace.strip_prefix('{').ok_or(TemplateError::Unbalanced)?;
            let (name, after) = inner.split_once('}').ok_or(TemplateError::Unbalanced)?;
            let words = WORDS.map(|(word, _)| word);
            let Some(word) = words.into_iter().find(|word| *word == name) else {
                let name: String = name.chars().take(40).collect();
                let meant = closest(&name, words);
                return Err(TemplateError::Unknown { name, meant });
            };
            if seen.contains(&word) {
                return Err(TemplateError::Twice(word));
            }
            seen.push(word);
            rest = after;
        }
        if seen.contains(&"body") { Ok(Self(text)) } else { Err(TemplateError::NoBody) }
    }

    /// The template as it was written.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Its parts in order.
    pub fn pieces(self) -> Pieces<'a> {
        Pieces(self.0)
    }

    /// Whether `piece` is one of its parts.
    pub fn has(self, piece: Piece<'_>) -> bool {
        self.pieces().any(|part| part == piece)
    }
}

impl fmt::Debug for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Iterates over the parts of a template.
#[derive(Clone, Debug)]
pub struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.0.is_empty() {
            return None;
        }
        if let Some((name, after)) = self.0.strip_prefix('{').and_then(|it| it.split_once('}')) {
            self.0 = after;
            return Some(piece(name));
        }
        let end = self.0.find('{').filter(|at| *at > 0).unwrap_or(self.0.len());
        let (literal, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Piece::Literal(literal))
    }
}

fn piece(name: &str) -> Piece<'_> {
    match name {
        "payload" => Piece::Payload,
        "form" => Piece::Form,
        name => {
            let known = WORDS.iter().find(|(word, _)| *word == name);
            known.map_or(Piece::Literal(name), |(_, piece)| *piece)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_taken_apart() {
        let parts = |text| Template::parse(text).map(|it| it.pieces().collect::<Vec<_>>());
        let dot = Piece::Literal(".");
        for (text, expected) in [
            ("{body}", vec![Piece::Body]),
            ("{ts}.{body}", vec![Piece::Timestamp, dot, Piece::Body]),
            (
                "v0:{ts}:{body}",
                vec![Piece::Literal("v0:"), Piece::Timestamp, Piece::Literal(":"), Piece::Body],
            ),
            ("{id}.{ts}.{body}", vec![Piece::Id, dot, Piece::Timestamp, dot, Piece::Body]),
            ("{url}{body}\u{e4}", vec![Piece::Url, Piece::Body, Piece::Literal("\u{e4}")]),
        ] {
            assert_eq!(parts(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn templates_without_a_body_or_with_unknown_parts_are_refused() {
        let long = format!("{{body}}{}", "x".repeat(TEMPLATE_BYTES_MAX));
        for (text, message) in [
            ("", "has no {body}"),
            ("{ts}", "has no {body}"),
            ("{body}{body}", "has {body} twice"),
            (
                "{bdoy}",
                "{bdoy} is no placeholder; there are {body}, {ts}, {id} and {url}; did you mean {body}?",
            ),
            ("{form}{body}", "{form} is no placeholder"),
            ("{body", "not closed"),
            ("body}", "not opened"),
            ("{{body}}", "no placeholder"),
            ("{}{body}", "{} is no placeholder"),
            (&long, "longer than 255"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
