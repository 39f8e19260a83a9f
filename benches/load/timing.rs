//! How long the verifier takes over a signature whose first byte is wrong, against one whose last byte is,
//! and over a secret of another length. No difference may be measured: it would tell a stranger how much
//! of a guess is right.

use std::hint::black_box;
use std::time::{Duration, Instant};

use boathook::internals::Timestamp;
use boathook::internals::senders::{
    Algorithm, Check, Context, Key, KeyForm, Outcome, PRESETS, Presented, Verification, verify,
};

use crate::client::body;
use crate::percentile;

const SECRET: &str = "It's a Secret to Everybody";
/// Measurements of each kind, taken by turns, each of so many requests.
const MEASUREMENTS: usize = 2_000;
const REQUESTS: usize = 20;

pub fn run() {
    let body = body();
    let key = Key::new(Algorithm::HmacSha256, KeyForm::Text, SECRET).expect("a key");
    let mut code = key.begin();
    code.update(&body);
    let code = code.sign().expect("it signs");
    let hex = |code: &[u8]| code.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signature = |wrong: usize| {
        let mut code = code.clone();
        code[wrong] ^= 1;
        vec![("X-Hub-Signature-256".to_owned(), format!("sha256={}", hex(&code)).into_bytes())]
    };
    compare("github, first and last byte", "github", &body, [signature(0), signature(31)]);

    let bearer =
        |token: String| vec![("Authorization".to_owned(), format!("Bearer {token}").into_bytes())];
    let last = SECRET.len() - 1;
    let (first, last) = (format!("X{}", &SECRET[1..]), format!("{}X", &SECRET[..last]));
    compare("bearer, first and last byte", "bearer", &body, [bearer(first), bearer(last)]);
}

/// Measures the two kinds of request by turns, twice: each against the other, and against itself.
fn compare(what: &str, preset: &str, body: &Vec<u8>, headers: [Vec<(String, Vec<u8>)>; 2]) {
    let [first, last] = &headers;
    let against = |one, other| medians(preset, body, one, other);
    let (left, right) = against(first, last);
    let (same, again) = against(first, first);
    let nanos = |duration: Duration| duration.as_secs_f64() * 1e9 / REQUESTS as f64;
    let (left, right, same, again) = (nanos(left), nanos(right), nanos(same), nanos(again));
    println!(
        "{what:<28} {left:.0} ns and {right:.0} ns: {:+.2} %   the same twice: {:+.2} %   (as far apart)",
        (right / left - 1.0) * 100.0,
        (again / same - 1.0) * 100.0
    );
}

fn medians(
    preset: &str,
    body: &Vec<u8>,
    one: &[(String, Vec<u8>)],
    other: &[(String, Vec<u8>)],
) -> (Duration, Duration) {
    let preset = PRESETS.iter().find(|it| it.name == preset).expect("a preset");
    let name = "S".to_owned().try_into().expect("a name");
    let check = Check::of_preset(preset, vec![name]);
    let verification = Verification::new(vec![check]).expect("a check");
    let context = Context {
        now: Timestamp::from_millis(1_700_000_000_000),
        url: "https://hooks.example.com/hooks/t",
        secret: &|_| Ok(SECRET.to_owned()),
    };
    let measure = |headers: &[(String, Vec<u8>)]| {
        let request = Presented { query: "", headers, body };
        let begin = Instant::now();
        for _ in 0..REQUESTS {
            let outcome = verify(&verification, black_box(&request), &context);
            assert!(matches!(black_box(outcome), Outcome::Refused(_)));
        }
        begin.elapsed()
    };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for number in 0..MEASUREMENTS {
        // By turns, so that what the machine does meanwhile falls on both.
        if number % 2 == 0 {
            left.push(measure(one));
            right.push(measure(other));
        } else {
            right.push(measure(other));
            left.push(measure(one));
        }
    }
    (percentile(&mut left, 50), percentile(&mut right, 50))
}
