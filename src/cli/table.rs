//! Aligned tables.

use std::borrow::Cow;
use std::io;

use anstyle::Style;

use super::output::{DIM, printable, status_style, status_word, stdout_is_terminal, styled};
use crate::model::run::Status;

/// Columns whose fields are of no use in part.
const UNCUT: [&str; 6] = ["ID", "RUN", "DELIVERY", "TIME", "STATUS", "VERSION"];
/// Fewest columns that a cut field keeps.
const CUT_WIDTH_MIN: usize = 8;

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
        self.render_within(terminal_width())
    }

    /// The same in at most `max` columns, if the fields that may be cut leave room for that.
    fn render_within(&self, max: Option<usize>) -> String {
        let mut widths = self.head.map(|title| title.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        if let Some(max) = max {
            self.cut(&mut widths, max);
        }
        let mut text = String::new();
        push_line(&mut text, &widths, self.head.iter().map(|title| (*title, DIM)));
        for row in &self.rows {
            push_line(&mut text, &widths, row.iter().map(|cell| (cell.text.as_str(), cell.style)));
        }
        text
    }

    /// Takes columns from the widest field that may be cut, until all fit into `max`. Where that cannot
    /// be, the ids go: names say as much.
    fn cut(&self, widths: &mut [usize; COLUMNS], max: usize) {
        let may_be_cut: Vec<usize> =
            (0..COLUMNS).filter(|at| !UNCUT.contains(&self.head[*at])).collect();
        let total = |widths: &[usize; COLUMNS]| {
            widths.iter().sum::<usize>() + 2 * COLUMNS.saturating_sub(1)
        };
        let least = widths.map(|width| width.min(CUT_WIDTH_MIN));
        let mut narrowest = *widths;
        may_be_cut.iter().for_each(|at| narrowest[*at] = least[*at]);
        if total(&narrowest) > max
            && let Some(at) = self.head.iter().position(|head| *head == "ID")
        {
            widths[at] = 0;
        }
        while total(widths) > max {
            let widest = may_be_cut.iter().max_by_key(|at| widths[**at]);
            let Some(widest) = widest.filter(|at| widths[**at] > CUT_WIDTH_MIN) else { return };
            widths[*widest] -= 1;
        }
    }
}

/// How wide the terminal is that a person reads; `None` where output goes elsewhere.
fn terminal_width() -> Option<usize> {
    stdout_is_terminal()
        .then(|| rustix::termios::tcgetwinsize(io::stdout()).ok())
        .flatten()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
}

/// `text` in at most `width` columns; a cut one ends with an ellipsis.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if width == 0 {
        return "".into();
    }
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…").into()
}

fn push_line<'a>(
    text: &mut String,
    widths: &[usize],
    cells: impl Iterator<Item = (&'a str, Style)>,
) {
    let mut gap = 0;
    for (width, (cell, style)) in widths.iter().zip(cells) {
        let cell = &*cut(cell, *width);
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
    fn long_fields_are_cut_to_the_width_of_the_terminal_and_ids_are_not() {
        let mut table = Table::new(["NAME", "REASON", "ID"]);
        table.row(["a-very-long-name".into(), "because of this".into(), "0123456789".into()]);
        table.row(["b".into(), "".into(), "9".into()]);
        let within = |max| anstream::adapter::strip_str(&table.render_within(max)).to_string();
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        assert!(!within(None).contains('…'));
        let cut = within(Some(34));
        assert!(cut.contains("a-very-lo…  because o…  0123456789\n"), "{cut}");
        assert_eq!(widest(&cut), Some(34));
        // What is left of a field is worth reading, and an id is not cut.
        assert!(within(Some(20)).contains("a-very-…  because…\n"), "{}", within(Some(20)));
    }

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
