//! What must hold of the headers with signatures, and of the templates of what they cover, whatever bytes
//! come in.

use boathook::internals::Timestamp;
use boathook::internals::senders::{
    Algorithm, Check, Content, Context, Encoding, Failure, Feed, Form, Hints, Key, KeyForm,
    Malformed, Outcome, PRESETS, Piece, Presented, Rule, SecretName, Template, Texts,
    TimestampPlace, Unit, Verification, explain, feed, moment, part, signatures, verify,
};

/// Signatures in one header that are read.
const SIGNATURES_MAX: usize = 16;
const SECRET: &str = "of no request that is made by chance";
/// When the requests arrive.
const NOW: i64 = 1_700_000_000_000;

const FORMS: [Form<'static>; 6] = [
    Form::Prefixed(""),
    Form::Prefixed("sha256="),
    Form::Prefixed("v0="),
    Form::Parts { separator: ',', divider: '=', key: "v1" },
    Form::Parts { separator: ' ', divider: ',', key: "v1" },
    Form::Parts { separator: ';', divider: '=', key: "h1" },
];

/// Reads headers with signatures and timestamps, by each form alone and by each preset. The first byte picks a
/// preset; each line that follows is a header that the preset reads, up to an empty one; the rest is the body.
pub fn signature(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    for form in FORMS {
        for encoding in [Encoding::Hex, Encoding::Base64] {
            check_signatures(rest, form, encoding);
        }
        check_part(rest, form, "t");
    }
    check_moment(rest);
    check_presets(usize::from(*first), rest);
}

fn check_signatures(header: &[u8], form: Form<'_>, encoding: Encoding) {
    let expected = match form {
        Form::Prefixed(prefix) => match header.strip_prefix(prefix.as_bytes()) {
            None => Err(Malformed::Absent),
            Some(text) => {
                plain_decoded(encoding, text).map(|it| vec![it]).ok_or(Malformed::Undecodable)
            }
        },
        Form::Parts { separator, divider, key } => {
            let texts = plain_parts(header, separator, divider, key);
            let decoded: Vec<_> =
                texts.iter().filter_map(|text| plain_decoded(encoding, text)).collect();
            match (texts.len(), decoded.len()) {
                _ if texts.len() > SIGNATURES_MAX => Err(Malformed::TooMany),
                (0, _) => Err(Malformed::Absent),
                (_, 0) => Err(Malformed::Undecodable),
                _ => Ok(decoded),
            }
        }
    };
    assert_eq!(signatures(header, form, encoding), expected, "{form:?} {encoding:?}");
}

fn check_part(header: &[u8], form: Form<'_>, key: &str) {
    let expected = match form {
        Form::Prefixed(_) => Err(Malformed::Absent),
        Form::Parts { separator, divider, .. } => {
            match plain_parts(header, separator, divider, key)[..] {
                [] => Err(Malformed::Absent),
                [[], ..] => Err(Malformed::Absent),
                [first] => Ok(first),
                [_, _, ..] => Err(Malformed::Twice),
            }
        }
    };
    assert_eq!(part(header, form, key), expected, "{form:?}");
}

/// The values of the parts called `key`.
fn plain_parts<'a>(header: &'a [u8], separator: char, divider: char, key: &str) -> Vec<&'a [u8]> {
    let start = [key.as_bytes(), &[divider as u8]].concat();
    let parts = header.split(|byte| *byte == separator as u8).map(<[u8]>::trim_ascii);
    parts.filter_map(|part| part.strip_prefix(&start[..])).collect()
}

/// The bytes that `text` spells in the one way that is taken; `None` for none.
fn plain_decoded(encoding: Encoding, text: &[u8]) -> Option<Vec<u8>> {
    let (alphabet, bits): (&[u8], u32) = match encoding {
        Encoding::Hex => (b"0123456789abcdef", 4),
        Encoding::Base64 => {
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6)
        }
    };
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let is_padded = match encoding {
        Encoding::Hex => padding == 0 && text.len().is_multiple_of(2),
        Encoding::Base64 => padding <= 2 && text.len().is_multiple_of(4),
    };
    let (mut bytes, mut value, mut held) = (Vec::new(), 0_u32, 0);
    for letter in &text[..text.len() - padding] {
        value = value << bits | alphabet.iter().position(|known| known == letter)? as u32;
        held += bits;
        if held >= 8 {
            held -= 8;
            bytes.push((value >> held) as u8);
            value &= (1 << held) - 1;
        }
    }
    // Bits without a byte are zero, and as many as the padding stands for.
    let is_whole = value == 0 && held as usize == 2 * padding;
    (is_padded && is_whole && !bytes.is_empty()).then_some(bytes)
}

fn check_moment(text: &[u8]) {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    for (unit, factor) in [(Unit::Seconds, 1000), (Unit::Millis, 1)] {
        let found = moment(text, unit).map(Timestamp::as_millis);
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        let expected = number.filter(|_| is_number).map(|number| {
            let last = Timestamp::from_millis(i64::MAX);
            i128::from(number).saturating_mul(factor).min(last.as_millis().into())
        });
        assert_eq!(found.map(i128::from), expected);
    }
    if let Some(told) = moment(text, Unit::Rfc3339) {
        assert_eq!(moment(told.to_string().as_bytes(), Unit::Rfc3339), Some(told));
    }
}

/// No request that is made by chance is verified, and none makes the verifier, or what explains its verdict,
/// panic.
fn check_presets(first: usize, input: &[u8]) {
    let preset = &PRESETS[first % PRESETS.len()];
    let secret: SecretName = "S".to_owned().try_into().expect("a name");
    let check = Check::of_preset(preset, vec![secret]);
    let names = names_of(&check);
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut headers = Vec::new();
    for (index, line) in lines.by_ref().take_while(|line| !line.is_empty()).enumerate() {
        headers.push((names[index % names.len()].clone(), line.to_vec()));
    }
    let query = headers.first().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let query = query.unwrap_or_default();
    let body: Vec<u8> = lines.collect::<Vec<_>>().join(&b'\n');
    let request = Presented { query: &query, headers: &headers, body: &body };
    let context = Context {
        now: Timestamp::from_millis(NOW),
        url: "https://hooks.example.com/hooks/t",
        secret: &|_| Ok(SECRET.to_owned()),
    };
    let verification = Verification::new(vec![check]).expect("a check");
    match verify(&verification, &request, &context) {
        Outcome::Verified(_) => assert!(!preset.has_secret(), "{} is verified", preset.name),
        Outcome::Refused(failure) => explained(&failure, &verification, &request, &context),
        // No secret is the public key of its preset.
        Outcome::NoSecret { .. } => {}
        Outcome::Unreadable(error) => panic!("{error}"),
    }
}

fn explained(
    failure: &Failure,
    verification: &Verification,
    request: &Presented<'_>,
    context: &Context<'_>,
) {
    let other_secrets = || vec![("OTHER".to_owned(), "another one".to_owned())];
    let urls = ["http://hooks.example.com/hooks/t".to_owned()];
    let hints = Hints { other_secrets: &other_secrets, urls: &urls };
    let found = explain(failure, verification, request, context, &hints).unwrap_or_default();
    assert!(!found.contains(SECRET) && !failure.detail.contains(SECRET), "a secret is told");
}

/// The headers that a check reads.
fn names_of(check: &Check) -> Vec<String> {
    let mut names = Vec::new();
    for rule in check.rules() {
        let Rule::Signature(scheme) = rule else { continue };
        names.push(scheme.header);
        if let Some(TimestampPlace::Header(name)) = scheme.timestamp.map(|rule| rule.place) {
            names.push(name);
        }
        names.extend(scheme.id);
    }
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.extend(["Content-Type", "Authorization"].map(str::to_owned));
    names
}

/// Reads templates, and makes what they cover. The first line is a template, the rest is the body.
pub fn template(input: &[u8]) {
    let (line, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], input[at + 1..].to_vec()),
        None => (input, Vec::new()),
    };
    let Ok(text) = std::str::from_utf8(line) else { return };
    let parsed = Template::parse(text);
    let plain = plain_pieces(text).filter(|_| text.len() <= 255);
    assert_eq!(parsed.is_ok(), plain.is_some(), "{text:?}: {parsed:?}");
    let (Ok(template), Some(plain)) = (parsed, plain) else { return };
    assert_eq!(template.as_str(), text);
    let found: Vec<Piece<'_>> = template.pieces().collect();
    assert_eq!(found, plain, "{text:?}");

    let texts = Texts { timestamp: "1700000000", id: "an id", url: "https://x/y" };
    let mut content = Vec::new();
    for piece in &plain {
        content.extend_from_slice(match piece {
            Piece::Literal(text) => text.as_bytes(),
            Piece::Timestamp => texts.timestamp.as_bytes(),
            Piece::Id => texts.id.as_bytes(),
            Piece::Url => texts.url.as_bytes(),
            _ => &body,
        });
    }
    let key = Key::new(Algorithm::HmacSha256, KeyForm::Text, SECRET).expect("a key");
    let mut whole = key.begin();
    whole.update(&content);
    let request = Presented { query: "", headers: &[], body: &body };
    let mut fed = Feed { template, texts, code: key.begin() };
    feed(Content::of(template), &request, &mut [&mut fed]).expect("the body can be read");
    assert_eq!(fed.code.sign(), whole.sign(), "{text:?} covers something else");
}

/// The parts of a template; `None`: it is none.
fn plain_pieces(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    for (index, part) in text.split('{').enumerate() {
        let literal = match index {
            0 => part,
            _ => {
                let (name, literal) = part.split_once('}')?;
                let piece = match name {
                    "body" => Piece::Body,
                    "ts" => Piece::Timestamp,
                    "id" => Piece::Id,
                    "url" => Piece::Url,
                    _ => return None,
                };
                if pieces.contains(&piece) {
                    return None;
                }
                pieces.push(piece);
                literal
            }
        };
        if literal.contains('}') {
            return None;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
    }
    pieces.contains(&Piece::Body).then_some(pieces)
}
