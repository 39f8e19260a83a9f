// A fleet: its heading, and the tab that is asked for.

import { h } from "./dom.js";
import { get, list, may } from "./api.js";
import { plural, time } from "./format.js";
import { button, crumbs, page, pressed, start, tabs } from "./parts.js";
import { graph } from "./graph.js";
import { deliveries } from "./deliveries.js";
import { fleetLogs } from "./fleet-logs.js";
import { triggers } from "./triggers.js";
import { versions } from "./versions.js";
import { editFleet } from "./editor.js";
import { runWith } from "./run-with.js";

const TABS = {
  logs: ["Logs", fleetLogs],
  triggers: ["Triggers", triggers],
  deliveries: ["Deliveries", deliveries],
  vessels: ["Vessels", vessels],
  versions: ["Versions", versions],
  edit: ["Edit", editFleet],
};

export async function fleet(context) {
  const [id, tab = "logs"] = context.params;
  const [name, show] = TABS[tab] || TABS.logs;
  const view = await found(id, context.signal);
  const content = await show(context, view);
  const now = pressed(() => start(context, `/fleets/${view.id}/runs?trigger=on_demand`, {}));
  return {
    title: `${view.name} · ${name}`,
    content: page(
      [crumbs(),
        h("div.heading", h("h1", view.name),
          h("p.hint", `${view.project_name} · version ${view.version}, saved `, time(view.updated_at)),
          may("author") ? h("a.button", { href: `/new?from=${view.id}&version=${view.version}` }, "Duplicate") : null,
          button("Run with parameters", pressed(() => runWith(context, view)), { needs: "start" }),
          button("Run now", now, { kind: "primary", needs: "start" })),
        tabs("Parts of the fleet", tab, Object.entries(TABS).filter(([key]) => key !== "edit" || may("author")).map(([key, [text]]) => [key, text, `/fleets/${view.id}/${key}`]))],
      content),
  };
}

const ID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

// The fleet of this id or name, or project/name.
async function found(id, signal) {
  if (ID.test(id)) return get(`/fleets/${id}`, signal);
  const named = (await list(`/fleets?name=${encodeURIComponent(id)}`, signal))
    .filter(({ name, project_name }) => name === id || `${project_name}/${name}` === id);
  if (named.length === 1) return get(`/fleets/${named[0].id}`, signal);
  const why = named.length ? `Several fleets are called ${id}: write project%2Fname.` : `No fleet is called ${id}.`;
  throw Object.assign(new Error(why), { status: 404 });
}

function vessels(context, view) {
  return [
    h("p.hint", `${plural(view.vessels.length, "vessel")}. `,
      view.concurrency ? `At most ${plural(view.concurrency, "run")} at a time${ofKey(view)}. ` : "",
      view.overlap === "queue" ? "" : `${OVERLAP[view.overlap]} `,
      view.debounce ? `A request waits ${view.debounce.wait} for more${ofKey(view)}, at most ${view.debounce.max_wait}; the newest one runs. ` : "",
      view.delivery === "at_most_once" ? "A run that a crash interrupts is not started again." : ""),
    graph(view.vessels, view.connections),
    h("div.cards", view.vessels.map((vessel) => h("section.card",
      h("h2", vessel.name),
      h("pre.code", { tabindex: "0", "aria-label": `The program of ${vessel.name}` },
        program(vessel)),
      h("p.hint", `${runner(vessel.runner ?? view.runner)}${guardrails(vessel)}`)))),
  ];
}

// What becomes of runs beyond the number.
const OVERLAP = {
  skip: "Further runs are skipped.",
  replace: "The run that waits gives way to a newer one.",
  cancel: "A newer run stops the one that runs.",
};

function ofKey({ concurrency_key: key }) {
  return key ? ` for each value of ${key}` : "";
}

// What it runs, as one would type it; code from elsewhere, as the API tells of it.
function program({ run, command, source }) {
  if (run != null) return run;
  if (command) return command.map(quoted).join(" ");
  return source.file?.content ?? JSON.stringify(source, null, 2);
}

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

// By which engine it runs: a name, or the words of the runner.
function runner(of) {
  if (!of || of === "none") return "";
  const words = typeof of === "string" ? of : of.command.map(quoted).join(" ");
  return `${words ? `Runs through ${words}. ` : ""}${of.cleanup?.length ? `Cleaned up by ${of.cleanup.map(quoted).join(" ")}. ` : ""}`;
}

function guardrails({ guardrails: { retry_count, retry_wait_ms, runtime_cutoff_ms }, working_directory }) {
  return [
    retry_count ? `Retried up to ${plural(retry_count, "time")}, after ${retry_wait_ms / 1000} s.` : "Not retried.",
    runtime_cutoff_ms ? `Ended after ${runtime_cutoff_ms / 1000} s.` : "",
    working_directory ? `Runs in ${working_directory}.` : "",
  ].join(" ");
}
