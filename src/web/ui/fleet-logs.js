// The runs of a fleet: how long the latest took, and all of them.

import { h, update } from "./dom.js";
import { get, poll } from "./api.js";
import { duration, elapsed, relative } from "./format.js";
import { empty, isOver, statusWord } from "./parts.js";
import { logbook } from "./logbook.js";

const BARS = 40;

export async function fleetLogs(context, view) {
  const chart = h("section.histogram", { "aria-label": "How long the latest runs took" });
  const load = async () => {
    const runs = await get(`/runs?fleet=${view.id}&limit=${BARS}&vessels=false`, context.signal);
    context.mark(runs[0]?.status ?? null);
    update(chart, runs.length ? bars(runs.reverse()) : null);
    chart.hidden = !runs.length;
    return runs.some((run) => !isOver(run.status));
  };
  await load();
  poll(load, context.signal)();
  return [chart, logbook({
    context,
    fleet: view.id,
    whenEmpty: empty("This fleet has not run yet",
      "Press Run now, or give it a webhook and send something there.",
      h("a.button", { href: `/fleets/${view.id}/triggers` }, "To its webhook")),
  })];
}

function bars(runs) {
  const times = runs.map((run) => elapsed(run) ?? 0);
  const longest = Math.max(1, ...times);
  return [
    h("p", { class: "ends hint" }, h("span", null, "Duration of the latest runs"), h("span", null, `up to ${duration(longest)}`)),
    h("div", { class: "bars" }, runs.map((run, at) => {
      const label = `${statusWord(run.status)}, ${duration(elapsed(run))}, ${relative(Date.parse(run.queued_at))}`;
      return h("a", { href: `/runs/${run.id}`, title: label, "aria-label": label, "data-key": run.id,
        class: `is-${run.status}` },
      h("span", { style: { height: `${Math.max(4, (100 * times[at]) / longest)}%` } }));
    })),
  ];
}
