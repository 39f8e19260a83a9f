//! Masks secrets in a stream of bytes. Pure: the result does not depend on how the stream is cut
//! into pieces.
//!
//! Every byte of an occurrence of a secret is removed, also where occurrences overlap or touch;
//! each run of such bytes becomes one [`MASK`]. A byte is held back only while it can still belong
//! to an occurrence: while the stream ends with a beginning of a secret that contains it.
//!
//! The automaton of Aho and Corasick (1975) searches all secrets at once. Its state holds the
//! length of the beginning that the stream ends with, which search libraries do not expose. A byte
//! costs the same for any number of secrets, so that each line of a long secret can be a secret of
//! its own.

use std::collections::VecDeque;

use crate::model::limits::REDACTED_BYTES_MIN;

/// Replaces a secret.
pub(super) use crate::config::secrets::MASK;

/// See the module.
#[derive(Default)]
pub(super) struct Redactor {
    automaton: Automaton,
    /// The state of `automaton` at the end of the stream.
    state: u32,
    /// Bytes that are held back, and whether each is known to be secret.
    held: VecDeque<(u8, bool)>,
    /// Whether the byte before `held` was secret, so that its run has a mask already.
    in_run: bool,
}

/// A tree of all beginnings of the secrets, its root first. Empty without secrets.
#[derive(Default)]
struct Automaton {
    nodes: Vec<Node>,
    /// The child of the root for each byte, 0 for none: most bytes of a stream are looked up here.
    first: Vec<u32>,
}

/// A beginning of a secret: the state of a stream that ends with it.
#[derive(Clone, Copy, Default)]
struct Node {
    byte: u8,
    /// Children form a list that ends in 0.
    first_child: u32,
    next_sibling: u32,
    /// The longest shorter beginning that this one ends with.
    fallback: u32,
    /// Its length.
    depth: u32,
    /// The length of the longest whole secret that it ends with, 0 for none.
    secret: u32,
    /// The length of the longest beginning that it ends with and that can grow to a secret.
    open: u32,
}

impl Redactor {
    /// A redactor of the `secrets` of at least [`REDACTED_BYTES_MIN`] bytes.
    pub fn new(secrets: &[String]) -> Self {
        let secrets = secrets.iter().map(|secret| secret.as_bytes());
        let long: Vec<_> = secrets.filter(|secret| secret.len() >= REDACTED_BYTES_MIN).collect();
        Self { automaton: Automaton::new(&long), ..Self::default() }
    }

    /// Whether there are no secrets.
    pub fn is_idle(&self) -> bool {
        self.automaton.nodes.is_empty()
    }

    /// Takes the next bytes of the stream and appends decided bytes to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            if self.open() == 0 {
                // Nothing is held: bytes up to a possible beginning of a secret are plain.
                debug_assert!(self.held.is_empty());
                let begins = bytes.iter().position(|byte| self.automaton.first_child(*byte) != 0);
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

    /// Ends the stream: held bytes are no secret. The next byte begins another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.state = 0;
        self.release(out);
        self.in_run = false;
    }

    /// The length of the longest beginning that the stream ends with and that can grow to a secret.
    fn open(&self) -> usize {
        self.automaton.nodes.get(self.state as usize).map_or(0, |node| node.open as usize)
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push_back((byte, false));
        self.state = self.automaton.next(self.state, byte);
        let node = self.automaton.nodes.get(self.state as usize);
        let secret = node.map_or(0, |node| node.secret as usize);
        // Exceeds the held bytes when the beginning was released as secret already.
        self.held.iter_mut().rev().take(secret).for_each(|(_, is_secret)| *is_secret = true);
        self.release(out);
    }

    /// Releases secret bytes, and bytes that no occurrence can contain any more.
    fn release(&mut self, out: &mut Vec<u8>) {
        let open = self.open();
        while let Some(&(byte, is_secret)) = self.held.front() {
            if !is_secret && self.held.len() <= open {
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

impl Automaton {
    fn new(secrets: &[&[u8]]) -> Self {
        if secrets.is_empty() {
            return Self::default();
        }
        let mut automaton = Self { nodes: vec![Node::default()], first: vec![0; 256] };
        for secret in secrets {
            let end = secret.iter().fold(0, |node, byte| automaton.child_or_new(node, *byte));
            let node = &mut automaton.nodes[end as usize];
            node.secret = node.depth;
        }
        automaton.link();
        automaton
    }

    fn first_child(&self, byte: u8) -> u32 {
        self.first.get(usize::from(byte)).copied().unwrap_or(0)
    }

    /// The child of `node` for `byte`, 0 for none.
    fn child(&self, node: u32, byte: u8) -> u32 {
        if node == 0 {
            return self.first_child(byte);
        }
        let mut child = self.nodes[node as usize].first_child;
        while child != 0 && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].next_sibling;
        }
        child
    }

    fn child_or_new(&mut self, parent: u32, byte: u8) -> u32 {
        let child = self.child(parent, byte);
        if child != 0 {
            return child;
        }
        // Secrets are bounded to a few megabytes together.
        let child = self.nodes.len() as u32;
        let Node { first_child: next_sibling, depth, .. } = self.nodes[parent as usize];
        self.nodes.push(Node { byte, next_sibling, depth: depth + 1, ..Node::default() });
        self.nodes[parent as usize].first_child = child;
        if parent == 0 {
            self.first[usize::from(byte)] = child;
        }
        child
    }

    /// Completes each node from its fallback. Shorter beginnings come first.
    fn link(&mut self) {
        let mut queue = VecDeque::from([0]);
        while let Some(index) = queue.pop_front() {
            let node = self.nodes[index as usize];
            let fallback = self.nodes[node.fallback as usize];
            let grows = node.first_child != 0;
            let linked = &mut self.nodes[index as usize];
            linked.secret = node.secret.max(fallback.secret);
            linked.open = if grows { node.depth } else { fallback.open };
            let mut child = node.first_child;
            while child != 0 {
                let Node { byte, next_sibling, .. } = self.nodes[child as usize];
                if index != 0 {
                    self.nodes[child as usize].fallback = self.next(node.fallback, byte);
                }
                queue.push_back(child);
                child = next_sibling;
            }
        }
    }

    /// The state after `byte` in the state `node`.
    fn next(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            let child = self.child(node, byte);
            if child != 0 || node == 0 {
                return child;
            }
            node = self.nodes[node as usize].fallback;
        }
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
    fn bytes_are_released_as_soon_as_they_are_decided() {
        let secrets = ["hunter2hunter2!", "hunter2h"];
        // A whole secret is out at once, though a longer one may follow.
        assert_eq!(
            redact_pieces(&["a hun", "t ", "hunter2h", "unter2", "!", "x"], &secrets),
            ["a ", "hunt ", "••••", "", "", "x", ""]
        );
        // A beginning that does not grow to a secret.
        assert_eq!(redact_pieces(&["a hunter2", "\n"], &secrets), ["a ", "hunter2\n", ""]);
        assert_eq!(redact_pieces(&["a hunter2"], &secrets), ["a ", "hunter2"]);
        // A secret of fewer than eight bytes stays.
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
