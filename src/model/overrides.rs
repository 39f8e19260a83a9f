//! Overrides of one run: variables of single vessels, and vessels that are skipped, because the request
//! asks for it or because a replay goes on from the middle of another run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::fleet::FleetDefinition;
use crate::model::name::find_by_name;
use crate::model::run::Skip;

/// The overrides, by the name of the vessel. Names that the fleet does not have are ignored: the version
/// of a replay may lack them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<String, VesselOverride>);

/// The overrides of one vessel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VesselOverride {
    /// Variables by name; `None`: the fleet's own variable of that name is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<Skip>,
    /// The skip that the request asked for, while a replay decides otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set_aside: Option<Skip>,
}

impl Overrides {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The overrides of the vessel called `name`.
    pub fn of(&self, name: &str) -> Option<&VesselOverride> {
        find_by_name(self.0.iter(), name, |(vessel, _)| vessel).map(|(_, it)| it)
    }

    /// The first variable that its vessel does not declare in `definition`: the vessel and the name.
    pub fn undeclared(&self, definition: &FleetDefinition) -> Option<(&str, &str)> {
        let variables = self.0.iter().flat_map(|(vessel, entry)| {
            entry.environment.keys().map(move |name| (vessel.as_str(), name.as_str()))
        });
        variables.into_iter().find(|(vessel, name)| {
            let vessel = definition.vessel_index(vessel).and_then(|at| definition.vessels.get(at));
            !vessel.is_some_and(|it| it.environment.iter().any(|(declared, _)| declared == name))
        })
    }

    /// The overrides of the vessel called `name`, which may be changed.
    pub fn entry(&mut self, name: &str) -> &mut VesselOverride {
        let known = find_by_name(self.0.keys(), name, |vessel| vessel).cloned();
        self.0.entry(known.unwrap_or_else(|| name.to_owned())).or_default()
    }

    /// Makes the vessel called `name` run in a replay, also where the request asked for a skip.
    pub fn run_in_replay(&mut self, name: &str) {
        if self.of(name).is_some() {
            self.entry(name).replay_with(None);
        }
    }

    /// Makes a replay skip the vessel called `name`, whatever the request asked for.
    pub fn skip_in_replay(&mut self, name: &str, skip: Skip) {
        self.entry(name).replay_with(Some(skip));
    }

    /// The overrides that the request asked for, without those of a replay.
    pub fn without_replay(mut self) -> Self {
        for vessel in self.0.values_mut() {
            let asked_for = vessel.set_aside.take().or(vessel.skip);
            vessel.skip = asked_for.filter(|skip| matches!(skip, Skip::Override { .. }));
        }
        self.0.retain(|_, vessel| *vessel != VesselOverride::default());
        self
    }
}

impl VesselOverride {
    fn replay_with(&mut self, skip: Option<Skip>) {
        self.set_aside = self.skip;
        self.skip = skip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::Status;

    #[test]
    fn without_replay_drops_the_skips_of_a_replay() {
        let mut overrides = Overrides::default();
        overrides.entry("set").environment.insert("A".into(), Some("1".into()));
        overrides.entry("skipped").skip = Some(Skip::Override { exit_code: 1 });
        let expected = overrides.clone();
        let taken_over = Skip::Replay { status: Status::Success, exit_code: Some(0) };
        overrides.entry("set").skip = Some(taken_over);
        overrides.entry("before").skip = Some(taken_over);
        assert_eq!(overrides.without_replay(), expected);
    }

    #[test]
    fn requested_skips_survive_a_replay_that_decides_otherwise() {
        let mut overrides = Overrides::default();
        for name in ["taken over", "run"] {
            overrides.entry(name).skip = Some(Skip::Override { exit_code: 0 });
        }
        let expected = overrides.clone();
        let taken_over = Skip::Replay { status: Status::Success, exit_code: Some(0) };
        overrides.skip_in_replay("taken over", taken_over);
        overrides.run_in_replay("run");
        assert_eq!(overrides.of("taken over").unwrap().skip, Some(taken_over));
        assert_eq!(overrides.of("run").unwrap().skip, None);
        let json = serde_json::to_string(&overrides).unwrap();
        let stored: Overrides = serde_json::from_str(&json).unwrap();
        assert_eq!(stored.without_replay(), expected, "{json}");
    }

    #[test]
    fn stored_overrides_read_back() {
        let mut overrides = Overrides::default();
        overrides.entry("a b").environment.insert("A".into(), None);
        overrides.entry("a b").environment.insert("B".into(), Some(String::new()));
        overrides.entry("c").skip = Some(Skip::Replay { status: Status::Errored, exit_code: None });
        overrides.entry("d").skip = Some(Skip::Override { exit_code: 0 });
        let json = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&json).unwrap(), overrides, "{json}");
    }
}
