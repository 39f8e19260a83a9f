//! What all attempts of one vessel of a fleet's version have in common, prepared once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::PATH;
use crate::model::environment::Environment;
use crate::model::fleet::{FleetVersion, Program};
use crate::model::ids::RunId;
use crate::model::source::Origin;
use crate::scheduler::graph_of;

/// Bases that are kept, of some two kilobytes each. The vessels that start most are among them.
const BASES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct VesselBase {
    variables: Environment,
    /// Whether a run starts with it.
    is_first: bool,
    /// The vessels in each direction of the graph; empty without vessels.
    streams: Vec<(&'static str, Vec<usize>)>,
    /// Where a repository is cloned to, below the work directory; `None` without one.
    clone_location: Option<String>,
}

/// The bases that were made last.
#[derive(Debug, Default)]
pub struct VesselBases {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Holds its place in memory, so that no other version is taken for it, and nothing else of it.
    version: Weak<FleetVersion>,
    vessel: usize,
    base: Arc<VesselBase>,
}

impl VesselBases {
    /// The base of the vessel at the index `vessel`.
    pub fn of(&self, version: &Arc<FleetVersion>, vessel: usize) -> Arc<VesselBase> {
        // No panic leaves the list half changed.
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted =
            |kept: &Kept| kept.vessel == vessel && kept.version.as_ptr() == Arc::as_ptr(version);
        if let Some(kept) = lock().iter().find(|kept| is_wanted(kept)) {
            return Arc::clone(&kept.base);
        }
        let base = Arc::new(VesselBase::new(version, vessel));
        let mut kept = lock();
        kept.truncate(BASES_MAX - 1);
        let (version, base_kept) = (Arc::downgrade(version), Arc::clone(&base));
        kept.push_front(Kept { version, vessel, base: base_kept });
        base
    }
}

impl VesselBase {
    /// The base of the vessel at the index `vessel`.
    pub fn new(version: &FleetVersion, vessel: usize) -> Self {
        let mut base = Self::default();
        let definition = &version.definition.vessels[vessel];
        base.variables.set("PATH", PATH);
        base.variables.set("LANG", "C.UTF-8");
        base.variables.set("SHIPYARD_VESSEL_ID", definition.id);
        base.variables.set("SHIPYARD_VESSEL_NAME", &definition.name);
        base.set_graph(version, vessel);
        base.set_code(&definition.program);
        base
    }

    pub(super) fn variables(&self) -> &Environment {
        &self.variables
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn clone_location(&self) -> Option<&str> {
        self.clone_location.as_deref()
    }

    /// Sets the vessel runs of its neighbours in `run`.
    pub(super) fn set_logs(&self, environment: &mut Environment, run: RunId) {
        for (name, vessels) in &self.streams {
            let logs = joined(vessels.iter().map(|vessel| run.vessel_run(*vessel).to_string()));
            environment.set(format_args!("SHIPYARD_FLEET_{name}_LOG_IDS"), logs);
        }
    }

    fn set_graph(&mut self, version: &FleetVersion, vessel: usize) {
        let graph = graph_of(version);
        self.is_first = graph.upstream(vessel).next().is_none();
        let current = graph.currentstream(vessel);
        let index = current.iter().position(|it| *it == vessel).unwrap_or(0);
        self.variables.set("SHIPYARD_FLEET_CURRENTSTREAM_INDEX", index);
        self.streams = vec![
            ("UPSTREAM", graph.upstream(vessel).collect()),
            ("CURRENTSTREAM", current),
            ("DOWNSTREAM", graph.downstream(vessel).to_vec()),
        ];
        let definitions = &version.definition.vessels;
        for (name, vessels) in &self.streams {
            let ids = joined(vessels.iter().map(|vessel| definitions[*vessel].id.to_string()));
            self.variables.set(format_args!("SHIPYARD_FLEET_{name}_COUNT"), vessels.len());
            self.variables.set(format_args!("SHIPYARD_FLEET_{name}_VESSEL_IDS"), ids);
        }
    }

    /// Sets what only a vessel with a `source` has.
    fn set_code(&mut self, program: &Program) {
        let Program::Code(code) = program else { return };
        // The hosted system runs code by a blueprint per language, whose id is no UUID.
        self.variables.set("SHIPYARD_BLUEPRINT_ID", code.language.word().to_ascii_lowercase());
        self.variables.set("SHIPYARD_BLUEPRINT_NAME", code.language.title());
        if let Origin::Git(git) = &code.origin {
            self.variables.set("SHIPYARD_REPO_NAME", git.name());
            let place = git.directory().map(|directory| format!("/{directory}"));
            self.clone_location = Some(place.unwrap_or_default());
        }
    }
}

fn joined(ids: impl Iterator<Item = String>) -> String {
    ids.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::tests::fleet;
    use super::*;

    #[test]
    fn a_base_is_prepared_once_for_each_vessel_of_a_version() {
        let (bases, version) = (VesselBases::default(), fleet("ab", &["ab"]));
        let (first, second) = (bases.of(&version, 0), bases.of(&version, 1));
        assert_eq!(first.variables().get("SHIPYARD_VESSEL_NAME"), Some("a"));
        assert_eq!(second.variables().get("SHIPYARD_VESSEL_NAME"), Some("b"));
        assert!(Arc::ptr_eq(&first, &bases.of(&version, 0)));
        // Another version, though it is in the place of the first one that it had.
        for name in ["c", "d", "e"] {
            let version = fleet(name, &[]);
            assert_eq!(bases.of(&version, 0).variables().get("SHIPYARD_VESSEL_NAME"), Some(name));
        }
        let versions: Vec<_> = (0..BASES_MAX).map(|_| fleet("a", &[])).collect();
        versions.iter().for_each(|version| drop(bases.of(version, 0)));
        assert_eq!(bases.kept.lock().unwrap().len(), BASES_MAX);
        assert!(!Arc::ptr_eq(&first, &bases.of(&version, 0)), "the oldest ones go");
    }
}
