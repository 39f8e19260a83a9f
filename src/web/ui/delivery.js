// One delivery: what became of a request to a webhook and why, what it was; running it after all.

import { address, h } from "./dom.js";
import { get, post } from "./api.js";
import { bytes, shortId, time } from "./format.js";
import { ask, button, copyButton, crumbs, fact, fleetPlace, notice, page, pressed, runLink, sentence, start } from "./parts.js";
import { TextView } from "./text-view.js";
import { eventName, verdict } from "./deliveries.js";
import { parts } from "./parameters.js";
import { forecast } from "./forecast.js";

export async function delivery(context) {
  const [named] = context.params;
  const view = await get(`/deliveries/${encodeURIComponent(named)}`, context.signal);
  if (named !== view.id) history.replaceState(history.state, "", address(`/deliveries/${view.id}`));
  return {
    title: `Delivery ${shortId(view.id)} · ${view.fleet_name}`,
    content: page(heading(context, view), h("div.stack", await request(context, view))),
  };
}

function heading(context, view) {
  const shown = h("div");
  const preview = async () => shown.replaceChildren(forecast(await post(`/deliveries/${view.id}/dry-run`)));
  const label = view.verdict === "accepted" ? "Replay" : "Run it after all";
  return [
    crumbs(["Overview", "/"], fleetPlace(view), ["Deliveries", fleetPlace(view, "/deliveries")[1]]),
    h("div", { class: "heading" },
      h("h1", "Delivery ", h("span.id", shortId(view.id))),
      h("p.hint", h("code", view.id), " ", copyButton(view.id, "the id")),
      view.has_body ? button("Preview", pressed(preview)) : null,
      view.has_body ? button(label, pressed(() => run(context, view)), { kind: "primary", needs: "operator" }) : null),
    shown,
    h("dl.facts",
      fact("Verdict", verdict(view.verdict)),
      view.reason ? fact("Reason", h("code", view.reason)) : null,
      fact("Event", eventName(view)),
      view.preset ? fact("Provider", view.preset) : null,
      view.event_id && view.event_type ? fact("Event id", view.event_id) : null,
      fact("From", view.remote_addr),
      fact("Received", time(view.received_at)),
      fact("Answer", view.status ?? "that of a vessel"),
      fact("Body", bytes(view.bytes)),
      view.run_id ? fact(view.verdict === "duplicate" ? "Duplicate of" : "Run", runLink(view.run_id)) : null,
      view.first_run ? fact("First run of the event", runLink(view.first_run)) : null),
    view.detail ? notice(view.verdict === "refused" ? "error" : "info", sentence(view.detail)) : null,
  ];
}

async function run(context, view) {
  if (!await ask({
    title: view.verdict === "accepted" ? "Replay this delivery?" : "Run this delivery after all?",
    text: ["A new run starts with this request, as if it had been accepted, and with the fleet as it is now.",
      view.verdict === "refused" ? "Its sender was not verified: look at what it sent before." : ""].filter(Boolean),
    action: "Run",
    isDanger: view.verdict === "refused",
  })) return;
  await start(context, `/deliveries/${view.id}/replay`);
}

async function request(context, view) {
  const { headers, id } = view;
  if (view.has_body) return parts(context, { path: `/deliveries/${id}`, id, fleet: view.fleet_id, headers });
  const text = "The body is not kept: it was not read, it is over 256 KiB, or later ones took its place.";
  if (!Object.keys(headers).length) return h("p.hint", text);
  const headerView = new TextView({ label: "Headers" });
  headerView.setText(JSON.stringify(headers, null, 2));
  return [h("section", h("h2", "Headers"), headerView.element), h("p.hint", text)];
}
