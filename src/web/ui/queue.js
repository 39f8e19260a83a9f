// What waits, the next start first, and what for; and many runs stopped or replayed at once.

import { h, update } from "./dom.js";
import { get, poll, post } from "./api.js";
import { plural, time } from "./format.js";
import { ask, button, pressed, runLink, say } from "./parts.js";

const SHOWN = 8;

export function queue(context, fleet) {
  const section = h("section", { "aria-label": "Queue" });
  const load = async () => {
    const { entries, has_more } = await get(`/queue?fleet=${fleet ?? ""}&limit=${SHOWN}`, context.signal);
    section.hidden = !entries.length;
    update(section,
      h("div.heading", h("h2", "Queue"), h("span.spring"),
        many(context, "stop", "Stop all waiting", { status: "Scheduled", fleet })),
      h("ol.fleet-list", entries.map((entry) => h("li", { "data-key": `${entry.run_id} ${entry.vessel_name}` },
        runLink(entry.run_id),
        h("span.name", [!fleet && entry.fleet_name, entry.vessel_name].filter(Boolean).join(" · ")),
        h("span.hint", entry.reason, entry.until ? [", ", time(entry.until)] : null),
        h("span.spring"),
        h("span.when.hint", time(entry.since))))),
      has_more ? h("p.hint", "More waits; the list of runs has all of it.") : null);
    return entries.length > 0;
  };
  poll(load, context.signal)();
  return section;
}

const BATCH = 50;
const VERBS = {
  stop: ["Stop", "stopped", "They end as Terminated and never start."],
  replay: ["Replay", "replayed", "New runs start with their requests, the oldest first, and with the fleets as they are now."],
};

// A button that stops or replays all runs of `filter`: they are counted, confirmed, and gone through.
export function many(context, deed, label, filter) {
  const [verb, done, text] = VERBS[deed];
  const send = (body) => post(`/runs/${deed}`, body);
  return button(label, pressed(async () => {
    let left = [];
    let before;
    do {
      const page = await send({ ...filter, before, dry_run: true });
      left.push(...page.runs.map(({ id }) => id));
      before = page.next_before;
    } while (before);
    // Ids begin with the time.
    if (deed === "replay") left.sort();
    const total = left.length;
    const failed = [];
    const progress = h("progress", { max: total, value: 0, "aria-label": "Progress" });
    const perform = async () => {
      // The dialog may be closed meanwhile.
      while (left.length && progress.isConnected) {
        const batch = left.slice(0, BATCH);
        const result = await send({ runs: batch });
        failed.push(...result.failed);
        const handled = result.ended_early ? [...result.runs, ...result.failed].map(({ id }) => id) : batch;
        left = left.filter((id) => !handled.includes(id));
        progress.value = total - left.length;
        if (result.ended_early) throw new Error(`${result.ended_early}. ${progress.value} of ${total} are ${done}; press ${verb} to go on.`);
      }
    };
    await ask({ title: `${verb} ${plural(total, "run")}?`, text: [text], fields: [progress], action: verb, isDanger: deed === "stop", perform });
    await context.reload();
    say(`${plural(total - left.length - failed.length, "run")} ${done}${failed.length ? `, ${failed.length} not: ${failed[0].reason}` : ""}`);
  }), { needs: "operator", kind: deed === "stop" ? "danger" : "" });
}
