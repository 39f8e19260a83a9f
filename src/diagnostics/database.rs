//! The result of a check of the whole database.

use std::path::Path;

use super::directory::rounded;
use crate::model::finding::Finding;
use crate::store::{DirectoryError, VerifyReport};

const CHECK: &str = "database";
const RESTORE: &str = "restore a backup; the rest can be read and served meanwhile";

/// The findings of a check that read the database to its end, or was cut short.
pub(super) fn judge(verified: &VerifyReport) -> Vec<Finding> {
    let VerifyReport { read, runs, damages, damage, orphans, is_cut_short } = verified;
    let mut findings: Vec<Finding> =
        damage.iter().map(|what| Finding::problem(CHECK, what, RESTORE)).collect();
    let unnamed = damages.saturating_sub(damage.len() as u64);
    if unnamed > 0 {
        findings.push(Finding::problem(CHECK, format!("{unnamed} more like these"), RESTORE));
    }
    if *orphans > 0 {
        let what = format!("{orphans} payloads belong to no run: their space is not used again");
        let remedy = "nothing is lost; please report it, with the log of the last start";
        findings.push(Finding::warning(CHECK, what, remedy));
    }
    if *is_cut_short {
        let what = format!("not read to its end: {} rows so far", read.rows);
        findings.push(Finding::warning(CHECK, what, "try again"));
    }
    if findings.is_empty() {
        let (rows, bytes) = (read.rows, rounded(read.bytes));
        let what = format!("whole: {runs} runs, {rows} rows and {bytes} read and checked");
        findings.push(Finding::ok(CHECK, what));
    }
    findings
}

/// The finding when the database cannot be read to its end.
pub(super) fn unreadable(error: &str) -> Finding {
    let what = format!("it cannot be read to its end: {error}");
    let remedy = "look at the disk (dmesg, smartctl), then restore a backup";
    Finding::problem(CHECK, what, remedy)
}

/// The finding when the database was not opened.
pub(super) fn not_opened(error: &DirectoryError) -> Finding {
    match error {
        DirectoryError::InUse { path, holder } => {
            let what = format!("process {holder} holds {} and does not answer", path.display());
            let remedy = "is it still starting? its log says so; if it hangs, end it";
            Finding::problem(CHECK, what, remedy)
        }
        DirectoryError::Empty { .. } => Finding::ok(CHECK, error.to_string()),
        DirectoryError::OlderSchema { .. } => {
            Finding::warning(CHECK, error.to_string(), "start the server, then look again")
        }
        DirectoryError::NewerSchema { .. } => {
            Finding::problem(CHECK, error.to_string(), "install that newer version again")
        }
        DirectoryError::UnfinishedRestore { .. } => Finding::problem(
            CHECK,
            error.to_string(),
            "boathook restore FILE, with the same backup",
        ),
        DirectoryError::UnreadableSchema { .. } => {
            Finding::problem(CHECK, error.to_string(), "restore a backup into another directory")
        }
        DirectoryError::NotOurs { .. } => {
            Finding::problem(CHECK, error.to_string(), "name the right one with --data-dir")
        }
        _ => Finding::problem(CHECK, error.to_string(), "see what is in that directory"),
    }
}

/// The finding when another user owns the database, whose files a check may not make.
pub(super) fn not_ours(data_dir: &Path, owner: &str) -> Finding {
    let what =
        format!("not read: {} belongs to {owner}, as must what a look leaves", data_dir.display());
    let data_dir = data_dir.display();
    let remedy = format!("sudo -u {owner} boathook doctor --data-dir {data_dir}");
    Finding::warning(CHECK, what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Level;

    #[test]
    fn damage_is_a_problem_and_lost_space_a_warning() {
        let levels = |verified: VerifyReport| -> Vec<Level> {
            judge(&verified).into_iter().map(|finding| finding.level).collect()
        };
        assert_eq!(levels(VerifyReport::default()), [Level::Ok]);
        let damage = vec!["a".to_owned(), "b".to_owned()];
        let damaged = VerifyReport { damages: 7, damage, ..VerifyReport::default() };
        assert_eq!(levels(damaged), [Level::Problem; 3]);
        assert_eq!(
            levels(VerifyReport { orphans: 1, ..VerifyReport::default() }),
            [Level::Warning]
        );
        let cut = VerifyReport { is_cut_short: true, ..VerifyReport::default() };
        assert_eq!(levels(cut), [Level::Warning]);
    }
}
