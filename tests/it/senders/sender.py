"""Sends to a server what providers would send, right and wrong, and says where it was answered otherwise
than it should.

The first line of standard output has the senders and their secrets. Standard input has a line of JSON for
each: its name, the URL to call and the URL that its owner knows. The last line of output has what failed.
Signatures are made from the providers' documentation with Python's hmac and with openssl.
"""

import base64
import hashlib
import hmac
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse

NEW, OLD = "the new secret", "it's an older one: ü"
UNIQUE = itertools.count()
failures = []
requests = 0


def b64(data):
    return base64.b64encode(data).decode()


def mac(key, data, algorithm="sha256"):
    return hmac.new(key if isinstance(key, bytes) else key.encode(), data, algorithm)


def openssl_key(kind):
    """A key's file, and its public half in DER."""
    path = tempfile.mktemp()
    arguments = {"ed25519": ["ED25519"], "ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}[kind]
    subprocess.run(["openssl", "genpkey", "-algorithm", *arguments, "-out", path], check=True, capture_output=True)
    public = ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"]
    return path, subprocess.run(public, check=True, capture_output=True).stdout


def openssl_sign(kind, key, data):
    message = tempfile.NamedTemporaryFile()
    message.write(data)
    message.flush()
    if kind == "ec":
        command = ["openssl", "dgst", "-sha256", "-sign", key, message.name]
    else:
        command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", message.name]
    return subprocess.run(command, check=True, capture_output=True).stdout


ED25519, ED25519_PUBLIC = openssl_key("ed25519")
EC, EC_PUBLIC = openssl_key("ec")


class Sender:
    """One provider. `sign(secret, request)` adds the headers that show who sends."""

    def __init__(self, sign, signature=None, timestamp=None, secrets=(NEW, OLD), body=None,
                 id_header=None, kind=None, more=None):
        self.sign, self.signature, self.timestamp = sign, signature, timestamp
        self.secrets, self.body, self.id_header = secrets, body, id_header
        self.kind, self.more = kind, more


class Request:
    def __init__(self, public, number, now=None):
        self.public, self.query, self.now = public, "", time.time() if now is None else now
        self.id = f"id-{number}"
        self.headers = {}
        self.body = json.dumps({
            "id": self.id, "event_id": self.id, "type": "made", "event_type": "made", "n": number,
            "event": {"id": self.id, "type": "made", "event_type": "made"}, "eventId": self.id,
            "webhook_metadata": {"event": {"id": self.id}}, "action": {"id": self.id},
            "webhookTimestamp": int(self.now * 1000), "topic": "made",
        }).encode()

    def url(self):
        return self.public + ("?" + self.query if self.query else "")

    def seconds(self):
        return str(int(self.now))


def plain(header, prefix="", algorithm="sha256", encode="hex"):
    """A code of the body alone."""
    def sign(secret, request):
        code = mac(secret, request.body, algorithm)
        text = code.hexdigest() if encode == "hex" else b64(code.digest())
        request.headers[header] = prefix + text
    return sign


def stamped(header, stamp, template, prefix=""):
    """A code of the time and the body."""
    def sign(secret, request):
        request.headers[stamp] = request.seconds()
        content = template.encode().replace(b"TS", request.seconds().encode()).replace(b"BODY", request.body)
        request.headers[header] = prefix + mac(secret, content).hexdigest()
    return sign


def stripe(secret, request):
    code = mac(secret, request.seconds().encode() + b"." + request.body).hexdigest()
    request.headers["Stripe-Signature"] = f"t={request.seconds()},v1={code}"


def paddle(secret, request):
    code = mac(secret, request.seconds().encode() + b":" + request.body).hexdigest()
    request.headers["Paddle-Signature"] = f"ts={request.seconds()};h1={code}"


def standard(prefix):
    def sign(secret, request):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{request.id}.{request.seconds()}.".encode() + request.body
        request.headers[f"{prefix}-id"] = request.id
        request.headers[f"{prefix}-timestamp"] = request.seconds()
        request.headers[f"{prefix}-signature"] = "v1," + b64(mac(key, content).digest())
    return sign


def twitch(secret, request):
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(request.now))
    request.headers["Twitch-Eventsub-Message-Timestamp"] = moment
    request.headers["Twitch-Eventsub-Message-Id"] = request.id
    content = request.id.encode() + moment.encode() + request.body
    request.headers["Twitch-Eventsub-Message-Signature"] = "sha256=" + mac(secret, content).hexdigest()


def twilio(secret, request):
    fields = [("To", "+1 (5) ü"), ("From", "+2"), ("Body", "a&b=c %"), ("n", request.id)]
    request.body = urllib.parse.urlencode(fields).encode()
    request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    content = request.url() + "".join(name + value for name, value in sorted(fields))
    request.headers["X-Twilio-Signature"] = b64(mac(secret, content.encode(), "sha1").digest())
    request.headers["I-Twilio-Idempotency-Token"] = request.id


def square(secret, request):
    code = mac(secret, request.url().encode() + request.body)
    request.headers["x-square-hmacsha256-signature"] = b64(code.digest())


def trello(secret, request):
    code = mac(secret, request.body + request.url().encode(), "sha1")
    request.headers["X-Trello-Webhook"] = b64(code.digest())


def gitea(header):
    def sign(secret, request):
        # As the content type application/x-www-form-urlencoded has it: `payload` is signed.
        if int(request.id.rsplit("-", 1)[1]) % 2:
            request.headers["Content-Type"] = "application/x-www-form-urlencoded"
            code = mac(secret, request.body)
            request.body = b"payload=" + urllib.parse.quote_plus(request.body).encode()
        else:
            code = mac(secret, request.body)
        request.headers[header] = code.hexdigest()
    return sign


def discord(_, request):
    request.headers["X-Signature-Timestamp"] = request.seconds()
    code = openssl_sign("ed25519", ED25519, request.seconds().encode() + request.body)
    request.headers["X-Signature-Ed25519"] = code.hex()


def sendgrid(_, request):
    stamp = request.headers["X-Twilio-Email-Event-Webhook-Timestamp"] = request.seconds()
    code = openssl_sign("ec", EC, stamp.encode() + request.body)
    request.headers["X-Twilio-Email-Event-Webhook-Signature"] = b64(code)


def credential(header, write=lambda secret: secret):
    def sign(secret, request):
        request.headers[header] = write(secret)
    return sign


def query(secret, request):
    request.query = "a=b&key=" + urllib.parse.quote(secret) + "&c=d"


def client_state(secret, request):
    request.body = json.dumps({"value": [{"clientState": secret, "n": request.id}, {"clientState": secret}]}).encode()


ASCII = ("the-new-secret", "the:older/secret=")
WHSEC = ("whsec_" + b64(b"0123456789abcdef01234567"), "whsec_" + b64(b"fedcba98765432100"))
SENDERS = {
    "asana": Sender(plain("X-Hook-Signature"), "X-Hook-Signature"),
    "basic": Sender(credential("Authorization", lambda it: "Basic " + b64(it.encode())), secrets=("me:pass", "you:a:b ü")),
    "bearer": Sender(credential("Authorization", lambda it: "Bearer " + it), secrets=ASCII),
    "bitbucket": Sender(plain("X-Hub-Signature", "sha256="), "X-Hub-Signature", id_header="X-Request-UUID"),
    "circleci": Sender(plain("circleci-signature", "v1="), "circleci-signature", id_header=""),
    "discord": Sender(discord, secrets=(ED25519_PUBLIC[-32:].hex(),) * 2, kind="slow", signature="X-Signature-Ed25519", id_header=""),
    "dropbox": Sender(plain("X-Dropbox-Signature"), "X-Dropbox-Signature"),
    "forgejo": Sender(gitea("X-Forgejo-Signature"), "X-Forgejo-Signature", id_header="X-Forgejo-Delivery"),
    "gitea": Sender(gitea("X-Gitea-Signature"), "X-Gitea-Signature", id_header="X-Gitea-Delivery"),
    "github": Sender(plain("X-Hub-Signature-256", "sha256="), "X-Hub-Signature-256", id_header="X-GitHub-Delivery"),
    "gitlab": Sender(credential("X-Gitlab-Token"), secrets=ASCII, id_header="X-Gitlab-Event-UUID"),
    "grafana": Sender(plain("X-Grafana-Alerting-Signature"), "X-Grafana-Alerting-Signature"),
    "header": Sender(credential("X-Key"), secrets=ASCII),
    "heroku": Sender(plain("Heroku-Webhook-Hmac-SHA256", encode="b64"), "Heroku-Webhook-Hmac-SHA256", id_header=""),
    "intercom": Sender(plain("X-Hub-Signature", "sha1=", "sha1"), "X-Hub-Signature", id_header=""),
    "linear": Sender(plain("Linear-Signature"), "Linear-Signature", id_header="Linear-Delivery"),
    "mailchimp": Sender(lambda secret, request: None, kind="open"),
    "meta": Sender(plain("X-Hub-Signature-256", "sha256="), "X-Hub-Signature-256"),
    "microsoft-graph": Sender(client_state, kind="body"),
    "monday": Sender(lambda secret, request: None, kind="open"),
    "okta": Sender(credential("Authorization"), secrets=ASCII, id_header=""),
    "paddle": Sender(paddle, "Paddle-Signature", id_header=""),
    "pagerduty": Sender(plain("X-PagerDuty-Signature", "v1="), "X-PagerDuty-Signature", id_header=""),
    "query": Sender(query, kind="query", secrets=ASCII),
    "sendgrid": Sender(sendgrid, "X-Twilio-Email-Event-Webhook-Signature", secrets=(b64(EC_PUBLIC),) * 2, kind="slow"),
    "sentry": Sender(plain("Sentry-Hook-Signature"), "Sentry-Hook-Signature", id_header="Request-ID"),
    "shopify": Sender(plain("X-Shopify-Hmac-Sha256", encode="b64"), "X-Shopify-Hmac-Sha256", id_header="X-Shopify-Webhook-Id"),
    "slack": Sender(stamped("X-Slack-Signature", "X-Slack-Request-Timestamp", "v0:TS:BODY", "v0="), "X-Slack-Signature",
                    "X-Slack-Request-Timestamp", id_header=""),
    "square": Sender(square, "x-square-hmacsha256-signature", id_header=""),
    "standard-webhooks": Sender(standard("webhook"), "webhook-signature", "webhook-timestamp", WHSEC, id_header=""),
    "stripe": Sender(stripe, "Stripe-Signature", id_header=""),
    "trello": Sender(trello, "X-Trello-Webhook", id_header=""),
    "twilio": Sender(twilio, "X-Twilio-Signature", id_header=""),
    "twitch": Sender(twitch, "Twitch-Eventsub-Message-Signature", "Twitch-Eventsub-Message-Timestamp", id_header=""),
    "typeform": Sender(plain("Typeform-Signature", "sha256=", encode="b64"), "Typeform-Signature", id_header=""),
    "vercel": Sender(plain("x-vercel-signature", "", "sha1"), "x-vercel-signature", id_header=""),
    "woocommerce": Sender(plain("X-WC-Webhook-Signature", encode="b64"), "X-WC-Webhook-Signature",
                          id_header="X-WC-Webhook-Delivery-ID"),
    "zoom": Sender(stamped("x-zm-signature", "x-zm-request-timestamp", "v0:TS:BODY", "v0="), "x-zm-signature",
                   "x-zm-request-timestamp"),
}
# The preset under its second form.
SENDERS["gitlab, newer"] = Sender(standard("webhook"), "webhook-signature", "webhook-timestamp", WHSEC, id_header="")
SENDERS["standard-webhooks, svix"] = Sender(standard("svix"), "svix-signature", "svix-timestamp", WHSEC, id_header="")


class Provider:
    def __init__(self, name, spec):
        self.name, self.sender = name, SENDERS[name]
        self.url, self.public = urllib.parse.urlsplit(spec["url"]), spec["public"]
        self.connection = http.client.HTTPConnection(self.url.netloc)

    def request(self, secret=None, now=None):
        request = Request(self.public, next(UNIQUE), now)
        if self.sender.id_header:
            request.headers[self.sender.id_header] = request.id
        self.sender.sign(secret or self.sender.secrets[0], request)
        return request

    def send(self, request, method="POST"):
        global requests
        requests += 1
        try:
            return self.exchange(request, method)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            # A connection that was kept too long, on a busy machine.
            self.connection.close()
            return self.exchange(request, method)

    def exchange(self, request, method):
        path = self.url.path + ("?" + request.query if request.query else "")
        self.connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in request.headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.connection.putheader(name, one.encode() if isinstance(one, str) else one)
        self.connection.putheader("Content-Length", str(len(request.body)))
        self.connection.endheaders(request.body)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def expect(self, what, status, request, method="POST"):
        found, headers, body = self.send(request, method)
        if found != status:
            failures.append(f"{self.name}: {what}: {found} instead of {status}")
        if found == 401 and (headers["Boathook-Duplicate"] or json.loads(body)["data"] is not None):
            failures.append(f"{self.name}: {what}: the 401 tells more than it should")
        return headers, body

    def check(self):
        self.right()
        if self.sender.kind != "open":
            self.wrong()
        if self.sender.timestamp or self.name in ("stripe", "paddle", "linear"):
            self.ages()

    def right(self):
        first = self.request()
        _, body = self.expect("right", 201, first)
        if self.sender.id_header is not None:
            headers, again = self.expect("delivered again", 200, first)
            if headers["Boathook-Duplicate"] != "true" or json.loads(again)["data"] != json.loads(body)["data"]:
                failures.append(f"{self.name}: a duplicate does not answer with the ids of the first run")
        self.expect("with the second secret", 201, self.request(self.sender.secrets[1]))
        for size in (0, 70_000) if self.sender.kind is None else ():
            if self.name == "linear" or self.name.startswith("twilio"):
                continue
            request = Request(self.public, next(UNIQUE))
            request.body = b"" if not size else bytes(range(256)) * (size // 256) + request.id.encode()
            self.sender.sign(self.sender.secrets[0], request)
            self.expect(f"{size} bytes", 201, request)

    def wrong(self):
        sender = self.sender
        if sender.kind in (None, "slow") and sender.signature is None:
            name = "Authorization" if "Authorization" in self.request().headers else next(
                header for header in self.request().headers if header != sender.id_header)
        else:
            name = sender.signature
        if name:
            self.header(name)
        request = self.request("another secret" if not sender.secrets[0].startswith("whsec_") else "whsec_YWJj")
        if sender.kind != "slow":
            self.expect("another secret", 401, request)
        if sender.kind == "query":
            request = self.request()
            request.query += "&key=" + urllib.parse.quote(sender.secrets[0])
            self.expect("the parameter twice", 401, request)
        if sender.signature:
            request = self.request()
            for place in range(0, len(request.body), 7 if sender.kind == "slow" else 1):
                body = request.body
                changed = self.copy(request)
                changed.body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1:]
                self.expect(f"byte {place} of the body", 401, changed)
            longer = self.copy(request)
            longer.body += b" " if b"payload=" not in request.body[:8] else b"x"
            self.expect("a longer body", 401, longer)

    def copy(self, request):
        copy = Request(self.public, 0)
        copy.__dict__.update(request.__dict__)
        copy.headers = dict(request.headers)
        return copy

    def header(self, name):
        request = self.request()
        value = request.headers[name]
        for what, changed in (("missing", None), ("empty", ""), ("twice", [value, value]), ("long", value + "0" * 9000),
                              ("blank", " "), ("no text", b"\xff\xfe\x80"), ("a prefix alone", value[:4]),
                              ("not of the encoding", value[:-4] + "\u00e4!~ "), ("cut", value[:-1])):
            other = self.copy(request)
            if changed is None:
                del other.headers[name]
            else:
                other.headers[name] = changed if not isinstance(changed, str) else changed.encode()
            self.expect(f"{name} {what}", 401, other)
        for place in range(len(value)):
            old = value[place]
            new = "1" if old == "0" else "0"
            other = self.copy(request)
            other.headers[name] = value[:place] + new + value[place + 1:]
            self.expect(f"{name}, letter {place}", 401, other)

    def ages(self):
        tolerance = {"twitch": 600, "linear": 60}.get(self.name, 300)
        now = time.time()
        for what, moment in (("old", now - tolerance - 30), ("ahead", now + tolerance + 30), ("1970", 0),
                             ("in the year 30000", 884_541_351_600), ("negative", -5)):
            if self.name == "twitch" and moment > 1e11:
                continue
            self.expect(f"signed {what}", 401, self.request(now=moment))
        self.expect("signed almost too long ago", 201, self.request(now=now - tolerance + 30))
        stamp = self.sender.timestamp
        if stamp:
            for what, text in (("no number", "now"), ("empty", ""), ("fraction", "1.5"), ("signed", "+17"),
                               ("milliseconds", str(int(now * 1000))), ("huge", "9" * 40)):
                request = self.request()
                request.headers[stamp] = text
                self.expect(f"a timestamp that is {what}", 401, request)


def second_signatures(providers):
    """Several signatures of one header: one has to fit."""
    for name, divider, other in (("stripe", ",", "v1=" + "0" * 64), ("stripe", ",", "v0=" + "0" * 63), ("paddle", ";", "h1=" + "0" * 64),
                                 ("pagerduty", ",", "v1=" + "0" * 64), ("circleci", ",", "v1=" + "0" * 64),
                                 ("standard-webhooks", " ", "v1," + b64(b"0" * 32))):
        provider = providers[name]
        for order in (0, 1):
            request = provider.request()
            header = provider.sender.signature
            both = [request.headers[header], other]
            request.headers[header] = divider.join(both if order else both[::-1])
            provider.expect("with a second signature", 201, request)


def handshakes(providers):
    def exchange(name, method, request, status, content=None, kind=None, **headers):
        provider = providers[name]
        found, got, body = provider.send(request, method)
        wrong = found != status or (content is not None and body != content)
        wrong |= kind is not None and not got.get("Content-Type", "").startswith(kind)
        wrong |= any(got.get(key.replace("_", "-")) != value for key, value in headers.items())
        if wrong:
            failures.append(f"{name}: handshake by {method}: {found} {dict(got)} {body!r}")

    def made(name, body=b"", query="", sign=False, **headers):
        provider = providers[name]
        request = Request(provider.public, next(UNIQUE))
        request.body, request.query = body, query
        request.headers.update({key.replace("_", "-"): value for key, value in headers.items()})
        if sign:
            provider.sender.sign(provider.sender.secrets[0], request)
        return request

    slack = b'{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}'
    exchange("slack", "POST", made("slack", slack, sign=True), 200,
             b'{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}', "application/json")
    exchange("slack", "POST", made("slack", slack), 401)
    zoom = b'{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}'
    encrypted = mac(NEW, b"qgg8vlvZRS6UYooatFL8Aw").hexdigest()
    exchange("zoom", "POST", made("zoom", zoom, sign=True), 200,
             json.dumps({"encryptedToken": encrypted, "plainToken": "qgg8vlvZRS6UYooatFL8Aw"},
                        separators=(",", ":")).encode(), "application/json")
    exchange("zoom", "POST", made("zoom", zoom), 401)
    meta = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + urllib.parse.quote(OLD)
    exchange("meta", "GET", made("meta", query=meta), 200, b"1158201444", "text/plain")
    exchange("meta", "GET", made("meta", query=meta + "x"), 403)
    exchange("meta", "GET", made("meta", query="hub.mode=subscribe&hub.challenge=1"), 403)
    exchange("meta", "GET", made("meta"), 405)
    exchange("meta", "PUT", made("meta"), 405)
    exchange("microsoft-graph", "POST", made("microsoft-graph", query="validationToken=Validation%3A+a%26b"), 200,
             b"Validation: a&b", "text/plain")
    ping = b'{"type":1,"application_id":"1"}'
    exchange("discord", "POST", made("discord", ping, sign=True), 200, b'{"type":1}', "application/json")
    exchange("discord", "POST", made("discord", ping), 401)
    exchange("discord", "POST", made("discord", b'{"version":1,"type":0}', sign=True), 204, b"")
    twitch = made("twitch", b'{"challenge":"pogchamp-kappa-360noscope-vohiyo"}', sign=True,
                  Twitch_Eventsub_Message_Type="webhook_callback_verification")
    exchange("twitch", "POST", twitch, 200, b"pogchamp-kappa-360noscope-vohiyo", "text/plain")
    exchange("twitch", "POST", made("twitch", b"{}", sign=True, Twitch_Eventsub_Message_Type="revocation"), 204)
    exchange("dropbox", "GET", made("dropbox", query="challenge=abc123"), 200, b"abc123", "text/plain",
             X_Content_Type_Options="nosniff")
    exchange("monday", "POST", made("monday", b'{"challenge":"3eZbrw"}'), 200, b'{"challenge":"3eZbrw"}')
    exchange("okta", "GET", made("okta", x_okta_verification_challenge="my challenge"), 200,
             b'{"verification":"my challenge"}', "application/json")
    for name in ("trello", "mailchimp"):
        exchange(name, "HEAD", made(name), 200, b"")
        exchange(name, "GET", made(name), 200, b"")
    exchange("asana", "POST", made("asana", X_Hook_Secret="s"), 403)
    exchange("github", "GET", made("github"), 405, Allow="POST")


def main():
    print(json.dumps([{"name": name, "secrets": sender.secrets} for name, sender in SENDERS.items()]), flush=True)
    specs = {spec["name"]: spec for spec in map(json.loads, sys.stdin)}
    if not specs:
        return
    providers = {name: Provider(name, spec) for name, spec in specs.items()}
    for provider in providers.values():
        provider.check()
    second_signatures(providers)
    handshakes(providers)
    print(json.dumps({"requests": requests, "failures": failures}))


main()
