//! Findings on the screen, as they come.

use std::io;

use crate::cli::output::{BAD, BOLD, DIM, GOOD, NOTABLE, print, printable, styled};
use crate::cli::wrap::wrap;
use crate::model::finding::{Finding, Level};

/// Columns of the names of checks and of levels: the longest of each.
const CHECK_COLUMNS: usize = 13;
const LEVEL_COLUMNS: usize = 7;
/// Where text begins.
const INDENT: usize = CHECK_COLUMNS + LEVEL_COLUMNS + 4;
/// Columns of text: lines stay readable on a wide screen, and whole on most.
const TEXT_COLUMNS: usize = 96 - INDENT;

/// What was found so far; shown at once to a person.
pub(super) struct Report {
    is_shown: bool,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(is_shown: bool) -> Self {
        Self { is_shown, findings: Vec::new() }
    }

    /// Adds one at the end.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub(super) fn add(&mut self, finding: Finding) -> io::Result<()> {
        if self.is_shown {
            let is_more = self.findings.last().is_some_and(|last| last.check == finding.check);
            print(&shown(&finding, is_more))?;
        }
        self.findings.push(finding);
        Ok(())
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Prints how many problems and warnings there are.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub(super) fn conclude(&self) -> io::Result<()> {
        let count = |level| self.findings.iter().filter(|it| it.level == level).count();
        print(&conclusion(count(Level::Problem), count(Level::Warning)))
    }
}

fn conclusion(problems: usize, warnings: usize) -> String {
    let counted = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    let (problems_text, warnings_text) =
        (counted(problems, "problem"), counted(warnings, "warning"));
    let text = match (problems, warnings) {
        (0, 0) => styled("all is well", GOOD),
        (0, _) => styled(&warnings_text, NOTABLE),
        (_, 0) => styled(&problems_text, BAD),
        _ => format!("{}, {}", styled(&problems_text, BAD), styled(&warnings_text, NOTABLE)),
    };
    format!("\n{text}\n")
}

/// A finding as lines; `is_more` of the same check as the one before.
fn shown(finding: &Finding, is_more: bool) -> String {
    let (word, style) = match finding.level {
        Level::Ok => ("ok", GOOD),
        Level::Warning => ("warning", NOTABLE),
        Level::Problem => ("problem", BAD),
    };
    let check = if is_more { "" } else { &finding.check };
    let check = styled(&format!("{:<CHECK_COLUMNS$}", printable(check)), BOLD);
    let word = styled(&format!("{word:<LEVEL_COLUMNS$}"), style);
    let margin = " ".repeat(INDENT);
    let mut text = String::new();
    for (number, line) in wrapped(&printable(&finding.what), TEXT_COLUMNS).iter().enumerate() {
        match number {
            0 => text.push_str(&format!("{check}  {word}  {line}\n")),
            _ => text.push_str(&format!("{margin}{line}\n")),
        }
    }
    let Some(remedy) = &finding.remedy else { return text };
    let mut lines = remedy.lines();
    let advice = wrapped(&printable(lines.next().unwrap_or_default()), TEXT_COLUMNS - 2);
    for (number, line) in advice.iter().enumerate() {
        let arrow = if number == 0 { "→" } else { " " };
        text.push_str(&format!("{margin}{} {line}\n", styled(arrow, DIM)));
    }
    // To be copied as they are.
    for line in lines {
        text.push_str(&format!("{margin}    {}\n", styled(&printable(line.trim()), BOLD)));
    }
    text
}

/// `text` in lines of at most `columns` letters, as long as its words allow.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let lines = wrap(text.split(' '), |word| word.chars().count(), columns, columns);
    lines.iter().map(|line| line.join(" ")).collect()
}

/// How far the reading of the database has come.
pub(super) fn reading(rows: u64, bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{:<CHECK_COLUMNS$}  reading: {rows} rows, {mebibytes:.1} MiB", "database")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(finding: &Finding, is_more: bool) -> String {
        anstream::adapter::strip_str(&shown(finding, is_more)).to_string()
    }

    #[test]
    fn findings_stand_in_columns_with_their_remedies_beneath() {
        let finding = Finding::problem(
            "fleets",
            "site, build: working directory /srv/site cannot be written to: it is read-only in the \
             service's sandbox\u{1b}[2J",
            "let it with a drop-in\n[Service]\nReadWritePaths=/srv/site",
        );
        let expected = "\
fleets         problem  site, build: working directory /srv/site cannot be written to: it is read-only
                        in the service's sandbox\u{fffd}[2J
                        → let it with a drop-in
                            [Service]
                            ReadWritePaths=/srv/site
";
        let shown = plain(&finding, false);
        assert_eq!(shown.lines().count(), expected.lines().count(), "{shown}");
        for (line, expected) in shown.lines().zip(expected.lines()).skip(2) {
            assert_eq!(line, expected);
        }
        assert!(shown.starts_with("fleets         problem  site, build: working"), "{shown}");
        assert!(!shown.contains('\u{1b}') && shown.lines().all(|it| it.chars().count() <= 96));
        assert!(plain(&Finding::ok("fleets", "x"), true).starts_with("               ok       x"));
    }

    #[test]
    fn the_conclusion_counts() {
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain(conclusion(0, 0)), "\nall is well\n");
        assert_eq!(plain(conclusion(1, 2)), "\n1 problem, 2 warnings\n");
    }
}
