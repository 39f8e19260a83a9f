// What would become of a request: shown below the button that asks for it.

import { h } from "./dom.js";
import { bytes } from "./format.js";
import { fact, given, notice, runLink } from "./parts.js";

const OUTCOMES = {
  accepted: ["done", "It would run."],
  duplicate: ["info", "It would start no run: its event has one."],
  filtered: ["info", "It would start no run: the fleet does not want it."],
  refused: ["error", "It would be refused."],
  handshake: ["info", "It is a handshake: it would be answered and start no run."],
};

export function forecast(view) {
  const [kind, text] = OUTCOMES[view.outcome];
  return h("div.stack", { "aria-label": "Preview" },
    notice(kind, h("strong", text), " ", view.status ? `Its sender would get ${view.status}.` : "A vessel would answer its sender."),
    h("dl.facts",
      fact("Sender", sender(view.sender)),
      fact("Webhook", [view.webhook.paused && "paused", ...view.webhook.allow, view.webhook.rate_limit].filter(Boolean).join(", ") || "open"),
      given("Event", view.event, ({ type, id }) => [type, id].filter(Boolean).join(" ")),
      given("Duplicate of", view.duplicate_of, runLink),
      given("First run of the event", view.first_run, runLink),
      given("Filter", view.filter, filter),
      view.concurrency_key == null ? null : fact("Concurrency key", view.concurrency_key)),
    view.vessels.map(vessel),
    h("p.hint", "Nothing was started or stored. Ids and times are made up, and secrets are masked."));
}

function sender({ verified, mode, reason, detail }) {
  const why = [reason, detail].filter(Boolean).join(": ");
  if (verified === null) return why || "not verified by this fleet";
  if (verified) return "verified";
  return `not verified${mode === "observe" ? " (observed: it runs)" : ""}: ${why}`;
}

function filter({ when, result, detail }) {
  if (result === null) return `fails, so that the request runs: ${detail}`;
  return detail ?? [code(when), " is true"];
}

const code = (text) => h("code", text);

function vessel(view) {
  const after = Object.entries(view.after).map(([name, condition]) => `${name} (${condition})`).join(", ");
  const lines = (entries) => h("pre.code", { tabindex: "0" }, entries.join("\n"));
  const variables = Object.entries(view.environment).map(([name, value]) => `${name}=${value}`);
  return h("details.limits", { open: !after },
    h("summary", view.name, after ? h("span.hint", ` after ${after}`) : null),
    view.problem ? notice("error", view.problem) : null,
    view.argv ? lines(view.argv.map((word) => JSON.stringify(word))) : null,
    h("dl.facts",
      given("Program", view.program, code),
      given("Directory", view.directory, code),
      given("User", view.user),
      fact("Standard input", bytes(view.stdin_bytes)),
      given("Packages", view.packages, packages),
      given("Runner", view.runner, ({ name, cleanup }) => `${name ?? "own"}; cleanup: ${cleanup.join(" ") || "none"}`),
      view.files.map((file) => fact(`File, ${file.mode}`, code(file.path), ` ${bytes(file.bytes)}`))),
    variables.length ? h("details", h("summary", `Environment: ${variables.length} variables`), lines(variables)) : null);
}

function packages({ names, file, installed }) {
  const what = [...names, file && `${file} of the code, if it has one`].filter(Boolean).join(", ");
  return `${what} (${installed ? "installed" : "installed first"})`;
}
