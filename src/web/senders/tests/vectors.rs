//! Signatures that others have made: the providers' documentation, and Python's `cryptography` for public
//! keys.

use super::{World, draft};
use crate::model::clock::Timestamp;
use crate::model::refusal::Reason;
use crate::web::senders::sign::Draft;

#[test]
fn published_hmac_vectors_are_verified() {
    let github = World::new(r#"{"preset":"github","secret":"S"}"#, "It's a Secret to Everybody");
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let right = draft(&[("x-hub-signature-256", signature)], "Hello, World!");
    assert_eq!(github.judge(&right), Ok(()));
    github.refuses(
        &draft(&[("X-Hub-Signature-256", signature)], "Hello, World"),
        Reason::SignatureMismatch,
    );

    let bitbucket =
        World::new(r#"{"preset":"bitbucket","secret":"S"}"#, "It's a Secret to Everybody");
    let signature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
    assert_eq!(bitbucket.judge(&draft(&[("X-Hub-Signature", signature)], "Hello World!")), Ok(()));

    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut standard = World::new(r#"{"preset":"standard-webhooks","secret":"S"}"#, secret);
    standard.now = Timestamp::from_millis(1_614_265_330_000);
    for prefix in ["webhook", "svix"] {
        let headers = [
            (&*format!("{prefix}-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            (&*format!("{prefix}-timestamp"), "1614265330"),
            (
                &*format!("{prefix}-signature"),
                "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= \
                 v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ];
        assert_eq!(standard.judge(&draft(&headers, r#"{"test": 2432232314}"#)), Ok(()));
    }
}

#[test]
fn published_vectors_over_urls_are_verified() {
    let square = World::new(r#"{"preset":"square","secret":"S"}"#, "asdf1234");
    let signature = "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og=";
    let request = draft(&[("x-square-hmacsha256-signature", signature)], r#"{"hello":"world"}"#);
    assert_eq!(square.judge_at("https://example.com/webhook", &request), Ok(()));
    let other = square.judge_at("http://example.com/webhook", &request);
    assert!(other.is_err_and(|why| why.starts_with("SignatureMismatch")));

    let twilio = World::new(r#"{"preset":"twilio","secret":"S"}"#, "12345");
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let form = "Digits=1234&CallSid=CA1234567890ABCDE&To=%2B18005551212&Caller=%2B14158675309&\
                From=%2B14158675309";
    let headers = [
        ("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"),
    ];
    let query = "foo=1&bar=2".to_owned();
    let request = Draft { query: query.clone(), ..draft(&headers, form) };
    assert_eq!(twilio.judge_at(url, &request), Ok(()));
    // JSON is covered by its hash in the URL alone.
    let json = Draft { query, ..draft(&headers[..1], "{}") };
    let why = twilio.judge_at(url, &json).unwrap_err();
    assert!(why.contains("bodySHA256 in the URL is not the hash of the body"), "{why}");
}

#[test]
fn signatures_of_public_keys_are_verified() {
    let hex = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    let discord = World::new(r#"{"preset":"discord","secret":"S"}"#, hex);
    let signature = "c1098e97d711377f30225d53d94b89d43537f92e5b3afaddc590781b1f9f9d4b2eeab335d370\
                     be3b9a090bc61a85b86448bc140dcd195f1569c2bff181257607";
    let headers = [("X-Signature-Ed25519", signature), ("X-Signature-Timestamp", "1700000000")];
    assert_eq!(discord.judge(&draft(&headers, r#"{"type":1}"#)), Ok(()));
    discord.refuses(&draft(&headers, r#"{"type":2}"#), Reason::SignatureMismatch);
    let large = draft(&headers, vec![b'x'; (1 << 20) + 1]);
    let why = discord.judge(&large).unwrap_err();
    assert!(why.contains("more than 1048576 bytes"), "{why}");

    let public = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    let standard = World::new(r#"{"preset":"standard-webhooks","secret":"S"}"#, public);
    let signature = "v1a,WwyPbMAMx6K5OKeJ6iRTn0B7eTGqbHwfUYOx1GGKqR+LJaWE5Vv8kXba0ECldNVQc/\
                     vTkU0W8qTGCVYMF8f3CA==";
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", signature),
    ];
    assert_eq!(standard.judge(&draft(&headers, r#"{"type":"a"}"#)), Ok(()));

    let der = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+evkZBR8wQLZIyTQmdknwaUOQtV6CKEW/+wKKYGdjGVwuvf\
               RKIiQKmoMHWet0QMSPIWatpv46UMck4STDUt+7g==";
    let sendgrid = World::new(r#"{"preset":"sendgrid","secret":"S"}"#, der);
    let signature = "MEUCIQDvc4p+GQkcQZL5r/2fseWLjY2oxCXjUhCmQu9pMuxnYgIgLDZfAl8F3qqXcgfyjUqoCcOg0\
                     PsYL1dcuK14dhi39gU=";
    let headers = [
        ("X-Twilio-Email-Event-Webhook-Signature", signature),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "1700000000"),
    ];
    assert_eq!(sendgrid.judge(&draft(&headers, "[{\"event\":\"open\"}]\r\n")), Ok(()));
    sendgrid.refuses(&draft(&headers, "[{\"event\":\"open\"}]\n"), Reason::SignatureMismatch);
}

#[test]
fn gitea_signs_the_payload_of_a_form() {
    // python3: hmac.new(b"key", b'{"a": "b&c"}', "sha256").hexdigest()
    let signature = "99831930012d7012719d71fe939efb9f51cb4d7d3ec615ad5f9863b7ee01994e";
    let gitea = World::new(r#"{"preset":"gitea","secret":"S"}"#, "key");
    let form =
        [("X-Gitea-Signature", signature), ("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(gitea.judge(&draft(&form, "payload=%7B%22a%22%3A+%22b%26c%22%7D")), Ok(()));
    assert_eq!(gitea.judge(&draft(&form[..1], r#"{"a": "b&c"}"#)), Ok(()));
    gitea.refuses(&draft(&form, r#"{"a": "b&c"}"#), Reason::SignatureMismatch);
    gitea.refuses(&draft(&[("X-Gitea-Signature", "")], "{}"), Reason::SignatureMissing);
}

#[test]
fn schemes_of_ones_own_are_verified() {
    let verify = r#"{"header":"X-Signature","prefix":"sha512=","signed":"{ts}.{id}.{body}","algorithm":"sha512",
        "encoding":"base64","secret":"S","timestamp":{"header":"X-Time","unit":"ms","tolerance":"5m"},
        "event_id":{"header":"X-Id"}}"#;
    // python3: b64encode(hmac.new(b"key", b"1700000000000.e1.body", "sha512").digest())
    let own = World::new(verify, "key");
    let headers = [
        (
            "X-Signature",
            "sha512=vOfHWTNt3mTxe1LIcdYuVTJX93K8prpUCmUzkVkRAo6wDW8IDFjekVZFCOCTyGzJCu++GpCip+IMq1Mudn+YBg==",
        ),
        ("X-Time", "1700000000000"),
        ("X-Id", "e1"),
    ];
    assert_eq!(own.judge(&draft(&headers, "body")), Ok(()));
    own.refuses(&draft(&headers[..2], "body"), Reason::SignatureMalformed);
}
