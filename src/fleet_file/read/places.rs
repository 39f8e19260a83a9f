//! The places of vessels' code in the directory that a run's vessels share. Two vessels that may run at the
//! same time must not put different code in one place: one would run the other's.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::model::archive::{Archive, ArchiveKind, ArchivedFile};
use crate::model::fleet::{Program, VesselDefinition};
use crate::model::graph::{Graph, Path};
use crate::model::package::Package;
use crate::model::source::{Code, Language, Origin};

/// Where the packages of NODE are, and the file that names them.
const NODE_MODULES: &str = "node_modules";
const NODE_FILE: &str = "package.json";

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
    let codes = vessels.iter().enumerate().filter_map(|(index, vessel)| match &vessel.program {
        Program::Code(code) => Some((index, &**code)),
        _ => None,
    });
    for (index, code) in codes.clone() {
        let (place, content) = match &code.origin {
            Origin::File { name, content } => (name.as_str(), Content::File(content)),
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
            places.entry(NODE_MODULES).or_default().push(packages);
        }
    }
    if places.values().map(Vec::len).sum::<usize>() > 1 {
        for (index, code) in codes {
            add_files(&mut places, index, code);
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

/// Adds the vessel `index` to the places of others where its archive has a file, or where its code may.
fn add_files<'a>(
    places: &mut BTreeMap<&str, Vec<(usize, Content<'a>)>>,
    index: usize,
    code: &'a Code,
) {
    let is_node = code.language == Language::Node;
    let (content, files) = match &code.origin {
        Origin::Archive { name, archive } => (Content::Archive(archive), names(name, archive)),
        // What it holds is not known: as NODE it may name packages.
        Origin::Git(git) if git.directory().is_none() && is_node => {
            (Content::Repository, BTreeSet::from([NODE_FILE.to_owned()]))
        }
        Origin::File { .. } | Origin::Git(_) => return,
    };
    for (place, sharers) in places.iter_mut().filter(|(place, _)| **place != ".") {
        let below = format!("{place}/");
        let has_below =
            files.range(below.clone()..).next().is_some_and(|it| it.starts_with(&below));
        let names_packages = *place == NODE_MODULES && is_node && files.contains(NODE_FILE);
        if files.contains(*place) || has_below || names_packages {
            sharers.push((index, content));
        }
    }
}

/// The paths of the files of the archive called `name`. One that is damaged is refused elsewhere.
fn names(name: &str, archive: &Archive) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut keep = |file: ArchivedFile<'_>| {
        names.insert(file.path.to_owned());
        Ok(())
    };
    if let Some(kind) = ArchiveKind::of(name) {
        let _ = archive.unpack(kind, &mut keep);
    }
    names
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
            if first != second && !is_ordered && !is_same {
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
