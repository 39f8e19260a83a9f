// The schedules of a fleet: what comes, adding and removing.

import { h } from "./dom.js";
import { get, ifAt, request } from "./api.js";
import { relative } from "./format.js";
import { asking, button, card, empty, field, notice, select } from "./parts.js";

const FILE_JSON = "application/vnd.boathook.fleet+json";
const NEXT = 5;
const CATCH_UPS = [["latest", "Run the latest of them"], ["all", "Run all of them, 100 at most"], ["none", "Run none of them"]];
const SHOWN = { latest: "catches up with the latest", all: "catches up with all", none: "does not catch up" };

export async function schedules(context, view) {
  const entries = await get(`/schedules?fleet=${view.id}&next=${NEXT}`, context.signal);
  const add = asking(context, () => ({
    title: "Add a schedule",
    text: ["The fleet runs whenever it is due. Saving makes a new version of the fleet."],
    fields: [
      field("Times", h("input.mono", { name: "cron", required: true, value: "30 2 * * *" }),
        "Minute, hour, day of the month, month, day of the week: */5 * * * * is every five minutes, 30 8 * * MON-FRI is 8:30 on weekdays."),
      field("Time zone", h("input", { name: "time_zone", placeholder: "Europe/Berlin" }), "Empty: that of the project."),
      field("Due times that pass while the server is down", select("catch_up", CATCH_UPS, "latest")),
    ],
    action: "Add",
    isDanger: false,
    perform: (given) => {
      const entry = { cron: given.get("cron").trim(), catch_up: given.get("catch_up") };
      const zone = given.get("time_zone").trim();
      if (zone) entry.time_zone = zone;
      return edit(view, (file) => { file.schedules = [...(file.schedules || []), entry]; });
    },
  }), null, "The fleet has one more schedule");
  return card("Schedules",
    entries.length
      ? h("ul.schedules", entries.map((entry) => shown(context, view, entry)))
      : empty("No schedule yet", "A schedule starts this fleet by the clock, whether or not it has a webhook."),
    h("p.actions", button("Add Schedule", add, { needs: "author" })));
}

function shown(context, view, entry) {
  const remove = asking(context, { title: "Remove the schedule?", text: [`${words(entry)} is due no more. Runs that were accepted finish.`], action: "Remove" },
    () => edit(view, (file) => without(file, entry)), "The schedule is gone");
  return h("li", { "data-key": entry.id },
    h("div.tools", h("code", words(entry)),
      h("span.hint", `${entry.time_zone}, ${SHOWN[entry.catch_up] || entry.catch_up}`),
      h("span.spring"),
      button("Remove", remove, { kind: "danger", needs: "author", of: words(entry) })),
    entry.problem ? notice("error", entry.problem) : null,
    entry.waiting ? notice("warn", `${entry.waiting} due times wait for room in the queue or on the disk.`) : null,
    h("ol.next.hint", entry.next.map((due) => h("li", `${inZone(due, entry.time_zone)}, `,
      h("time", { datetime: due, title: due }, relative(Date.parse(due)))))));
}

// As the fleet's file says it.
const words = ({ cron, how_often, at, when }) => (how_often ? [how_often, at, when].filter(Boolean).join(" ") : cron);

// What clocks in the zone show.
function inZone(due, timeZone) {
  const style = { weekday: "short", year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  try {
    return new Date(due).toLocaleString(undefined, { ...style, timeZone });
  } catch { // A zone that this browser does not know.
    return due;
  }
}

// Changes the file of the fleet that the page shows.
async function edit(view, change) {
  const path = `/fleets/${view.id}`;
  const file = await (await request("GET", path, { headers: { Accept: FILE_JSON } })).json();
  change(file);
  await request("PUT", path, { body: JSON.stringify(file), type: FILE_JSON, headers: ifAt(view.version) });
}

function without(file, entry) {
  const list = entry.how_often ? file.triggers.schedules : file.schedules;
  const isIt = (it) => words(it) === words(entry) && (it.time_zone ?? entry.time_zone) === entry.time_zone;
  const place = list.findIndex(isIt);
  if (place < 0) throw new Error("The fleet has changed meanwhile. Load the page again.");
  list.splice(place, 1);
}
