//! A topic as a terminal shows it: wrapped to its width, terms in a column of their own.

use std::io::{self, IsTerminal};

use super::markup::{Block, Document, Line, Word};
use crate::cli::output::{BOLD, styled};
use crate::cli::wrap::wrap;

/// The width of what is no terminal.
const WIDTH_DEFAULT: usize = 80;
/// Longer lines are hard to read, and shorter ones leave no room for two columns.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=100;
/// Of the width, the part that a column of terms may take: longer terms stand on lines of their own.
const TERMS_PART: usize = 3;

/// How wide standard output is.
pub fn width() -> usize {
    let out = io::stdout();
    let columns = match rustix::termios::tcgetwinsize(&out) {
        Ok(size) if out.is_terminal() && size.ws_col > 0 => usize::from(size.ws_col),
        _ => WIDTH_DEFAULT,
    };
    columns.clamp(*WIDTHS.start(), *WIDTHS.end())
}

/// `document` in lines of at most `width` columns, but for what stays as it is.
pub fn render(document: &Document<'_>, width: usize) -> String {
    let title = styled(&format!("{}: {}", document.name, document.summary), BOLD);
    let mut text = format!("{title}\n");
    let mut before = None;
    for (index, block) in document.blocks.iter().enumerate() {
        let is_listed = matches!(block, Block::Item(_) | Block::Definition(..));
        let kind = std::mem::discriminant(block);
        if !(is_listed && before == Some(kind)) {
            text.push('\n');
        }
        before = Some(kind);
        match block {
            Block::Heading(heading) => text.push_str(&format!("{}\n", styled(heading, BOLD))),
            Block::Paragraph(line) => append(&mut text, line, "  ", "  ", width),
            Block::Item(line) => append(&mut text, line, "  - ", "    ", width),
            Block::Verbatim(lines) => {
                for line in lines {
                    text.push_str(format!("      {line}").trim_end());
                    text.push('\n');
                }
            }
            Block::Definition(term, what) => {
                let column = term_width(&document.blocks, index, width / TERMS_PART);
                define(&mut text, term, what, column, width);
            }
        }
    }
    text
}

/// The width, at most `max`, of the column of terms that the definition at `index` is in.
fn term_width(blocks: &[Block<'_>], index: usize, max: usize) -> usize {
    let width = |block: &Block<'_>| match block {
        Block::Definition(term, _) => Some(line_width(term)),
        _ => None,
    };
    let before = blocks[..index].iter().rev().map_while(width);
    let widths = before.chain(blocks[index..].iter().map_while(width));
    widths.filter(|width| *width <= max).max().unwrap_or(0)
}

fn define(text: &mut String, term: &Line<'_>, what: &Line<'_>, column: usize, width: usize) {
    let indent = " ".repeat(2 + column + 2);
    let term_width = line_width(term);
    if term_width > column {
        append(text, term, "  ", "    ", width);
        append(text, what, &indent, &indent, width);
        return;
    }
    let term = term.iter().map(shown).collect::<Vec<_>>().join(" ");
    let gap = " ".repeat(column - term_width + 2);
    let mut rest = String::new();
    append(&mut rest, what, &indent, &indent, width);
    text.push_str(&format!("  {term}{gap}{}", rest.trim_start_matches(' ')));
}

/// Appends `line`, its first line behind `first` and all others behind `indent`.
fn append(text: &mut String, line: &Line<'_>, first: &str, indent: &str, width: usize) {
    let columns = |margin: &str| width.saturating_sub(margin.chars().count());
    let lines = wrap(line, |word| word_width(word), columns(first), columns(indent));
    for (number, words) in lines.iter().enumerate() {
        let margin = if number == 0 { first } else { indent };
        let words: Vec<_> = words.iter().map(|word| shown(word)).collect();
        text.push_str(&format!("{margin}{}\n", words.join(" ")));
    }
}

fn shown(word: &Word<'_>) -> String {
    let part = |(text, is_strong): &(&str, bool)| match is_strong {
        true => styled(text, BOLD),
        false => (*text).to_owned(),
    };
    word.iter().map(part).collect()
}

fn word_width(word: &Word<'_>) -> usize {
    word.iter().map(|(text, _)| text.chars().count()).sum()
}

fn line_width(line: &Line<'_>) -> usize {
    line.iter().map(word_width).sum::<usize>() + line.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_and_columns_align() {
        let text = "# t - about it\nOne two three `four five` six seven.\n## Head\n\
                    - a point that is longer than one line\n- b\n```\nstays as it is, however long it may be\n```\n\
                    | x | y |\n|---|---|\n| `a` | short |\n| `longer` | one two three four five six |\n";
        let shown = render(&Document::parse(text), 30);
        let plain = anstream::adapter::strip_str(&shown).to_string();
        let expected = "\
t: about it

  One two three four five six
  seven.

Head

  - a point that is longer
    than one line
  - b

      stays as it is, however long it may be

  a       short
  longer  one two three four
          five six
";
        assert_eq!(plain, expected);
        assert!(shown.contains("\u{1b}["), "styled: {shown:?}");
    }
}
