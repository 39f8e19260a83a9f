//! The table of presets: one row per provider, in alphabetical order. A new preset is one row here and one
//! line in `tests/it/senders`. Facts are from the providers' public documentation (November 2026).

use std::time::Duration;

use super::handshake::Handshake;
use super::preset::{Credential, Preset, PresetOption, Rule};
use super::scheme::{
    Algorithm, Encoding, Form, KeyForm, Place, Scheme, TimestampPlace, TimestampRule, Unit,
};
use super::template::Template;

use Encoding::{Base64, Hex};
use Place::{Body, Header};

const MINUTES_5: Option<Duration> = Some(Duration::from_secs(300));

/// Senders that are known and not supported yet, and why.
pub const UNSUPPORTED: [(&str, &str); 5] = [
    ("sns", "Amazon SNS signs with certificates"),
    ("aws-sns", "Amazon SNS signs with certificates"),
    ("paypal", "PayPal signs with certificates"),
    ("jwt", "signatures in the form of a JWT need keys that the sender publishes"),
    ("google-pubsub", "Google Pub/Sub sends a JWT"),
];

/// HMAC-SHA-256 in a header after `prefix`.
const fn hmac(header: &'static str, prefix: &'static str, encoding: Encoding) -> Scheme<'static> {
    Scheme {
        header,
        form: Form::Prefixed(prefix),
        signed: Template::of_table("{body}"),
        algorithm: Algorithm::HmacSha256,
        encoding,
        key: KeyForm::Text,
        timestamp: None,
        id: None,
    }
}

/// Several signatures in a header, each behind `key`.
const fn parts(separator: char, key: &'static str) -> Form<'static> {
    Form::Parts { separator, divider: '=', key }
}

const fn seconds(
    place: TimestampPlace<'static>,
    tolerance: Option<Duration>,
) -> Option<TimestampRule<'static>> {
    Some(TimestampRule { place, unit: Unit::Seconds, tolerance })
}

/// A row without options and handshake.
const fn row(name: &'static str, title: &'static str, rules: &'static [Rule<'static>]) -> Preset {
    Preset { name, title, rules, event_id: &[], event_type: &[], handshake: None, options: &[] }
}

const fn standard(
    header: &'static str,
    id: &'static str,
    timestamp: &'static str,
    key: &'static str,
    algorithm: Algorithm,
) -> Rule<'static> {
    Rule::Signature(Scheme {
        form: Form::Parts { separator: ' ', divider: ',', key },
        signed: Template::of_table("{id}.{ts}.{body}"),
        algorithm,
        key: KeyForm::Base64,
        timestamp: seconds(TimestampPlace::Header(timestamp), MINUTES_5),
        id: Some(id),
        ..hmac(header, "", Base64)
    })
}

const STANDARD: Rule<'static> =
    standard("webhook-signature", "webhook-id", "webhook-timestamp", "v1", Algorithm::HmacSha256);

/// Gitea and its fork: of a form, the field `payload` is signed.
const fn gitea(header: &'static str) -> Rule<'static> {
    Rule::Signature(Scheme { signed: Template::of_table("{payload}"), ..hmac(header, "", Hex) })
}

/// The presets.
pub static PRESETS: &[Preset] = &[
    Preset {
        handshake: Some(Handshake::Asana),
        ..row("asana", "Asana", &[Rule::Signature(hmac("X-Hook-Signature", "", Hex))])
    },
    row("basic", "HTTP Basic authentication", &[Rule::Credential(Credential::Basic)]),
    row("bearer", "a bearer token", &[Rule::Credential(Credential::Bearer)]),
    Preset {
        event_id: &[Header("X-Request-UUID")],
        event_type: &[Header("X-Event-Key")],
        ..row("bitbucket", "Bitbucket", &[Rule::Signature(hmac("X-Hub-Signature", "sha256=", Hex))])
    },
    Preset {
        event_id: &[Body("id")],
        event_type: &[Body("type")],
        ..row(
            "circleci",
            "CircleCI",
            &[Rule::Signature(Scheme {
                form: parts(',', "v1"),
                ..hmac("circleci-signature", "", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Body("id")],
        event_type: &[Body("event.type")],
        handshake: Some(Handshake::Discord),
        ..row(
            "discord",
            "Discord",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("{ts}{body}"),
                algorithm: Algorithm::Ed25519,
                timestamp: seconds(TimestampPlace::Header("X-Signature-Timestamp"), None),
                ..hmac("X-Signature-Ed25519", "", Hex)
            })],
        )
    },
    Preset {
        handshake: Some(Handshake::Dropbox),
        ..row("dropbox", "Dropbox", &[Rule::Signature(hmac("X-Dropbox-Signature", "", Hex))])
    },
    Preset {
        event_id: &[Header("X-Forgejo-Delivery")],
        event_type: &[Header("X-Forgejo-Event")],
        ..row("forgejo", "Forgejo", &[gitea("X-Forgejo-Signature"), gitea("X-Gitea-Signature")])
    },
    Preset {
        event_id: &[Header("X-Gitea-Delivery")],
        event_type: &[Header("X-Gitea-Event")],
        ..row("gitea", "Gitea", &[gitea("X-Gitea-Signature")])
    },
    Preset {
        event_id: &[Header("X-GitHub-Delivery")],
        event_type: &[Header("X-GitHub-Event")],
        ..row("github", "GitHub", &[Rule::Signature(hmac("X-Hub-Signature-256", "sha256=", Hex))])
    },
    Preset {
        event_id: &[Header("webhook-id"), Header("Idempotency-Key"), Header("X-Gitlab-Event-UUID")],
        event_type: &[Header("X-Gitlab-Event")],
        ..row(
            "gitlab",
            "GitLab",
            &[Rule::Credential(Credential::Header("X-Gitlab-Token")), STANDARD],
        )
    },
    Preset {
        options: &[PresetOption::Header, PresetOption::TimestampHeader],
        ..row(
            "grafana",
            "Grafana",
            &[Rule::Signature(hmac("X-Grafana-Alerting-Signature", "", Hex))],
        )
    },
    Preset {
        options: &[PresetOption::Name],
        ..row("header", "a secret in a header", &[Rule::Credential(Credential::Header(""))])
    },
    Preset {
        event_id: &[Body("webhook_metadata.event.id")],
        ..row(
            "heroku",
            "Heroku",
            &[Rule::Signature(hmac("Heroku-Webhook-Hmac-SHA256", "", Base64))],
        )
    },
    Preset {
        event_id: &[Body("id")],
        event_type: &[Body("topic")],
        ..row(
            "intercom",
            "Intercom",
            &[Rule::Signature(Scheme {
                algorithm: Algorithm::HmacSha1,
                ..hmac("X-Hub-Signature", "sha1=", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Header("Linear-Delivery")],
        event_type: &[Header("Linear-Event")],
        ..row(
            "linear",
            "Linear",
            &[Rule::Signature(Scheme {
                timestamp: Some(TimestampRule {
                    place: TimestampPlace::Body("webhookTimestamp"),
                    unit: Unit::Millis,
                    tolerance: Some(Duration::from_secs(60)),
                }),
                ..hmac("Linear-Signature", "", Hex)
            })],
        )
    },
    Preset { handshake: Some(Handshake::Touch), ..row("mailchimp", "Mailchimp", &[Rule::Url]) },
    Preset {
        handshake: Some(Handshake::Meta),
        options: &[PresetOption::VerifyToken],
        ..row(
            "meta",
            "Meta (Facebook, Instagram, WhatsApp)",
            &[Rule::Signature(hmac("X-Hub-Signature-256", "sha256=", Hex))],
        )
    },
    Preset {
        handshake: Some(Handshake::MicrosoftGraph),
        ..row("microsoft-graph", "Microsoft Graph", &[Rule::Credential(Credential::ClientState)])
    },
    Preset { handshake: Some(Handshake::Challenge), ..row("monday", "monday.com", &[Rule::Url]) },
    Preset {
        event_id: &[Body("eventId")],
        event_type: &[Body("eventType")],
        handshake: Some(Handshake::Okta),
        ..row("okta", "Okta", &[Rule::Credential(Credential::Header("Authorization"))])
    },
    Preset {
        event_id: &[Body("event_id")],
        event_type: &[Body("event_type")],
        ..row(
            "paddle",
            "Paddle",
            &[Rule::Signature(Scheme {
                form: parts(';', "h1"),
                signed: Template::of_table("{ts}:{body}"),
                timestamp: seconds(TimestampPlace::Part("ts"), MINUTES_5),
                ..hmac("Paddle-Signature", "", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Body("event.id")],
        event_type: &[Body("event.event_type")],
        ..row(
            "pagerduty",
            "PagerDuty",
            &[Rule::Signature(Scheme {
                form: parts(',', "v1"),
                ..hmac("X-PagerDuty-Signature", "", Hex)
            })],
        )
    },
    Preset {
        options: &[PresetOption::Name],
        ..row("query", "a secret in the query", &[Rule::Credential(Credential::Query(""))])
    },
    row(
        "sendgrid",
        "SendGrid",
        &[Rule::Signature(Scheme {
            signed: Template::of_table("{ts}{body}"),
            algorithm: Algorithm::EcdsaP256,
            timestamp: seconds(
                TimestampPlace::Header("X-Twilio-Email-Event-Webhook-Timestamp"),
                None,
            ),
            ..hmac("X-Twilio-Email-Event-Webhook-Signature", "", Base64)
        })],
    ),
    Preset {
        event_id: &[Header("Request-ID")],
        event_type: &[Header("Sentry-Hook-Resource")],
        ..row("sentry", "Sentry", &[Rule::Signature(hmac("Sentry-Hook-Signature", "", Hex))])
    },
    Preset {
        event_id: &[Header("X-Shopify-Webhook-Id")],
        event_type: &[Header("X-Shopify-Topic")],
        ..row("shopify", "Shopify", &[Rule::Signature(hmac("X-Shopify-Hmac-Sha256", "", Base64))])
    },
    Preset {
        event_id: &[Body("event_id")],
        event_type: &[Body("event.type")],
        handshake: Some(Handshake::Slack),
        ..row(
            "slack",
            "Slack",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("v0:{ts}:{body}"),
                timestamp: seconds(TimestampPlace::Header("X-Slack-Request-Timestamp"), MINUTES_5),
                ..hmac("X-Slack-Signature", "v0=", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Body("event_id")],
        event_type: &[Body("type")],
        ..row(
            "square",
            "Square",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("{url}{body}"),
                ..hmac("x-square-hmacsha256-signature", "", Base64)
            })],
        )
    },
    Preset {
        event_id: &[Header("webhook-id"), Header("svix-id")],
        event_type: &[Body("type")],
        ..row("standard-webhooks", "Standard Webhooks (Svix, OpenAI, Clerk, Resend, ...)", {
            const ED25519: Algorithm = Algorithm::Ed25519;
            const SHA256: Algorithm = Algorithm::HmacSha256;
            &[
                STANDARD,
                standard("webhook-signature", "webhook-id", "webhook-timestamp", "v1a", ED25519),
                standard("svix-signature", "svix-id", "svix-timestamp", "v1", SHA256),
                standard("svix-signature", "svix-id", "svix-timestamp", "v1a", ED25519),
            ]
        })
    },
    Preset {
        event_id: &[Body("id")],
        event_type: &[Body("type")],
        ..row(
            "stripe",
            "Stripe",
            &[Rule::Signature(Scheme {
                form: parts(',', "v1"),
                signed: Template::of_table("{ts}.{body}"),
                timestamp: seconds(TimestampPlace::Part("t"), MINUTES_5),
                ..hmac("Stripe-Signature", "", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Body("action.id")],
        event_type: &[Body("action.type")],
        handshake: Some(Handshake::Touch),
        ..row(
            "trello",
            "Trello",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("{body}{url}"),
                algorithm: Algorithm::HmacSha1,
                ..hmac("X-Trello-Webhook", "", Base64)
            })],
        )
    },
    Preset {
        event_id: &[Header("I-Twilio-Idempotency-Token")],
        ..row(
            "twilio",
            "Twilio",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("{url}{form}"),
                algorithm: Algorithm::HmacSha1,
                ..hmac("X-Twilio-Signature", "", Base64)
            })],
        )
    },
    Preset {
        event_id: &[Header("Twitch-Eventsub-Message-Id")],
        event_type: &[Header("Twitch-Eventsub-Subscription-Type")],
        handshake: Some(Handshake::Twitch),
        ..row(
            "twitch",
            "Twitch",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("{id}{ts}{body}"),
                timestamp: Some(TimestampRule {
                    place: TimestampPlace::Header("Twitch-Eventsub-Message-Timestamp"),
                    unit: Unit::Rfc3339,
                    tolerance: Some(Duration::from_secs(600)),
                }),
                id: Some("Twitch-Eventsub-Message-Id"),
                ..hmac("Twitch-Eventsub-Message-Signature", "sha256=", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Body("event_id")],
        ..row(
            "typeform",
            "Typeform",
            &[Rule::Signature(hmac("Typeform-Signature", "sha256=", Base64))],
        )
    },
    Preset {
        event_id: &[Body("id")],
        event_type: &[Body("type")],
        ..row(
            "vercel",
            "Vercel",
            &[Rule::Signature(Scheme {
                algorithm: Algorithm::HmacSha1,
                ..hmac("x-vercel-signature", "", Hex)
            })],
        )
    },
    Preset {
        event_id: &[Header("X-WC-Webhook-Delivery-ID")],
        event_type: &[Header("X-WC-Webhook-Topic")],
        ..row(
            "woocommerce",
            "WooCommerce",
            &[Rule::Signature(hmac("X-WC-Webhook-Signature", "", Base64))],
        )
    },
    Preset {
        event_type: &[Body("event")],
        handshake: Some(Handshake::Zoom),
        ..row(
            "zoom",
            "Zoom",
            &[Rule::Signature(Scheme {
                signed: Template::of_table("v0:{ts}:{body}"),
                timestamp: seconds(TimestampPlace::Header("x-zm-request-timestamp"), MINUTES_5),
                ..hmac("x-zm-signature", "v0=", Hex)
            })],
        )
    },
];

/// The preset called `name`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sender::Piece;

    #[test]
    fn rows_are_in_order_and_their_templates_have_what_they_name() {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        assert!(names.is_sorted() && names.len() == 38, "{}", names.len());
        for preset in PRESETS {
            for rule in preset.rules {
                let Rule::Signature(scheme) = rule else { continue };
                let bodies = [Piece::Body, Piece::Payload, Piece::Form];
                let covered = bodies.iter().filter(|piece| scheme.signed.has(**piece)).count();
                assert_eq!(covered, 1, "{}", preset.name);
                let is_in_body = matches!(
                    scheme.timestamp,
                    Some(TimestampRule { place: TimestampPlace::Body(_), .. })
                );
                let has_timestamp = scheme.timestamp.is_some() && !is_in_body;
                assert_eq!(scheme.signed.has(Piece::Timestamp), has_timestamp, "{}", preset.name);
                assert_eq!(scheme.signed.has(Piece::Id), scheme.id.is_some(), "{}", preset.name);
            }
        }
        assert!(UNSUPPORTED.iter().all(|(name, _)| preset(name).is_none()));
    }

    #[test]
    fn the_help_explains_each_preset() {
        let help = include_str!("../../cli/help/senders.md");
        let (_, section) = help.split_once("## Presets").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let explained: Vec<_> = rows.map(|(name, _)| name).collect();
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        assert_eq!(explained, names);
    }
}
