// The deliveries of a fleet: every request to its webhook, and what became of it.

import { h } from "./dom.js";
import { time } from "./format.js";
import { empty, heads, runLink } from "./parts.js";
import { listing } from "./logbook.js";

export const VERDICTS = { accepted: "Accepted", duplicate: "Duplicate", filtered: "Filtered",
  handshake: "Handshake", refused: "Refused" };
export const REASONS = [
  "signature_missing", "signature_malformed", "signature_mismatch", "timestamp_missing", "timestamp_malformed",
  "timestamp_too_old", "timestamp_in_future", "credentials_missing", "credentials_mismatch", "handshake_mismatch",
  "secret_missing", "method_not_allowed", "not_allowed", "address_too_often", "rate_limited", "paused", "timed_out",
  "too_large", "no_room_for_body", "body_unreadable", "queue_full", "fleet_queue_full", "fleet_disk_full",
  "disk_full", "disk_stalled", "stopping", "id_reused",
  "filter_failed", "deduplicate_id_failed", "concurrency_key_failed"];
// The colours of runs, by what they stand for.
const LOOKS = { accepted: "Success", duplicate: "Scheduled", filtered: "Terminated", handshake: "Running", refused: "Errored" };

export const verdict = (name) =>
  h("span", { class: `status is-${LOOKS[name] || "Incomplete"}` }, VERDICTS[name] || name);

export const eventName = ({ event_type, event_id, verified_by }) =>
  (event_type || event_id || "–") + (verified_by === "token" ? " (test)" : "");

export function deliveries(context, view) {
  return listing({
    context,
    path: "/deliveries",
    noun: "delivery",
    fixed: { fleet: view.id },
    choices: [["Verdict", "verdict", [["", "Any verdict"], ...Object.entries(VERDICTS)]],
      ["Reason", "reason", [["", "Any reason"], ...REASONS.map((name) => [name, name])]]],
    table,
    isMoving: () => false,
    whenEmpty: empty("No deliveries yet",
      "Every request to the webhook of this fleet shows here, with what became of it and why.",
      h("a.button", { href: `/fleets/${view.id}/triggers` }, "To its webhook")),
  });
}

function table(entries) {
  return h("table.runs.deliveries",
    heads("Verdict", "Delivery", "Event", "From", "Reason", "Received"),
    h("tbody", entries.map((entry) => h("tr", { "data-key": entry.id },
      h("td.cell-status", verdict(entry.verdict)),
      h("td.cell-run", runLink(entry.id, "deliveries")),
      h("td.cell-trigger", eventName(entry)),
      h("td.cell-from", entry.remote_addr),
      h("td.cell-reason", entry.reason ? h("code", entry.reason) : "–"),
      h("td.cell-time", time(entry.received_at))))));
}
