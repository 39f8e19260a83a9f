// The sender of a fleet's webhook: choosing the provider, its secret, and how it fares.

import { h } from "./dom.js";
import { get, post, put, request } from "./api.js";
import { masked, time } from "./format.js";
import { ask, asking, button, card, copyButton, doing, fact, field, notice, pressed, say, select, showAnswer, showOnce } from "./parts.js";
import { NAME, putSecret, random } from "./secrets.js";

const MODES = [["enforce", "Enforce: refuse what is not verified"], ["observe", "Observe: run everything, and mark what would be refused"]];

export async function sender(context, view, webhook, path) {
  const set = pressed(() => choose(context, view, webhook, path));
  if (!webhook.verify) {
    return card("Sender",
      h("p.hint", "The URL alone is the secret now. Most providers also sign what they send: then nothing runs that they have not sent, and an event that they deliver twice runs once."),
      h("p.actions", button("Name the sender", set, { kind: "primary", needs: "author" })));
  }
  const checks = [webhook.verify].flat();
  const isObserving = webhook.mode === "observe";
  const [latest, senders] = await Promise.all(
    [`/deliveries?fleet=${view.id}&limit=50`, "/senders"].map((asked) => get(asked, context.signal)));
  const known = (check) => senders.find(({ preset }) => preset === check.preset);
  const stop = asking(context, {
    title: "Stop verifying the sender?",
    text: ["Everything that comes to the URL is run then, whoever sends it."],
    action: "Stop verifying",
  }, () => save(webhook, path, { verify: null }), "The sender is not verified any more");
  const expected = webhook.handshake_until;
  const brings = checks.some((check) => known(check)?.brings_secret);
  const expect = doing(context, () => request(expected ? "DELETE" : "POST", `${path}/handshake`));
  const sample = pressed(async () => {
    const sent = await post(`${path}/send`);
    await showAnswer(context, sent);
    if (!sent.fleet_run_id) await context.reload();
  });
  return card("Sender",
    expected ? notice("info", h("strong", "Create the webhook at the provider now. "),
      "The secret that its handshake brings is kept, once, until ", time(expected), ".") : state(latest, isObserving),
    h("dl.facts",
      fact("Verifies", checks.map(described).join(" or ")),
      fact("Secret", [...new Set(checks.flatMap((check) => [check.secret ?? []].flat()))].join(", ") || "none"),
      fact("Mode", isObserving ? "observe: everything runs" : "enforce")),
    h("p.actions",
      isObserving ? button("Enforce", doing(context, () => save(webhook, path, { mode: "enforce" })), { kind: "primary", needs: "author" }) : null,
      brings ? button(expected ? "Expect no handshake" : "Expect a handshake", expect, { kind: expected ? "" : "primary", needs: "author" }) : null,
      button("Send a sample", sample, { needs: "operator" }),
      checks.length === 1 && checks[0].preset ? button("Change", set, { needs: "author" }) : null,
      button("Stop verifying", stop, { kind: "danger", needs: "author" })),
    webhook.url ? guide(known(checks[0])?.guide, webhook.url, null) : null);
}

// Changes what the head of the webhook decides, and leaves what has a form of its own.
const save = ({ allow, rate_limit }, path, change) => put(path, { allow, rate_limit, ...change });

const described = (check) => check.preset ?? `${check.signed} in ${check.header}`;

// How the sender fares, by its latest requests.
function state(latest, isObserving) {
  const marked = latest.filter((it) => it.reason && !it.verified_by && it.verdict !== "refused");
  const [last] = latest;
  if (!last) return notice("info", "Waiting for the first event.");
  if (isObserving && marked.length) {
    return notice("warn", h("strong", `Enforcing would have refused ${marked.length} of the latest ${latest.length} requests. `),
      "The last one ", time(marked[0].received_at), ": ", marked[0].detail ?? marked[0].reason);
  }
  const failed = latest.find(({ status, reason }) => [401, 403].includes(status) || reason === "secret_missing");
  const good = latest.find((it) => it.verified_by === "sender");
  if (failed && (!good || good.received_at < failed.received_at)) {
    return notice("error", h("strong", "Failing "), time(failed.received_at), ": ", failed.detail ?? failed.reason);
  }
  if (!good) return notice("warn", "The latest request was not verified: ", last.detail ?? last.reason ?? last.verdict);
  return notice("done", h("strong", "Verified "), time(good.received_at), good.event_type ? `: ${good.event_type}` : "");
}

// What to type at the provider; `secret` is its value while that is known.
function guide(known, url, secret) {
  if (!known) return null;
  const value = (kind) => {
    if (kind === "url") return [h("code", masked(url)), " ", copyButton(url, "the URL")];
    if (kind !== "secret") return [kind];
    return secret ? [h("code", secret), " ", copyButton(secret, "the secret")] : ["the value of the secret"];
  };
  return h("details.limits", { open: secret != null }, h("summary", "What to type at the provider"),
    h("p.hint", known.where),
    h("dl.facts", known.fields.map(([label, kind]) => fact(label, value(kind)))),
    known.makes ? h("p.hint", "The provider makes the secret. ", known.makes) : null,
    known.brings ? h("p.hint", known.brings) : null);
}

async function choose(context, view, webhook, path) {
  const senders = await get("/senders", context.signal);
  const [check] = [webhook.verify ?? {}].flat();
  const secrets = [check.secret ?? []].flat();
  const secretName = h("input", { name: "secret", required: true, pattern: NAME,
    value: secrets[0] });
  const value = h("textarea.mono.veiled", { name: "value", rows: 2, "data-1p-ignore": "" });
  const options = [...new Set(senders.flatMap((it) => it.options))].map((key) => {
    const input = h("input", { name: key, value: check[key] ?? "" });
    return [key, input, field(key === "name" ? "Header or parameter" : key.replace("_", " "), input)];
  });
  const secretField = field("Secret", secretName, "The name under which the server keeps it.");
  const valueField = field("Its value", value, "What the provider shows. Empty: the secret that is kept under this name, or a new random one.");
  const preset = select("preset", senders.map((it) => [it.preset, it.title]), check.preset ?? "github", () => adapt());
  const choice = () => senders.find((it) => it.preset === preset.value);
  const adapt = () => {
    const chosen = choice();
    secretField.hidden = !chosen.has_secret;
    valueField.hidden = secretField.hidden || chosen.brings_secret;
    secretName.required = chosen.has_secret;
    for (const [key, input, shown] of options) {
      shown.hidden = !chosen.options.includes(key);
      input.required = key === "name" && !shown.hidden;
    }
    if (!secrets[0]) secretName.value = `${preset.value.toUpperCase().replaceAll("-", "_")}_HOOK`;
  };
  adapt();
  const values = await ask({
    title: "Name the sender",
    text: ["What is not from this sender is refused. Saving makes a new version of the fleet."],
    fields: [field("Provider", preset), secretField, valueField, options.map((it) => it[2]), field("Mode", select("mode", MODES, webhook.mode))],
    action: "Save",
    isDanger: false,
  });
  if (!values) return;
  const chosen = choice();
  const kept = chosen.preset === check.preset;
  const verify = kept ? { ...check } : { preset: chosen.preset };
  let generated = null;
  if (chosen.has_secret) {
    verify.secret = [secretName.value, ...kept ? secrets.slice(1) : []];
    if (!chosen.brings_secret) generated = await keepSecret(context, secretName.value, value.value, chosen.guide?.makes);
  }
  for (const [key, input] of options) if (!input.parentNode.hidden) verify[key] = input.value || undefined;
  await save(webhook, path, { verify, mode: values.get("mode") });
  if (generated) {
    await showOnce(`${secretName.value} is set`, "the sender asks for its secret", generated, "the secret",
      guide(chosen.guide, webhook.url, generated));
  }
  await context.reload();
  say("The sender is verified from now on");
}

// Keeps the value under the name. Without one it makes one, unless there is one or the provider makes it.
async function keepSecret(context, name, value, makes) {
  if (value) {
    await putSecret(name, value);
    return null;
  }
  const kept = await get("/secrets?limit=1000", context.signal);
  if (kept.some((secret) => secret.name === name)) return null;
  if (makes) throw new Error(`The provider makes the secret. ${makes}`);
  const made = random();
  await putSecret(name, made);
  return made;
}
