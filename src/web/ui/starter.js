// The first page of a token that may start fleets and see how their runs end, and no more.

import { h, update } from "./dom.js";
import { list, poll, post, get } from "./api.js";
import { time } from "./format.js";
import { button, empty, page, pressed, status } from "./parts.js";

export async function starter(context) {
  const fleets = await list("/fleets", context.signal);
  const runs = h("section", { "aria-label": "Runs" });
  const draw = async () => update(runs, runsOf(await get("/runs?limit=20", context.signal)));
  await draw();
  poll(draw, context.signal);
  const start = (fleet) => pressed(async () => {
    await post(`/fleets/${fleet.id}/runs?trigger=on_demand`, {});
    await draw();
  });
  return {
    title: "Fleets",
    content: page(h("h1", "Fleets"),
      fleets.length
        ? h("ul.fleet-list", { "aria-label": "Fleets" }, fleets.map((fleet) => h("li",
          h("span.name", fleet.name),
          h("span.hint", fleet.project_name),
          h("span.spring"),
          button("Run now", start(fleet), { "aria-label": `Run ${fleet.name} now` }))))
        : empty("No fleets", "There is no fleet that your token may start."),
      runs),
  };
}

function runsOf(runs) {
  return runs.length ? [
    h("h2", "Latest runs"),
    h("ul.fleet-list", runs.map((run) => h("li", { "data-key": run.id },
      status(run.status),
      h("a.name", { href: `/runs/${run.id}` }, run.fleet_name),
      h("span.spring"),
      h("span.when.hint", time(run.queued_at))))),
  ] : [];
}
