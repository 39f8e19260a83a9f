// What starts a fleet: its webhook (adding, copying, replacing, removing, trying out) and its schedules.

import { h } from "./dom.js";
import { data, del, found, get, may, post, put } from "./api.js";
import { masked, time } from "./format.js";
import { forecast } from "./forecast.js";
import { sender } from "./sender.js";
import { asking, button, card, copyButton, doing, empty, fact, field, given, notice, pressed, say, select, sentence, showAnswer } from "./parts.js";
import { schedules } from "./schedules.js";
import { tryIt } from "./try-it.js";

const GRACES = [["0", "No longer: it stops at once"], ["3600", "For another hour"],
  ["86400", "For another day"], ["604800", "For another week"]];
const TYPES = ["application/json", "text/plain", "application/x-www-form-urlencoded", "application/xml"]
  .map((type) => [type, type]);

export async function triggers(context, view) {
  const path = `/fleets/${view.id}/webhook`;
  const webhook = await found(get(path, context.signal));
  return [await webhookOf(context, view, webhook, path), await schedules(context, view),
    may(webhook?.verify ? "operator" : "start") ? testForm(context, view, webhook) : null];
}

async function webhookOf(context, view, webhook, path) {
  if (!webhook) {
    return empty("No webhook yet", "A webhook is a secret URL that starts this fleet. Whatever is sent there is kept safe and handed to its vessels.",
      button("Add Webhook", doing(context, () => post(path)), { kind: "primary", needs: "author" }));
  }
  const named = "verify" in webhook ? await sender(context, view, webhook, path) : null;
  return [existing(context, view, webhook, path), named,
    "when" in webhook ? tryIt(context, view, webhook.when) : null];
}

// A webhook as the roles see it that see no URL.
const withoutUrl = (webhook) => card("Webhook",
  webhook.paused_at ? notice("info", h("strong", "Paused "), time(webhook.paused_at)) : null,
  h("dl.facts", use(webhook)));

const use = ({ created_at, last_used_at }) =>
  [fact("Added", time(created_at)), fact("Last used", last_used_at ? time(last_used_at) : "never")];

function existing(context, view, webhook, path) {
  if (!webhook.url) return withoutUrl(webhook);
  const hidden = masked(webhook.url);
  const url = h("code.url", hidden);
  const examples = snippets(webhook.url);
  const reveal = button("Reveal", () => {
    const isShown = url.textContent !== hidden;
    url.textContent = isShown ? hidden : webhook.url;
    reveal.textContent = isShown ? "Reveal" : "Hide";
    examples.show(!isShown);
  });
  const replace = asking(context, {
    title: "Replace the webhook?",
    text: ["There will be a new URL. Every sender has to be told; the old URL answers 400 once it stops working."],
    fields: [field("The old URL works", select("grace", GRACES, "0"))],
    action: "Replace",
  }, (values) => post(`${path}/replace`, { grace_seconds: Number(values.get("grace")) }), "The webhook has a new URL");
  const isPaused = Boolean(webhook.paused_at);
  const pause = doing(context, () => post(`${path}/${isPaused ? "resume" : "pause"}`),
    isPaused ? "The webhook takes requests again" : "The webhook is paused");
  const remove = asking(context, {
    title: "Remove the webhook?",
    text: ["Its URL answers 400 from now on, for good: a webhook that is added later has another URL. Runs that were accepted finish."],
    action: "Remove",
  }, () => del(path), "The webhook is gone");
  return card("Webhook",
    h("div.tools.secret", url, reveal, copyButton(webhook.url, "the URL"),
      // Servers that know how to pause say when.
      "paused_at" in webhook ? button(isPaused ? "Resume" : "Pause", pause) : null,
      button("Replace", replace), button("Remove", remove, { kind: "danger" })),
    isPaused ? notice("info", h("strong", "Paused "), time(webhook.paused_at),
      ". The URL answers 503 with Retry-After until you resume the webhook. A new URL stays paused.") : null,
    notice("warn", h("strong", "Treat this URL like a password. "),
      "All who have it can start this fleet with data of their choice. Replace it if it got into the wrong hands."),
    isLocal(webhook.url) ? notice("info", "Only this machine can reach this address. For senders elsewhere, set ",
      h("code", "public_url"), " (and ", h("code", "hooks_listen"), ", unless a proxy stands in front).") : null,
    h("dl.facts", use(webhook),
      "respond" in webhook ? fact("A sender gets", answer(webhook.respond)) : null,
      given("The URL before it works until", webhook.previous?.valid_until, time)),
    examples.element,
    // Servers that know them show them.
    "allow" in webhook ? limits(context, webhook, path) : null);
}

// What `respond` of the fleet's file says.
function answer(respond) {
  if (!respond) return "201 and the ids of its run";
  if (respond.wait) {
    return [`the answer of ${respond.vessel ?? "the last vessel that has one"}, after ${respond.wait} at most; then 202`];
  }
  return [`${respond.status}, ${respond.content_type}`, respond.body ? [": ", h("code", respond.body.slice(0, 80))] : null];
}

function isLocal(url) {
  const { hostname } = new URL(url);
  return /^(localhost|127\.|0\.0\.0\.0|\[::1?\]$)/.test(hostname) || hostname.endsWith(".localhost");
}

// Ready-made ways to use `url`, which is part of them only while it is shown; copying copies it.
function snippets(url) {
  const body = '{"hello": "world"}';
  const kinds = {
    curl: ["curl", (it) => `curl -X POST '${it}' \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`],
    python: ["Python", (it) => `import json, urllib.request\n\nrequest = urllib.request.Request(\n    "${it}",\n    data=json.dumps({"hello": "world"}).encode(),\n    headers={"Content-Type": "application/json"},\n)\nprint(urllib.request.urlopen(request).read().decode())`],
    node: ["Node", (it) => `const response = await fetch("${it}", {\n  method: "POST",\n  headers: { "Content-Type": "application/json" },\n  body: JSON.stringify({ hello: "world" }),\n});\nconsole.log(response.status, await response.json());`],
    github: ["GitHub", (it) => `In the repository: Settings › Webhooks › Add webhook\n\nPayload URL    ${it}\nContent type   application/json\nSecret         the fleet's, below under Sender\nEvents         Just the push event`],
  };
  let chosen = "curl";
  let isShown = false;
  const code = h("pre.code", { tabindex: "0", "aria-label": "Example" });
  const text = () => kinds[chosen][1](isShown ? url : masked(url));
  const draw = () => {
    code.textContent = text();
    for (const [kind, tab] of Object.entries(buttons)) tab.ariaPressed = kind === chosen;
  };
  const buttons = Object.fromEntries(Object.entries(kinds).map(([kind, [name]]) =>
    [kind, button(name, () => { chosen = kind; draw(); }, { kind: "quiet" })]));
  draw();
  return {
    show(isNowShown) { isShown = isNowShown; draw(); },
    element: h("div.snippets",
      h("div.tools", Object.values(buttons), h("span.spring"),
        copyButton(() => kinds[chosen][1](url), "the example", "Copy with the URL")),
      code),
  };
}

function limits(context, webhook, path) {
  const problem = h("div");
  const save = async (event) => {
    event.preventDefault();
    const values = new FormData(event.target);
    const allow = values.get("allow").split(/[\s,]+/).filter(Boolean);
    await put(path, { allow, rate_limit: values.get("rate_limit").trim() || null });
    await context.reload();
    say("Saved who may call the webhook");
  };
  return h("details.limits", h("summary", "Who may call it, and how often"),
    h("form", { "data-name": "limits", onsubmit: (event) => save(event).catch((error) => {
      problem.replaceChildren(notice("error", inWords(error.message)));
    }) },
      field("Addresses", h("textarea", { name: "allow", rows: 3, value: (webhook.allow || []).join("\n"), placeholder: "192.0.2.0/24" }),
        "One address or network on each line; empty: from everywhere. Others get the same 400 as for an unknown URL."),
      field("Rate limit", h("input", { name: "rate_limit", value: webhook.rate_limit ?? "", placeholder: "100/m" }),
        "Requests per second, minute, hour or day (60/m, or 60/m burst 10); beyond it senders get 429. Empty: none. Saving makes a new version of the fleet."),
      problem,
      h("button.button", "Save")));
}

// What the server says of a setting, under the name that the page has for it.
const inWords = (message) =>
  sentence(message.replace(/^line \d+, column \d+: /, "").replace(/^allow(\[\d+\])?: /, "Addresses: ").replace(/^rate_limit: /, "Rate limit: "));

// A POST as a webhook would get it, also of a fleet that has none. Of one that verifies its sender, the server
// signs it and sends it to the webhook's URL.
function testForm(context, view, webhook) {
  const isSigned = Boolean(webhook?.verify);
  const body = h("textarea.mono", { name: "body", rows: 6, value: '{"hello": "world"}' });
  const header = h("input", { name: "header", placeholder: "X-Github-Event: push" });
  const shown = h("div");
  const asked = async (verb) => {
    const headers = {};
    const other = header.value.trim();
    if (other) {
      const [name, ...value] = other.split(":");
      if (!value.length || !/^[\w!#$%&'*+.^`|~-]+$/.test(name.trim())) throw new Error("Write the header as Name: value.");
      if (verb !== "webhook/send") headers[name.trim()] = value.join(":").trim();
    }
    const query = verb === "webhook/send" && other ? `?header=${encodeURIComponent(other)}` : "";
    const options = { type: type.value, headers, body: body.value };
    return data("POST", `/fleets/${view.id}/${verb}${query}`, options);
  };
  const send = async () => {
    const answer = await asked(isSigned ? "webhook/send" : "test");
    if (!answer) throw new Error("The filter of the fleet does not want it. Preview says why.");
    return showAnswer(context, answer);
  };
  const preview = async () => shown.replaceChildren(forecast(await asked("dry-run")));
  const type = select("type", TYPES, "application/json");
  return card("Send test POST",
    h("p.hint", isSigned
      ? "Sends what you write here to the webhook's URL, signed as from its sender."
      : "Starts a run exactly as a POST to the webhook would, with what you write here.",
    " Preview shows what would happen to it as it is, and starts nothing."),
    field("Body", body),
    h("div.columns", field("Content type", type), field("Another header", header, "Optional, as Name: value")),
    h("p.actions", button("Preview", pressed(preview)), button("Send", pressed(send), { kind: "primary" })),
    shown);
}
