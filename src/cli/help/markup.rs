//! The markup of a topic: as much of Markdown as topics need, so that they can be read as they are.
//!
//! ```text
//! # name - summary          the first line
//! ## Heading
//! paragraphs, - lists, ```blocks that stay as they are```
//! | term | what it is |     a table of two columns, whose first two lines only make it one
//! `code` and **stress**     within a line
//! ```

/// A topic, in its parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Document<'t> {
    pub name: &'t str,
    pub summary: &'t str,
    pub blocks: Vec<Block<'t>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Block<'t> {
    Heading(&'t str),
    Paragraph(Line<'t>),
    Item(Line<'t>),
    /// Lines that are shown as they are.
    Verbatim(Vec<&'t str>),
    /// A term and what it is, one of several.
    Definition(Line<'t>, Line<'t>),
}

/// Text that is broken where it must be: its words, with one space between them.
pub type Line<'t> = Vec<Word<'t>>;

/// What stands between two spaces, in parts that are strong or not.
pub type Word<'t> = Vec<(&'t str, bool)>;

impl<'t> Document<'t> {
    /// Reads `text`. Whatever it is, it makes some document: topics are part of the program, and a
    /// test sees to it that they are what they should be.
    pub fn parse(text: &'t str) -> Self {
        let (name, summary) = title(text);
        let (_, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mut blocks = Vec::new();
        let mut lines = rest.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(heading) = line.strip_prefix("## ") {
                blocks.push(Block::Heading(heading));
            } else if line.starts_with("```") {
                blocks
                    .push(Block::Verbatim(lines.by_ref().take_while(|it| *it != "```").collect()));
            } else if line.starts_with('|') {
                // The head of the table, and the line below it.
                lines.next();
                while let Some(row) = lines.next_if(|it| it.starts_with('|')) {
                    let row = row.trim_matches(['|', ' ']);
                    let (term, what) = row.split_once(" | ").unwrap_or((row, ""));
                    blocks.push(Block::Definition(words(&[term]), words(&[what])));
                }
            } else if !line.is_empty() {
                let item = line.strip_prefix("- ");
                let mut text = vec![item.unwrap_or(line)];
                while let Some(more) = lines.next_if(|it| continues(it)) {
                    text.push(more);
                }
                let text = words(&text);
                blocks.push(if item.is_some() {
                    Block::Item(text)
                } else {
                    Block::Paragraph(text)
                });
            }
        }
        Self { name, summary, blocks }
    }
}

/// The name and the summary of the topic `text`, of which nothing more is read.
pub fn title(text: &str) -> (&str, &str) {
    let line = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    line.split_once(" - ").unwrap_or((line, ""))
}

/// Whether `line` belongs to the paragraph or item before it.
fn continues(line: &str) -> bool {
    !line.is_empty() && !["- ", "## ", "```", "|"].iter().any(|start| line.starts_with(start))
}

/// The words of `lines`, which are one text.
fn words<'t>(lines: &[&'t str]) -> Line<'t> {
    let mut is_strong = false;
    let mut words = Vec::new();
    for text in lines.iter().flat_map(|line| line.split_whitespace()) {
        let mut word = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = rest.find('`').into_iter().chain(rest.find("**")).min().unwrap_or(rest.len());
            if at > 0 {
                word.push((&rest[..at], is_strong));
            }
            let mark = match &rest[at..] {
                "" => 0,
                marked if marked.starts_with('`') => 1,
                _ => 2,
            };
            is_strong ^= mark > 0;
            rest = &rest[at + mark..];
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_parts() {
        let text = "# name - what it is\n\nA `long\nword`-like **thing**.\n\n## Head\n- one\n  more\n\
                    - two\n\n```sh\n$ a | b\n\n# c\n```\n| term | |\n| --- | --- |\n| `a b` | c |\n";
        let plain = |text: &'static str| vec![(text, false)];
        let strong = |text: &'static str| vec![(text, true)];
        assert_eq!(
            Document::parse(text),
            Document {
                name: "name",
                summary: "what it is",
                blocks: vec![
                    Block::Paragraph(vec![
                        plain("A"),
                        strong("long"),
                        vec![("word", true), ("-like", false)],
                        vec![("thing", true), (".", false)],
                    ]),
                    Block::Heading("Head"),
                    Block::Item(vec![plain("one"), plain("more")]),
                    Block::Item(vec![plain("two")]),
                    Block::Verbatim(vec!["$ a | b", "", "# c"]),
                    Block::Definition(vec![strong("a"), strong("b")], vec![plain("c")]),
                ],
            }
        );
    }
}
