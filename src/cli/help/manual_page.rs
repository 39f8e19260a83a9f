//! A topic as a manual page.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::markup::{Block, Document, Line};

/// Of the manual: overviews and conventions.
pub const SECTION: &str = "7";

/// The page called `page`, which `source` signs.
pub fn render(document: &Document<'_>, page: &str, source: &str) -> String {
    let mut roff = Roff::new();
    // A date that is there and says nothing: an empty one would be left out.
    roff.control("TH", [page, SECTION, " ", source]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{page} - {}", document.summary))]);
    roff.control("SH", ["DESCRIPTION"]);
    for block in &document.blocks {
        match block {
            Block::Heading(heading) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
            }
            Block::Paragraph(line) => {
                roff.control("PP", []);
                roff.text(inlines(line));
            }
            Block::Item(line) => {
                roff.control("IP", ["\u{2022}", "2"]);
                roff.text(inlines(line));
            }
            Block::Definition(term, what) => {
                roff.control("TP", []);
                roff.text(inlines(term));
                roff.text(inlines(what));
            }
            Block::Verbatim(lines) => {
                roff.control("PP", []);
                roff.control("RS", ["4"]);
                roff.control("nf", []);
                roff.text([roman(lines.join("\n"))]);
                roff.control("fi", []);
                roff.control("RE", []);
            }
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("boathook"), roman("(1)")]);
    roff.to_roff()
}

fn inlines(line: &Line<'_>) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for (index, word) in line.iter().enumerate() {
        if index > 0 {
            inlines.push(roman(" "));
        }
        let part =
            |(text, is_strong): &(&str, bool)| if *is_strong { bold(*text) } else { roman(*text) };
        inlines.extend(word.iter().map(part));
    }
    inlines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_an_instruction() {
        let text = "# t - s\n`.PP` and 'a \\fBb\n```\n.sh -x\n'c \\d\n```\n| T | W |\n|-|-|\n| `x` | y |\n";
        let page = render(&Document::parse(text), "boathook-t", "boathook 1");
        for line in [
            ".TH boathook-t 7 \" \" \"boathook 1\"",
            "\\&.sh \\-x",
            "\\&'c \\\\d",
            ".TP",
            "\\fBx\\fR",
        ] {
            assert!(page.lines().any(|it| it == line), "no {line:?} in\n{page}");
        }
        assert!(!page.lines().any(|line| line.starts_with(".sh")), "{page}");
    }
}
