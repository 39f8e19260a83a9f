//! The connections of a fleet file: `from: {to: CONDITION}` becomes paths between vessels.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::node::excerpt;
use crate::fleet_file::{FleetFileError, keys};
use crate::model::fleet::VesselDefinition;
use crate::model::graph::{Condition, Graph, GraphError, Path};
use crate::model::name::name_key;
use crate::model::suggest::closest;

/// Paths in one fleet: every stored and drawn graph stays small enough to show.
const PATHS_PER_FLEET_MAX: usize = 10_000;
/// Vessels that a message about a cycle names; a longer one is cut in the middle.
const CYCLE_NAMES_MAX: usize = 10;

/// The paths in the order of the file. They form no cycle.
pub fn paths(
    cursor: &Cursor<'_>,
    vessels: &[VesselDefinition],
) -> Result<Vec<Path>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let names = Names::new(vessels);
    let mut paths = Vec::new();
    let mut written = Vec::new();
    for (from_name, targets) in cursor.mapping()? {
        let from = names.index(from_name, &targets)?;
        if !targets.is_mapping() {
            let message = "expected the vessels that follow and on what condition, as in \
                           `{notify: SUCCESS}`";
            return Err(targets.invalid(message));
        }
        for (to_name, value) in targets.mapping()? {
            let to = names.index(to_name, &value)?;
            if paths.len() == PATHS_PER_FLEET_MAX {
                let message =
                    format!("more than {PATHS_PER_FLEET_MAX} connections; split the fleet");
                return Err(value.invalid_key(message));
            }
            paths.push(Path { from, to, condition: condition(&value)? });
            written.push(value);
        }
    }
    match Graph::new(vessels.len(), &paths) {
        Ok(_) => Ok(paths),
        Err(GraphError::Cycle(cycle)) => {
            // Points at the path that closes the cycle.
            let (last, first) = (cycle.last().copied(), cycle.first().copied());
            let closes =
                |path: &Path| Some(path.from.into()) == last && Some(path.to.into()) == first;
            let place = paths.iter().position(closes).and_then(|index| written.get(index));
            let message = format!(
                "the connections form a cycle, {}; remove one of them",
                spelled(&cycle, vessels)
            );
            Err(place.unwrap_or(cursor).invalid_key(message))
        }
        // Unknown vessels and duplicate keys were refused above.
        Err(error) => Err(cursor.invalid(error.to_string())),
    }
}

fn condition(cursor: &Cursor<'_>) -> Result<Condition, FleetFileError> {
    if cursor.is_null() {
        return Err(cursor.invalid(keys::expected_word("", &Condition::ALL.map(Condition::word))));
    }
    keys::word(cursor, &Condition::ALL.map(|condition| (condition.word(), condition)))
}

/// The cycle as text: `a -> b -> a`.
fn spelled(cycle: &[usize], vessels: &[VesselDefinition]) -> String {
    let name = |index: &usize| vessels.get(*index).map_or("?", |vessel| vessel.name.as_str());
    let mut names: Vec<&str> = cycle.iter().chain(cycle.first()).map(name).collect();
    if names.len() > CYCLE_NAMES_MAX {
        names.splice(CYCLE_NAMES_MAX / 2..names.len() - CYCLE_NAMES_MAX / 2, ["..."]);
    }
    names.join(" -> ")
}

/// Positions of the vessels by name: a fleet may have a thousand of them and ten thousand paths.
struct Names<'a>(BTreeMap<Cow<'a, str>, u16>);

impl<'a> Names<'a> {
    fn new(vessels: &'a [VesselDefinition]) -> Self {
        Self((0..).zip(vessels).map(|(index, vessel)| (name_key(&vessel.name), index)).collect())
    }

    fn index(&self, name: &str, at: &Cursor<'_>) -> Result<u16, FleetFileError> {
        self.0.get(&name_key(name)).copied().ok_or_else(|| {
            let name = excerpt(name);
            at.invalid_key(match closest(&name, self.0.keys().map(|it| &**it)) {
                Some(meant) => format!("unknown vessel `{name}`; did you mean `{meant}`?"),
                None => format!("unknown vessel `{name}`; add it under `vessels`"),
            })
        })
    }
}
