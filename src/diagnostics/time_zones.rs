//! Whether this machine knows the time zones of the projects.

use crate::model::finding::Finding;
use crate::model::fleet::Project;
use crate::model::time_zone::{has_database, is_known};

const CHECK: &str = "time zones";

/// `projects` is empty without a server.
pub(super) fn examine(projects: &[Project]) -> Vec<Finding> {
    judge(projects, has_database(), is_known)
}

fn judge(
    projects: &[Project],
    has_database: bool,
    is_known: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let install = "install the package tzdata";
    let unknown = projects.iter().filter(|project| !is_known(&project.time_zone));
    let mut findings: Vec<Finding> = unknown
        .map(|project| {
            let what = format!(
                "{}, the time zone of the project {}, is not known to this machine: its vessels \
                 take it for UTC",
                project.time_zone, project.name
            );
            let remedy = if has_database { "give the project another one" } else { install };
            Finding::problem(CHECK, what, remedy)
        })
        .collect();
    if findings.is_empty() {
        findings.push(match has_database {
            true => Finding::ok(CHECK, "this machine knows them"),
            false => {
                let what = "this machine has no time zone database: it knows UTC alone";
                Finding::warning(CHECK, what, install)
            }
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::finding::Level;
    use crate::model::ids::ProjectId;

    #[test]
    fn a_missing_database_is_a_problem_where_a_project_needs_it() {
        let project = |time_zone: &str| Project {
            id: ProjectId::random(),
            name: "web".to_owned(),
            time_zone: time_zone.to_owned(),
            created_at: Timestamp::default(),
        };
        let levels = |projects: &[Project], has_database| {
            let findings = judge(projects, has_database, |name| has_database || name == "UTC");
            findings.into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        let (utc, berlin) = (project("UTC"), project("Europe/Berlin"));
        assert_eq!(levels(&[utc.clone(), berlin.clone()], true), [Level::Ok]);
        assert_eq!(levels(std::slice::from_ref(&utc), false), [Level::Warning]);
        assert_eq!(levels(&[utc, berlin], false), [Level::Problem]);
    }
}
