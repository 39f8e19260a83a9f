//! References in the words of a command: `${NAME}` to a variable of the vessel, `#{GROUP.KEY}` to a
//! secret. No shell is involved: a value is put in byte for byte, and nothing in it is expanded again.

use std::borrow::Cow;

use crate::model::variable::SecretName;

/// What a word refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `${NAME}`
    Variable(&'a str),
    /// `#{GROUP.KEY}`
    Secret(SecretName),
}

/// A part of a word.
enum Part<'a> {
    Text(&'a str),
    Reference { written: &'a str, reference: Reference<'a> },
}

/// The references in `word`, in their order.
pub fn references(word: &str) -> impl Iterator<Item = Reference<'_>> {
    parts(word).filter_map(|part| match part {
        Part::Text(_) => None,
        Part::Reference { reference, .. } => Some(reference),
    })
}

/// The secret that `word` refers to and besides which it holds nothing.
pub fn whole_secret(word: &str) -> Option<SecretName> {
    match (parts(word).next()?, parts(word).count()) {
        (Part::Reference { reference: Reference::Secret(secret), .. }, 1) => Some(secret),
        _ => None,
    }
}

/// `word` with the values of its references. A reference without a value stays as it is written.
pub fn expand<'a, 'v>(
    word: &'a str,
    value_of: impl Fn(&Reference<'_>) -> Option<&'v str>,
) -> Cow<'a, str> {
    if references(word).next().is_none() {
        return Cow::Borrowed(word);
    }
    let text = parts(word).map(|part| match part {
        Part::Text(text) => text,
        Part::Reference { written, reference } => value_of(&reference).unwrap_or(written),
    });
    Cow::Owned(text.collect())
}

fn parts(word: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A reference at the start, or text up to the next one.
        if let Some((written, reference)) = reference_at_start(rest) {
            rest = &rest[written.len()..];
            return Some(Part::Reference { written, reference });
        }
        let starts = rest.match_indices(['$', '#']).map(|(at, _)| at).filter(|at| *at > 0);
        let end = starts.into_iter().find(|at| reference_at_start(&rest[*at..]).is_some());
        let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(Part::Text(text))
    })
}

/// The reference that `text` begins with, also as it is written.
fn reference_at_start(text: &str) -> Option<(&str, Reference<'_>)> {
    let (sign, rest) = text.split_at_checked("${".len())?;
    // The names end before any other character, so that a long text is not searched for each sign.
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let length = rest.bytes().position(|byte| !is_inner(byte))?;
    let name = rest[length..].starts_with('}').then(|| &rest[..length])?;
    let reference = match sign {
        "${" => Reference::Variable(Some(name).filter(|name| is_variable(name))?),
        "#{" => Reference::Secret(secret(name)?),
        _ => return None,
    };
    Some((&text[..length + "${}".len()], reference))
}

fn is_variable(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

/// The secret of `GROUP.KEY`.
fn secret(name: &str) -> Option<SecretName> {
    let (group, key) = name.split_once('.')?;
    let is_pair = !group.is_empty() && !key.is_empty() && !key.contains('.');
    is_pair.then(|| SecretName::try_from(name.to_owned()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(word: &str) -> String {
        expand(word, |reference| match reference {
            Reference::Variable("A") => Some("one"),
            Reference::Variable("EMPTY") => Some(""),
            Reference::Variable("NESTED") => Some("${A} $(id) #{G.K}"),
            Reference::Secret(secret) if secret.as_str() == "G.K" => Some("s3"),
            _ => None,
        })
        .into_owned()
    }

    #[test]
    fn references_become_their_values_and_nothing_else_changes() {
        for (word, text) in [
            ("", ""),
            ("plain", "plain"),
            ("${A}", "one"),
            ("<${A}${A}>", "<oneone>"),
            ("${EMPTY}", ""),
            ("a#{G.K}b", "as3b"),
            ("${NESTED}", "${A} $(id) #{G.K}"),
            ("ä${A}ü", "äoneü"),
            ("$${A}", "$one"),
            ("##{G.K}", "#s3"),
        ] {
            assert_eq!(expanded(word), text, "{word}");
        }
        for word in [
            "$A", "${}", "${A", "$ {A}", "${A }", "${B}", "${1}", "${A-x}", "${A.B}", "$(A)",
            "`A`", "${ä}", "#{G}", "#{.K}", "#{G.}", "#{G.K.L}", "#{X.Y}", "{A}", "%A%", "$", "#",
            "${A\0}",
        ] {
            assert_eq!(expanded(word), word, "{word}");
        }
    }

    #[test]
    fn a_word_may_be_a_secret_as_a_whole() {
        let name = |word: &str| whole_secret(word).map(|secret| secret.as_str().to_owned());
        assert_eq!(name("#{DB.PASS}").as_deref(), Some("DB.PASS"));
        for word in ["", "x", "#{DB.PASS} ", "x#{DB.PASS}", "#{A.B}#{A.B}", "${A}", "#{DB}"] {
            assert_eq!(name(word), None, "{word}");
        }
    }

    #[test]
    fn a_long_word_takes_no_long_time() {
        // Quadratic work would take minutes.
        let word = "${".repeat(200_000) + &"#{G.K}".repeat(1000);
        assert_eq!(references(&word).count(), 1000);
        let word = "$".repeat(400_000);
        assert_eq!(expand(&word, |_| None), word);
    }
}
