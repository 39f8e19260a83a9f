//! Handshakes: requests by which a provider finds out whether a URL is its owner's. `web/senders/handshake.rs`
//! answers them.

/// What a provider asks before, or between, its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Slack: a signed `url_verification`; the challenge as JSON.
    Slack,
    /// Zoom: a signed `endpoint.url_validation`; the token and its HMAC.
    Zoom,
    /// Meta: GET with `hub.challenge` and the token that the owner has chosen.
    Meta,
    /// Microsoft Graph: `validationToken` in the query; the token as text.
    MicrosoftGraph,
    /// Discord: a signed ping of an interaction, or of webhook events.
    Discord,
    /// Twitch: a signed challenge, and revocations.
    Twitch,
    /// Dropbox: GET with `challenge`.
    Dropbox,
    /// Asana: `X-Hook-Secret`, which is the secret from then on.
    Asana,
    /// monday.com and others: `challenge` alone in a JSON object.
    Challenge,
    /// Okta: GET with `x-okta-verification-challenge`.
    Okta,
    /// Trello, Mailchimp: HEAD or GET on the URL.
    Touch,
}

impl Handshake {
    /// The methods that it needs besides POST.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Meta | Self::Dropbox | Self::Okta => &["GET"],
            Self::Touch => &["GET", "HEAD"],
            _ => &[],
        }
    }

    /// Whether it brings the secret with which the provider signs from then on.
    pub fn brings_secret(self) -> bool {
        matches!(self, Self::Asana)
    }

    /// Whether the provider signs it, so that it is answered only when the signature is right.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Slack | Self::Zoom | Self::Discord | Self::Twitch)
    }
}
