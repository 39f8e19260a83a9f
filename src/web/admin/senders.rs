//! The senders that a webhook can verify: the table of presets, for those who choose one.

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::sender::PresetOption;
use crate::model::sender::guide::Guide;
use crate::model::sender::table::PRESETS;

#[derive(Serialize)]
struct SenderJson {
    preset: &'static str,
    title: &'static str,
    /// Whether it takes a secret.
    has_secret: bool,
    /// Whether its handshake brings the secret.
    brings_secret: bool,
    /// Further keys of its check.
    options: Vec<&'static str>,
    /// What to type at the provider.
    guide: Option<Guide>,
}

pub(super) fn list(_: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    let senders = PRESETS.iter().map(|preset| SenderJson {
        preset: preset.name,
        title: preset.title,
        has_secret: preset.has_secret(),
        brings_secret: preset.brings_secret(),
        options: preset.options.iter().map(|option| PresetOption::key(*option)).collect(),
        guide: Guide::of_preset(preset.name),
    });
    Reply::ok(&senders.collect::<Vec<_>>())
}
