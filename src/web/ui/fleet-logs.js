// The runs of a fleet: how they end, what waits, and all of them.

import { h } from "./dom.js";
import { get, poll } from "./api.js";
import { empty, isOver } from "./parts.js";
import { logbook } from "./logbook.js";
import { queue } from "./queue.js";
import { statistics } from "./statistics.js";

export async function fleetLogs(context, view) {
  const load = async () => {
    const [latest] = await get(`/runs?fleet=${view.id}&limit=1&vessels=false`, context.signal);
    context.mark(latest?.status ?? null);
    return latest && !isOver(latest.status);
  };
  await load();
  poll(load, context.signal)();
  return [statistics(context, view.id), queue(context, view.id), logbook({
    context,
    fleet: view.id,
    whenEmpty: empty("This fleet has not run yet",
      "Press Run now, or give it a webhook and send something there.",
      h("a.button", { href: `/fleets/${view.id}/triggers` }, "To its webhook")),
  })];
}
