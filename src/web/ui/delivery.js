// One delivery: what became of a request to a webhook and why, what it was; running it after all.

import { address, h } from "./dom.js";
import { get, post } from "./api.js";
import { bytes, shortId, time } from "./format.js";
import { ask, button, copyButton, crumbs, fact, fleetPlace, given, notice, page, pressed, runLink, sentence, start } from "./parts.js";
import { eventName, verdict } from "./deliveries.js";
import { headersOf, parts } from "./parameters.js";
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
    crumbs(fleetPlace(view), ["Deliveries", fleetPlace(view, "/deliveries")[1]]),
    h("div.heading",
      h("h1", "Delivery ", h("span.id", shortId(view.id))),
      h("p.hint", h("code", view.id), " ", copyButton(view.id, "the id")),
      view.has_body ? button("Preview", pressed(preview)) : null,
      view.has_body ? button(label, pressed(() => run(context, view)), { kind: "primary", needs: "operator" }) : null),
    shown,
    h("dl.facts",
      fact("Verdict", verdict(view.verdict)),
      given("Reason", view.reason, (it) => h("code", it)),
      fact("Event", eventName(view)),
      given("Provider", view.preset),
      given("Event id", view.event_type && view.event_id),
      fact("From", view.remote_addr),
      fact("Received", time(view.received_at)),
      fact("Answer", view.status ?? "that of a vessel"),
      fact("Body", bytes(view.bytes)),
      given(view.verdict === "duplicate" ? "Duplicate of" : "Run", view.run_id, runLink),
      given("First run of the event", view.first_run, runLink)),
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
  return [headersOf(headers), h("p.hint", text)];
}
