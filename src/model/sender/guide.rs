//! What to type where at a provider, so that it sends to a webhook.

use serde::Serialize;

/// The guide of a provider.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Guide {
    /// Where to go.
    #[serde(rename = "where")]
    pub place: &'static str,
    /// Labels and what to type there. `url` and `secret` stand for those of the webhook.
    pub fields: &'static [(&'static str, &'static str)],
    /// The provider makes the secret, and this says where it shows it.
    pub makes: Option<&'static str>,
    /// A handshake brings the secret, and this says how.
    pub brings: Option<&'static str>,
}

const GUIDES: [(&str, Guide); 8] = [
    (
        "github",
        Guide::of(
            "Repository › Settings › Webhooks › Add webhook",
            &[
                ("Payload URL", "url"),
                ("Content type", "application/json"),
                ("Secret", "secret"),
                ("SSL verification", "Enable"),
            ],
        ),
    ),
    (
        "gitlab",
        Guide::of(
            "Project › Settings › Webhooks › Add new webhook",
            &[("URL", "url"), ("Secret token", "secret")],
        ),
    ),
    (
        "gitea",
        Guide::of(
            "Repository › Settings › Webhooks › Add webhook › Gitea",
            &[
                ("Target URL", "url"),
                ("POST content type", "application/json"),
                ("Secret", "secret"),
            ],
        ),
    ),
    (
        "forgejo",
        Guide::of(
            "Repository › Settings › Webhooks › Add webhook › Forgejo",
            &[
                ("Target URL", "url"),
                ("POST content type", "application/json"),
                ("Secret", "secret"),
            ],
        ),
    ),
    (
        "stripe",
        Guide {
            makes: Some("The destination shows it as Signing secret (whsec_…)."),
            ..Guide::of("Workbench › Webhooks › Add destination", &[("Endpoint URL", "url")])
        },
    ),
    (
        "slack",
        Guide {
            makes: Some(
                "The app shows it under Basic Information as Signing Secret. Save it here first: \
                 Slack tries the URL at once.",
            ),
            ..Guide::of(
                "api.slack.com/apps › your app › Event Subscriptions",
                &[("Request URL", "url")],
            )
        },
    ),
    (
        "shopify",
        Guide {
            makes: Some("The page of webhooks shows it below the list."),
            ..Guide::of(
                "Settings › Notifications › Webhooks › Create webhook",
                &[("Format", "JSON"), ("URL", "url")],
            )
        },
    ),
    (
        "asana",
        Guide {
            brings: Some(
                "Asana brings the secret when the webhook is created: let this server expect that \
                 first.",
            ),
            ..Guide::of("Asana's API: POST /webhooks", &[("target", "url")])
        },
    ),
];

impl Guide {
    const fn of(place: &'static str, fields: &'static [(&'static str, &'static str)]) -> Self {
        Self { place, fields, makes: None, brings: None }
    }

    /// The guide of the preset of this name, if there is one.
    pub fn of_preset(name: &str) -> Option<Self> {
        GUIDES.iter().find(|(preset, _)| *preset == name).map(|(_, guide)| *guide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sender::table::PRESETS;

    #[test]
    fn guides_are_of_presets_and_say_where_the_url_goes() {
        for (name, guide) in GUIDES {
            let preset = PRESETS.iter().find(|preset| preset.name == name);
            let preset = preset.unwrap_or_else(|| panic!("no preset {name}"));
            assert!(guide.fields.iter().any(|(_, kind)| *kind == "url"), "{name}");
            assert_eq!(guide.brings.is_some(), preset.brings_secret(), "{name}");
        }
    }
}
