//! The name of the file that holds the output of one attempt: `<vessel run>.<attempt>`.

use super::ids::VesselRunId;

/// The file name of an attempt's output.
pub fn output_name(vessel_run: VesselRunId, attempt: u32) -> String {
    format!("{vessel_run}.{attempt}")
}

/// The attempt that a file name stands for; `None` for any other name.
pub fn parse_output_name(name: &str) -> Option<(VesselRunId, u32)> {
    let (vessel_run, attempt) = name.split_once('.')?;
    let (vessel_run, attempt) = (vessel_run.parse().ok()?, attempt.parse().ok()?);
    // Ids and numbers parse from other spellings as well; a file has this one spelling.
    (output_name(vessel_run, attempt) == name).then_some((vessel_run, attempt))
}
