//! Feeds the signed content of a request to the codes that are made of it: one pass over the body for all that
//! want the same of it.

use std::io::{self, Read};

use super::crypto::{Digest, Verifying};
use super::form;
use super::presented::Presented;
use crate::model::sender::{Piece, Template};

/// Bytes of a body that are read at once, on the stack.
const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes of a form whose fields are sorted in memory: Twilio's have a few kilobytes.
const SORTED_FORM_BYTES_MAX: u64 = 256 * 1024;

/// What a signature covers of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Body,
    Payload,
    Form,
}

impl Content {
    /// What `template` covers.
    pub fn of(template: Template<'_>) -> Self {
        let mut pieces = template.pieces();
        let found = pieces.find_map(|piece| match piece {
            Piece::Payload => Some(Self::Payload),
            Piece::Form => Some(Self::Form),
            _ => None,
        });
        found.unwrap_or(Self::Body)
    }
}

/// The texts that stand for the pieces of a template, but for the body.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    pub timestamp: &'a str,
    pub id: &'a str,
    pub url: &'a str,
}

/// A code that is being made of a template.
pub struct Feed<'a> {
    pub template: Template<'a>,
    pub texts: Texts<'a>,
    pub code: Verifying,
}

/// Why content cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Of a body that the signature covers only through a hash, or a form that is too large to sort.
    #[error("{0}")]
    Uncovered(&'static str),
}

/// Feeds `content` of `request`, and the texts around it, to each of `feeds`.
///
/// # Errors
/// When the body cannot be read, or the signature cannot cover it.
pub fn feed(
    content: Content,
    request: &Presented<'_>,
    feeds: &mut [&mut Feed<'_>],
) -> Result<(), Unreadable> {
    for feed in &mut *feeds {
        feed.around(true);
    }
    let mut update = |bytes: &[u8]| {
        for feed in &mut *feeds {
            feed.code.update(bytes);
        }
    };
    match content {
        Content::Payload if request.is_form() => {
            form::field(request.body.open(), b"payload", &mut update)?;
        }
        Content::Body | Content::Payload => stream(request, &mut update)?,
        Content::Form => sorted_form(request, &mut update)?,
    }
    for feed in feeds {
        feed.around(false);
    }
    Ok(())
}

impl Feed<'_> {
    /// Adds the texts before the body, or those after it.
    fn around(&mut self, is_before: bool) {
        let mut before = true;
        for piece in self.template.pieces() {
            let text = match piece {
                Piece::Literal(text) => text,
                Piece::Timestamp => self.texts.timestamp,
                Piece::Id => self.texts.id,
                Piece::Url => self.texts.url,
                Piece::Body | Piece::Payload | Piece::Form => {
                    before = false;
                    continue;
                }
            };
            if before == is_before {
                self.code.update(text.as_bytes());
            }
        }
    }
}

fn stream(request: &Presented<'_>, update: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut reader = request.body.open();
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Twilio: the names and values of a form, sorted. Of any other body the URL has the hash.
fn sorted_form(request: &Presented<'_>, update: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
    if request.is_form() {
        let mut bytes = Vec::new();
        request.body.open().take(SORTED_FORM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SORTED_FORM_BYTES_MAX {
            return Err(Unreadable::Uncovered("the form is larger than 256 KiB"));
        }
        for (name, value) in form::sorted(&bytes) {
            update(&name);
            update(&value);
        }
        return Ok(());
    }
    let mut digest = Digest::default();
    let mut is_empty = true;
    stream(request, &mut |bytes| {
        is_empty = false;
        digest.update(bytes);
    })?;
    let sent = request.parameter("bodySHA256").ok();
    let is_covered = match sent {
        Some(sent) => sent.eq_ignore_ascii_case(digest.finish().as_bytes()),
        None => is_empty,
    };
    match is_covered {
        true => Ok(()),
        false => Err(Unreadable::Uncovered("bodySHA256 in the URL is not the hash of the body")),
    }
}
