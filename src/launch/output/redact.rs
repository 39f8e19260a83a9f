//! Takes secrets out of a stream of bytes: a pure component, fed in pieces of any size, that gives
//! the same output however the stream is cut.
//!
//! Every byte that belongs to an occurrence of a secret is taken out, also where occurrences
//! overlap or touch; each run of such bytes becomes one [`MASK`]. A byte is held back only while it
//! may still turn out to belong to one: as long as it is part of what the stream ends with and a
//! secret begins with.
//!
//! Each secret has a matcher of its own (Knuth, Morris and Pratt 1977), because its state is the
//! very number that is needed here and that libraries for searching do not tell: how much of the
//! secret the stream ends with.

use std::collections::VecDeque;

use crate::limits::REDACTED_BYTES_MIN;

/// What stands in place of a secret.
pub(super) const MASK: &str = "••••";

/// See the module.
#[derive(Default)]
pub(super) struct Redactor {
    matchers: Vec<Matcher>,
    /// Bytes that a secret begins with.
    first_bytes: Vec<u8>,
    /// The most that the stream ends with of any secret.
    open: usize,
    /// Bytes that are not decided, and whether each is known to be secret.
    held: VecDeque<(u8, bool)>,
    /// The byte before `held` was secret: its run has its mask already.
    in_run: bool,
}

/// Searches for one secret.
struct Matcher {
    secret: Vec<u8>,
    /// For each length of a beginning of the secret: how much shorter a beginning it ends with.
    borders: Vec<usize>,
    /// How many bytes of the secret the stream ends with; never all of them.
    matched: usize,
}

impl Redactor {
    /// A redactor of those `secrets` that are long enough to be told from other text.
    pub fn new(secrets: &[String]) -> Self {
        let mut secrets: Vec<&[u8]> = secrets
            .iter()
            .map(|secret| secret.as_bytes())
            .filter(|secret| secret.len() >= REDACTED_BYTES_MIN)
            .collect();
        secrets.sort_unstable();
        secrets.dedup();
        let mut first_bytes: Vec<u8> =
            secrets.iter().filter_map(|it| it.first().copied()).collect();
        first_bytes.dedup();
        let matchers = secrets.into_iter().map(Matcher::new).collect();
        Self { matchers, first_bytes, ..Self::default() }
    }

    /// Whether there is nothing to take out.
    pub fn is_idle(&self) -> bool {
        self.matchers.is_empty()
    }

    /// Takes the next bytes of the stream and adds to `out` what is decided.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            if self.open == 0 {
                // Nothing has begun, so nothing is held: all is plain up to where a secret may.
                let begins = bytes.iter().position(|byte| self.first_bytes.contains(byte));
                let (plain, rest) = bytes.split_at(begins.unwrap_or(bytes.len()));
                out.extend_from_slice(plain);
                self.in_run &= plain.is_empty();
                bytes = rest;
            }
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.take(*byte, out);
            bytes = rest;
        }
    }

    /// The stream ends: what was held back has turned out to be no secret. The next byte begins
    /// another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.matchers.iter_mut().for_each(|matcher| matcher.matched = 0);
        self.open = 0;
        self.release(out);
        self.in_run = false;
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push_back((byte, false));
        let mut secret = 0;
        self.open = 0;
        for matcher in &mut self.matchers {
            if matcher.advance(byte) {
                secret = secret.max(matcher.secret.len());
            }
            self.open = self.open.max(matcher.matched);
        }
        // More than is held when the beginning was secret already, and is out.
        self.held.iter_mut().rev().take(secret).for_each(|(_, is_secret)| *is_secret = true);
        self.release(out);
    }

    /// Lets go of what is decided: secret bytes, and those that are out of reach of every match.
    fn release(&mut self, out: &mut Vec<u8>) {
        while let Some(&(byte, is_secret)) = self.held.front() {
            if !is_secret && self.held.len() <= self.open {
                return;
            }
            self.held.pop_front();
            match is_secret {
                false => out.push(byte),
                true if !self.in_run => out.extend_from_slice(MASK.as_bytes()),
                true => {}
            }
            self.in_run = is_secret;
        }
    }
}

impl Matcher {
    fn new(secret: &[u8]) -> Self {
        let mut borders = vec![0; secret.len() + 1];
        let mut border = 0;
        for (at, byte) in secret.iter().enumerate().skip(1) {
            while border > 0 && secret[border] != *byte {
                border = borders[border];
            }
            border += usize::from(secret[border] == *byte);
            borders[at + 1] = border;
        }
        Self { secret: secret.to_vec(), borders, matched: 0 }
    }

    /// Takes the next byte; true when the stream ends with the whole secret now.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.secret[self.matched] != byte {
            self.matched = self.borders[self.matched];
        }
        self.matched += usize::from(self.secret[self.matched] == byte);
        let is_whole = self.matched == self.secret.len();
        if is_whole {
            self.matched = self.borders[self.matched];
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// The definition, on a text that is known whole.
    fn redacted(text: &[u8], secrets: &[String]) -> Vec<u8> {
        let mut is_secret = vec![false; text.len()];
        for secret in secrets.iter().filter(|secret| secret.len() >= REDACTED_BYTES_MIN) {
            for start in 0..text.len() {
                if text[start..].starts_with(secret.as_bytes()) {
                    is_secret[start..start + secret.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match is_secret[at] {
                false => out.push(*byte),
                true if at == 0 || !is_secret[at - 1] => out.extend_from_slice(MASK.as_bytes()),
                true => {}
            }
        }
        out
    }

    /// The longest end of `text` that is a beginning of a secret, and not all of it.
    fn longest_open(text: &[u8], secrets: &[String]) -> usize {
        let open = |length: &usize| {
            secrets.iter().any(|secret| {
                secret.len() >= REDACTED_BYTES_MIN
                    && *length < secret.len()
                    && text.ends_with(&secret.as_bytes()[..*length])
            })
        };
        (0..=text.len()).rev().find(open).unwrap_or(0)
    }

    fn redact_pieces(pieces: &[&str], secrets: &[&str]) -> Vec<String> {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        let mut redactor = Redactor::new(&secrets);
        let mut seen = Vec::new();
        for piece in pieces {
            let mut out = Vec::new();
            redactor.push(piece.as_bytes(), &mut out);
            seen.push(String::from_utf8(out).unwrap());
        }
        let mut out = Vec::new();
        redactor.finish(&mut out);
        seen.push(String::from_utf8(out).unwrap());
        seen
    }

    #[test]
    fn nothing_waits_longer_than_it_must() {
        let secrets = ["hunter2hunter2!", "hunter2h"];
        // A whole secret is out at once, though a longer one may follow.
        assert_eq!(
            redact_pieces(&["a hun", "t ", "hunter2h", "unter2", "!", "x"], &secrets),
            ["a ", "hunt ", "••••", "", "", "x", ""]
        );
        // The beginning that comes to nothing.
        assert_eq!(redact_pieces(&["a hunter2", "\n"], &secrets), ["a ", "hunter2\n", ""]);
        assert_eq!(redact_pieces(&["a hunter2"], &secrets), ["a ", "hunter2"]);
        // What is too short to be told from other text stays.
        assert_eq!(
            redact_pieces(&["1234567 12345678"], &["1234567", "12345678"])[0],
            "1234567 ••••"
        );
        assert_eq!(redact_pieces(&["aaaaaaaaaaaa b"], &["aaaaaaaa"]).concat(), "•••• b");
        assert_eq!(redact_pieces(&["abcdefghijkl"], &["abcdefgh", "efghijkl"]).concat(), "••••");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cutting_the_stream_changes_nothing(
            text in "[ab]{0,60}|(ab?c?){0,30}",
            cuts in vec(any::<Index>(), 0..8),
            excerpts in vec((any::<Index>(), 7..14_usize), 0..4),
            strangers in vec("[ab]{8,10}|(abc?){3,5}", 0..3),
        ) {
            // Some secrets that occur, and some that nearly do.
            let excerpts = excerpts.iter().filter(|_| !text.is_empty()).map(|(at, length)| {
                text[at.index(text.len())..].chars().take(*length).collect::<String>()
            });
            let secrets: Vec<String> = excerpts.chain(strangers).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut redactor = Redactor::new(&secrets);
            let mut out = Vec::new();
            for cut in cuts.windows(2) {
                redactor.push(&text.as_bytes()[cut[0]..cut[1]], &mut out);
                let so_far = &text.as_bytes()[..cut[1]];
                prop_assert!(redactor.held.len() <= longest_open(so_far, &secrets));
            }
            redactor.finish(&mut out);
            prop_assert!(redactor.held.is_empty());
            let expected = redacted(text.as_bytes(), &secrets);
            prop_assert_eq!(String::from_utf8(out), String::from_utf8(expected), "{:?}", secrets);
        }
    }
}
