//! Aligned tables.

use anstyle::Style;

use super::output::{DIM, printable, status_style, status_word, styled};
use crate::model::run::Status;

/// One field of a table.
pub struct Cell {
    text: String,
    style: Style,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: printable(text), style: Style::new() }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<(&str, Style)> for Cell {
    fn from((text, style): (&str, Style)) -> Self {
        Self { text: printable(text), style }
    }
}

impl From<Status> for Cell {
    fn from(status: Status) -> Self {
        Self { text: status_word(status), style: status_style(status) }
    }
}

/// Rows under a head line, each column as wide as its widest field. Letters count as one column
/// each, so fields in wide scripts stand a little off.
pub struct Table<const COLUMNS: usize> {
    head: [&'static str; COLUMNS],
    rows: Vec<[Cell; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub fn new(head: [&'static str; COLUMNS]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row at the end.
    pub fn row(&mut self, cells: [Cell; COLUMNS]) {
        self.rows.push(cells);
    }

    /// The table as text, each line ended by a line break. Columns are two spaces apart; no line
    /// has spaces at its end.
    pub fn render(&self) -> String {
        let mut widths = self.head.map(|title| title.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut text = String::new();
        push_line(&mut text, &widths, self.head.iter().map(|title| (*title, DIM)));
        for row in &self.rows {
            push_line(&mut text, &widths, row.iter().map(|cell| (cell.text.as_str(), cell.style)));
        }
        text
    }
}

fn push_line<'a>(
    text: &mut String,
    widths: &[usize],
    cells: impl Iterator<Item = (&'a str, Style)>,
) {
    let mut gap = 0;
    for (width, (cell, style)) in widths.iter().zip(cells) {
        if !cell.is_empty() {
            text.extend(std::iter::repeat_n(' ', gap));
            text.push_str(&styled(cell, style));
            gap = 0;
        }
        gap += width - cell.chars().count() + 2;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_their_styling() {
        let mut table = Table::new(["VESSEL", "STATUS", "NOTE"]);
        table.row(["a".into(), Status::Success.into(), "".into()]);
        table.row(["répare-tout".into(), Status::Errored.into(), "exit\u{1b}[0m 3".into()]);
        let text = table.render();
        assert!(text.contains("\u{1b}["), "styled: {text:?}");
        let plain = anstream::adapter::strip_str(&text).to_string();
        let expected = "VESSEL       STATUS   NOTE\n\
                        a            Success\n\
                        répare-tout  Errored  exit\u{fffd}[0m 3\n";
        assert_eq!(plain, expected);
    }
}
