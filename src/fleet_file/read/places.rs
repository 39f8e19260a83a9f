//! The places of vessels' code in the directory that a run's vessels share. Two vessels that may run at the
//! same time must not put different code in one place: one would run the other's.

use std::collections::BTreeMap;

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::model::archive::Archive;
use crate::model::fleet::{Program, VesselDefinition};
use crate::model::graph::{Graph, Path};
use crate::model::package::Package;
use crate::model::source::{Language, Origin};

/// The code that is put in place before a vessel starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content<'a> {
    File(&'a str),
    Archive(&'a Archive),
    /// A link to these.
    Packages(&'a [Package]),
    /// Fetched at every start, so that two fetches may differ.
    Repository,
}

/// Refuses vessels that would overwrite each other's code.
pub fn check(
    vessels: &[VesselDefinition],
    paths: &[Path],
    fields: &Fields<'_>,
) -> Result<(), FleetFileError> {
    let mut places: BTreeMap<&str, Vec<(usize, Content<'_>)>> = BTreeMap::new();
    for (index, vessel) in vessels.iter().enumerate() {
        if let Program::Code(code) = &vessel.program {
            let (place, content) = match &code.origin {
                Origin::File { name, content } => (name.as_str(), Content::File(content)),
                // It may hold a file of any name.
                Origin::Archive { archive, .. } => (".", Content::Archive(archive)),
                Origin::Git(git) => (git.directory().unwrap_or("."), Content::Repository),
            };
            places.entry(place).or_default().push((index, content));
            // A repository's own place keeps its packages apart.
            if code.language == Language::Node
                && !code.packages.is_empty()
                && shares_packages(&code.origin)
            {
                let packages = (index, Content::Packages(&code.packages));
                places.entry("node_modules").or_default().push(packages);
            }
        }
    }
    places.retain(|_, vessels| vessels.len() > 1);
    if places.is_empty() {
        return Ok(());
    }
    // Checked when the paths were read.
    let graph = Graph::new(vessels.len(), paths).unwrap_or_default();
    for (place, sharers) in places {
        if let Some((first, second)) = conflict(&graph, &sharers) {
            let name = |index: usize| vessels.get(index).map_or("?", |it| it.name.as_str());
            let message = format!(
                "may run at the same time as `{}`, and both put their code in `{place}` of the \
                 run's directory; connect the two, or give one of them another place",
                name(first)
            );
            return Err(refusal(fields, name(second), message));
        }
    }
    Ok(())
}

/// Whether the packages of code of this origin are in the run's directory itself.
fn shares_packages(origin: &Origin) -> bool {
    match origin {
        Origin::File { .. } | Origin::Archive { .. } => true,
        Origin::Git(git) => git.directory().is_none(),
    }
}

/// Two of `sharers` that differ and are not one after the other.
fn conflict(graph: &Graph, sharers: &[(usize, Content<'_>)]) -> Option<(usize, usize)> {
    let is_shared = |content: Content<'_>| content != Content::Repository;
    if sharers.iter().all(|(_, content)| is_shared(*content) && *content == sharers[0].1) {
        return None;
    }
    let reached: Vec<Vec<bool>> = sharers
        .iter()
        .map(|(vessel, _)| {
            let mut reached = vec![false; graph.len()];
            graph.descendants(*vessel).into_iter().for_each(|index| reached[index] = true);
            reached
        })
        .collect();
    for (later, (second, content)) in sharers.iter().enumerate() {
        for (earlier, (first, other)) in sharers[..later].iter().enumerate() {
            let is_ordered = reached[earlier][*second] || reached[later][*first];
            let is_same = is_shared(*content) && content == other;
            if !is_ordered && !is_same {
                return Some((*first, *second));
            }
        }
    }
    None
}

fn refusal(fields: &Fields<'_>, vessel: &str, message: String) -> FleetFileError {
    let vessels = fields.get("vessels").map(Cursor::mapping);
    let entries = match vessels {
        Some(Ok(entries)) => entries,
        Some(Err(error)) => return error,
        None => Vec::new(),
    };
    match entries.iter().find(|(name, _)| *name == vessel) {
        Some((_, value)) => value.invalid_key(message),
        None => FleetFileError::Invalid { line: None, column: None, path: String::new(), message },
    }
}
