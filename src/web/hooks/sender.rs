//! The sender of a request to a webhook: the handshake it asks for, whether it is who it says, and the
//! event it names.

use std::sync::Arc;

use crate::config::Settings;
use crate::config::secrets::{Secret, SecretStore};
use crate::engine::{AcceptError, HandshakeError};
use crate::listener::{Request, Response};
use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::model::delivery::KEPT_BODY_BYTES_MAX;
use crate::model::event::{Arrival, BodyHash, Deduplicate, Event, Note, Verifier};
use crate::model::rate::Rate;
use crate::model::rate_limit::Bucket;
use crate::model::refusal::{Reason, Refusal};
use crate::model::request::RequestHead;
use crate::model::sender::{Check, Credential, Place, Verification};
use crate::model::variable::SecretName;
use crate::model::webhook::{Mode, WebhookSettings};
use crate::web::senders::explain::{Hints, explain, other_urls};
use crate::web::senders::handshake::{self, Step};
use crate::web::senders::{Context, Failure, Outcome, Presented, fields, form, verify};

/// Explanations of refusals: one takes up to some milliseconds of a core.
const EXPLAINED: Rate = Rate::per_second(2, 10);

/// Judges the senders of requests.
pub(in crate::web) struct Senders {
    settings: Arc<Settings>,
    secrets: SecretStore,
    explained: Bucket,
}

/// What becomes of a request that is not refused.
pub(super) enum Judged {
    /// It is a handshake, and starts no run. The sender may be verified by then.
    Handshake(Response, Option<Verifier>),
    /// It is a handshake that brings this secret.
    BringsSecret(SecretName, String),
    /// It is to be run.
    Event(Arrival),
    /// Its sender is not verified. An operator may have it run after all.
    Unverified(Refusal, Arrival),
}

impl Senders {
    pub fn new(settings: Arc<Settings>) -> Self {
        let secrets = SecretStore::of(&settings);
        Self { settings, secrets, explained: Bucket::default() }
    }

    /// Judges a request to a webhook with these settings.
    ///
    /// # Errors
    /// When the request has another method than POST and is no handshake, its handshake is wrong, or its
    /// body cannot be read back.
    pub(super) fn judge(
        &self,
        settings: &WebhookSettings,
        request: &Request,
    ) -> Result<Judged, Refusal> {
        self.judge_at(settings, request, SystemClock.now())
    }

    /// The same for a request that came at `now`.
    ///
    /// # Errors
    /// As there.
    pub(super) fn judge_at(
        &self,
        settings: &WebhookSettings,
        request: &Request,
        now: Timestamp,
    ) -> Result<Judged, Refusal> {
        let presented = presented(request);
        let secret = |name: &SecretName| {
            self.secrets.current(name).map(Secret::into_text).map_err(|it| it.to_string())
        };
        let checks = settings.verify.as_ref().map_or(&[][..], Verification::checks);
        let unsigned = |check| handshake::unsigned(check, &request.method, &presented, &secret);
        if let Some(step) = checks.iter().find_map(unsigned) {
            return answer(step, None);
        }
        if request.method != "POST" {
            return Err(Refusal::method_not_allowed(&["POST"]));
        }
        let Some(verification) = &settings.verify else {
            return named_arrival(settings, request).map(Judged::Event);
        };
        let url = url(&self.settings.public_base(), request);
        let context = Context { now, url: &url, secret: &secret };
        let refusal = match verify(verification, &presented, &context) {
            Outcome::Verified(verified) => {
                let value = || verified.secret.and_then(|it| secret(it).ok()).unwrap_or_default();
                if let Some(step) = handshake::signed(verified.check, &presented, value) {
                    return answer(step, Some(Verifier::Sender));
                }
                let named = Named::find(verified.check, verified.id, &presented);
                let (has_signed_id, is_credential) =
                    (verified.id.is_some(), verified.secret.is_none());
                let arrival = arrival(named, has_signed_id, is_credential, settings, &presented)?;
                let verified_by = Some(Verifier::Sender);
                return Ok(Judged::Event(Arrival { verified_by, ..arrival }));
            }
            Outcome::Unreadable(error) => return Err(AcceptError::Read(error).into()),
            Outcome::NoSecret { secret, why } => {
                let message = format!("the secret `{}`: {why}", secret.as_str());
                Refusal::new(Reason::SecretMissing, message)
            }
            Outcome::Refused(failure) => {
                let hosts = request_hosts(request);
                let detail = self.detail(&failure, verification, &presented, &context, &hosts);
                Refusal::new(failure.reason, detail)
            }
        };
        let claimed = Named::claimed(checks, &presented);
        Ok(match settings.mode {
            // What is not kept cannot be run after all.
            Mode::Enforce if request.body.length() > KEPT_BODY_BYTES_MAX => {
                Judged::Unverified(refusal, Arrival { event: claimed.event, ..Arrival::default() })
            }
            Mode::Enforce => {
                Judged::Unverified(refusal, arrival(claimed, false, true, settings, &presented)?)
            }
            Mode::Observe => {
                let note = Some(Note::new(refusal.reason.word(), &refusal.message));
                // The event is not remembered: a forged one must not stand in the way of the true one.
                Judged::Event(Arrival { event: claimed.event, note, ..Arrival::default() })
            }
        })
    }

    /// The detail of `failure`, with what would have made the request right, for as long as there is time
    /// to look for that.
    fn detail(
        &self,
        failure: &Failure,
        verification: &Verification,
        request: &Presented<'_>,
        context: &Context<'_>,
        hosts: &[&str],
    ) -> String {
        if self.explained.take(EXPLAINED, context.now).is_err() {
            return failure.detail.clone();
        }
        let urls = other_urls(context.url, hosts);
        let hints = Hints { other_secrets: &|| self.secrets.all(), urls: &urls };
        match explain(failure, verification, request, context, &hints) {
            Some(found) => format!("{}; {found}", failure.detail),
            None => failure.detail.clone(),
        }
    }
}

/// What the engine learns of a request whose client has shown a token of the API.
pub(in crate::web) fn trusted_arrival(
    settings: &WebhookSettings,
    request: &Request,
) -> Result<Arrival, Refusal> {
    let arrival = named_arrival(settings, request)?;
    Ok(Arrival { verified_by: Some(Verifier::Token), ..arrival })
}

/// What the engine learns of a request that names its event, and no signature has to vouch for that.
fn named_arrival(settings: &WebhookSettings, request: &Request) -> Result<Arrival, Refusal> {
    let presented = presented(request);
    let checks = settings.verify.as_ref().map_or(&[][..], Verification::checks);
    arrival(Named::claimed(checks, &presented), false, true, settings, &presented)
}

fn presented(request: &Request) -> Presented<'_> {
    Presented { query: &request.query, headers: &request.headers, body: &request.body }
}

/// The head without the credentials that `verification` asks for: a vessel that needs one is given the
/// secret.
pub(in crate::web) fn stored_head(
    request: &Request,
    verification: Option<&Verification>,
) -> RequestHead {
    let credentials: Vec<_> =
        verification.into_iter().flat_map(Verification::credentials).collect();
    let headers = credentials.iter().filter_map(|credential| match credential {
        Credential::Header(name) => Some(*name),
        Credential::Bearer | Credential::Basic => Some("Authorization"),
        Credential::Query(_) | Credential::ClientState => None,
    });
    let mut head = request.stored_head(&headers.collect::<Vec<_>>());
    for credential in &credentials {
        if let Credential::Query(name) = credential {
            head.query = form::without(&head.query, name);
        }
    }
    head
}

fn answer(step: Step, verified_by: Option<Verifier>) -> Result<Judged, Refusal> {
    match step {
        Step::Answer(response) => Ok(Judged::Handshake(response, verified_by)),
        Step::Refuse(why) => Err(Refusal::new(Reason::HandshakeMismatch, why)),
        Step::Store(name, value) => Ok(Judged::BringsSecret(name, value)),
    }
}

/// The refusal of a handshake whose secret is not kept.
pub(super) fn not_kept(error: &HandshakeError) -> Refusal {
    match error {
        HandshakeError::Unexpected => Refusal::new(
            Reason::HandshakeMismatch,
            format!(
                "{error}: open the webhook for one with `boathook webhook handshake FLEET`, or on the \
                 page of the fleet (Triggers, Sender), and create the webhook at the provider again"
            ),
        ),
        // The window is used up; the provider may not try again.
        HandshakeError::NotKept(why) => Refusal::new(
            Reason::SecretMissing,
            format!(
                "the secret of a handshake is not kept: {why}; open the webhook for another handshake"
            ),
        ),
    }
}

/// The URL of `request` as its owner knows it.
fn url(public_base: &str, request: &Request) -> String {
    let (base, path) = (public_base.trim_end_matches('/'), &request.path);
    match request.query.as_str() {
        "" => format!("{base}{path}"),
        query => format!("{base}{path}?{query}"),
    }
}

/// The hosts by which the sender may have called.
fn request_hosts(request: &Request) -> Vec<&str> {
    let host = |name| std::str::from_utf8(request.header(name)?).ok();
    ["Host", "X-Forwarded-Host"].into_iter().filter_map(host).collect()
}

/// What the engine learns of a request that names its event. `has_signed_id`: a signature covers the header
/// with the id. `is_credential`: there is no signature. Who has a credential can make any request; a
/// signature is seen and sent again.
fn arrival(
    named: Named,
    has_signed_id: bool,
    is_credential: bool,
    settings: &WebhookSettings,
    request: &Presented<'_>,
) -> Result<Arrival, Refusal> {
    let Named { event, is_in_body } = named;
    let deduplicate = match settings.deduplicate.own_id() {
        Some(id) => memory(settings, request, id.reads_only_payload() || is_credential)?,
        None if event.id().is_none() => None,
        None => memory(settings, request, is_in_body || has_signed_id || is_credential)?,
    };
    Ok(Arrival { event, deduplicate, ..Arrival::default() })
}

/// How the event of a request is remembered; `None`: it is not.
fn memory(
    settings: &WebhookSettings,
    request: &Presented<'_>,
    id_is_signed: bool,
) -> Result<Option<Deduplicate>, Refusal> {
    let Some(window) = settings.deduplicate.window() else { return Ok(None) };
    let body = BodyHash::of(&mut request.body.open()).map_err(AcceptError::Read)?;
    Ok(Some(Deduplicate { window, body, id_is_signed }))
}

/// The event that a request names, and whether its id stands in the body.
struct Named {
    event: Event,
    is_in_body: bool,
}

impl Named {
    /// As the last of `checks` finds it that finds an id, else as the last one.
    fn claimed(checks: &[Check], request: &Presented<'_>) -> Self {
        let mut found = checks.iter().rev().map(|check| Self::find(check, None, request));
        let Some(last) = found.next() else {
            return Self { event: Event::default(), is_in_body: false };
        };
        match last.event.id() {
            Some(_) => last,
            None => found.find(|other| other.event.id().is_some()).unwrap_or(last),
        }
    }

    /// As `check` finds it. `signed_id` is the header with the id that the signature covers.
    fn find(check: &Check, signed_id: Option<&str>, request: &Presented<'_>) -> Self {
        let ids = signed_id.map_or_else(|| check.event_id(), |header| vec![Place::Header(header)]);
        let kinds = check.event_type();
        let paths = ids.iter().chain(&kinds).filter_map(|place| match place {
            Place::Body(path) => Some(*path),
            Place::Header(_) => None,
        });
        let paths: Vec<_> = paths.collect();
        let found = fields::fields(request.body.open(), &paths);
        let text = |place: &Place<'_>| match place {
            Place::Header(name) => request.text(name).map(|text| text.into_owned()),
            Place::Body(path) => {
                let index = paths.iter().position(|known| known == path)?;
                found.get(index).cloned().flatten()
            }
        };
        let id = ids.iter().find_map(|place| Some((text(place)?, place)));
        let kind = kinds.iter().find_map(text);
        let preset = check.preset().map(|preset| preset.name);
        let is_in_body = matches!(id, Some((_, Place::Body(_))));
        let id = id.map(|(text, _)| text);
        Self { event: Event::new(preset, id.as_deref(), kind.as_deref()), is_in_body }
    }
}
