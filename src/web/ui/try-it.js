// Trying an expression out: over the latest deliveries of a fleet and a payload of one's own.

import { h } from "./dom.js";
import { post } from "./api.js";
import { time } from "./format.js";
import { button, card, field, heads, notice, pressed, runLink } from "./parts.js";
import { verdict } from "./deliveries.js";

export function tryIt(context, view, when) {
  const expr = h("textarea.mono", { name: "expr", rows: 2, value: when ?? 'body.ref == "refs/heads/main"' });
  const payload = h("textarea.mono", { name: "payload", rows: 4, placeholder: '{"ref": "refs/heads/main"}' });
  const shown = h("div");
  const run = async () => {
    const text = payload.value;
    const request = text.trim() ? { body: text, headers: { "Content-Type": /^\s*[[{"]/.test(text) ? "application/json" : "application/x-www-form-urlencoded" } } : null;
    shown.replaceChildren(...results(await post(`/fleets/${view.id}/evaluate`, { expr: expr.value, request })));
  };
  return card("Try an expression",
    h("p.hint", "What a filter (", h("code", "when"), ") or a value (", h("code", "expr"),
      ") gives for the last 100 deliveries, and for a payload of your own. Changes nothing."),
    field("Expression", expr),
    field("Payload", payload, "Optional: JSON, or the fields of a form."),
    h("p.actions", button("Try it", pressed(run), { kind: "primary" })),
    shown);
}

function results(answer) {
  if (answer.error) {
    const { message, column } = answer.error;
    return [notice("error", column ? `Character ${column}: ` : "", message)];
  }
  const rows = answer.deliveries.map((entry) => h("tr",
    h("td", runLink(entry.id, "deliveries"), " ", entry.event_type),
    h("td", verdict(entry.verdict)),
    h("td", time(entry.received_at)),
    h("td", result(entry))));
  return [
    answer.request ? notice("info", h("strong", "The payload: "), result(answer.request)) : null,
    rows.length ? h("table",
      heads("Delivery", "Verdict", "Received", "Result"),
      h("tbody", rows)) : h("p.hint", "No deliveries yet."),
    answer.ended_early ? h("p.hint", "That took long: older deliveries were left out.") : null,
  ].filter(Boolean);
}

function result({ value, is_true, missing, error, seen }) {
  const saw = Object.entries(seen).map(([name, text]) => `${name} = ${text}`).join(", ");
  return [
    error ? `fails: ${error}` : missing ? `no ${missing}: false as a filter, no value` : h("code", value),
    is_true === null && !error ? " (no filter: neither true nor false)" : null,
    saw ? h("small.hint", " ", saw) : null,
  ];
}
