//! Edits that expect a version of a fleet, so that two people who edit it at the same time do not
//! overwrite each other.

use crate::engine::EngineError;
use crate::model::fleet::Fleet;

/// The version of a fleet that a client expects its change to meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any version, or none.
    #[default]
    Any,
    /// The fleet exists.
    Existing,
    /// The fleet is at one of these versions.
    OneOf(Vec<u32>),
}

impl ExpectedVersion {
    /// Whether `fleet` is as expected.
    ///
    /// # Errors
    /// [`EngineError::Stale`].
    pub fn check(&self, fleet: Option<&Fleet>) -> Result<(), EngineError> {
        let refused = |message: String| Err(EngineError::Stale(message));
        match (self, fleet) {
            (Self::Any, _) | (Self::Existing, Some(_)) => Ok(()),
            (Self::OneOf(versions), Some(fleet)) if versions.contains(&fleet.version) => Ok(()),
            (Self::OneOf(_), Some(fleet)) => refused(format!(
                "the fleet has changed: it is at version {} now; load it again and repeat the change",
                fleet.version
            )),
            (_, None) => refused("there is no such fleet any more; leave If-Match out".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::ids::{FleetId, ProjectId};

    #[test]
    fn another_version_than_expected_is_stale() {
        let now = Timestamp::default();
        let fleet = Fleet {
            id: FleetId::random(),
            project_id: ProjectId::random(),
            name: "deploy".to_owned(),
            version: 3,
            created_at: now,
            updated_at: now,
            text: None,
        };
        use ExpectedVersion::{Any, Existing, OneOf};
        for (expected, of_fleet, of_none) in [
            (Any, true, true),
            (Existing, true, false),
            (OneOf(vec![2, 3]), true, false),
            (OneOf(vec![2]), false, false),
            (OneOf(vec![]), false, false),
        ] {
            assert_eq!(expected.check(Some(&fleet)).is_ok(), of_fleet, "{expected:?}");
            assert_eq!(expected.check(None).is_ok(), of_none, "{expected:?}");
        }
    }
}
