// Lists, newest first: live, filtered, page by page. The list of runs is one.

import { h, update } from "./dom.js";
import { poll, request } from "./api.js";
import { duration, elapsed, shortId, time } from "./format.js";
import { STATUSES, TRIGGERS, button, empty, field, isOver, select, status, statusWord, trigger } from "./parts.js";

const PAGE = 25;
const PERIODS = [["", "Any time"], ["3600", "Last hour"], ["86400", "Last 24 hours"], ["604800", "Last 7 days"]];

// Runs. `fleet`: only those of this one. `fleets`: what to offer as a filter. `whenEmpty`: what to show
// when there is no run at all.
export function logbook({ context, fleet, fleets = [], whenEmpty }) {
  return listing({
    context,
    path: "/runs",
    noun: "run",
    fixed: fleet ? { fleet } : {},
    choices: [
      ["Status", "status", [["", "Any status"], ...STATUSES.map((name) => [name, statusWord(name)])]],
      fleet ? null : ["Fleet", "fleet", [["", "All fleets"], ...fleets.map(({ id, name }) => [id, name])]],
      ["Trigger", "trigger", [["", "Any trigger"], ...Object.entries(TRIGGERS)]],
    ],
    table: (runs) => table(runs, !fleet, new Set(fleets.map(({ id }) => id))),
    isMoving: (runs) => runs.some((run) => !isOver(run.status)),
    whenEmpty,
  });
}

// The list at `path`. `fixed`: parameters that stay. `choices`: label, parameter and options of each
// filter, beside that of time. `table` shows entries; `isMoving` says whether they change soon.
export function listing({ context, path, noun, fixed, choices, table, isMoving, whenEmpty }) {
  const names = choices.filter(Boolean).map(([, name]) => name);
  const filters = Object.fromEntries([...names, "within"].map((name) => [name, context.query.get(name) || ""]));
  // The entries that the pages before this one ended with. The address has the last one, so that a step
  // back in the history leads to the same page of the list.
  const trail = [context.query.get("before")].filter(Boolean);
  const remember = () => {
    const query = new URLSearchParams(Object.entries({ ...filters, before: trail.at(-1) ?? "" }).filter(([, value]) => value));
    history.replaceState(history.state, "", location.pathname + (query.size ? `?${query}` : ""));
  };
  const body = h("div", { class: "logbook", "aria-live": "off" }, h("p", { class: "hint" }, "Loading…"));

  const address = () => {
    const query = new URLSearchParams({ limit: PAGE + 1, ...fixed });
    for (const name of names) if (filters[name]) query.set(name, filters[name]);
    if (filters.within) query.set("since", new Date(Date.now() - filters.within * 1000).toISOString());
    if (trail.length) query.set("before", trail.at(-1));
    return `${path}?${query}`;
  };

  const isFiltered = () => Object.values(filters).some(Boolean);

  const load = async () => {
    const asked = address();
    const response = await request("GET", asked, { signal: context.signal });
    const entries = (await response.json()).data;
    // The server looks through so many at a time; what is older is on the pages that follow.
    const unseen = response.headers.get("X-Next-Before");
    // Meanwhile the page may have been turned.
    if (new URLSearchParams(asked).get("before") !== new URLSearchParams(address()).get("before")) return true;
    const shown = entries.slice(0, PAGE);
    const older = entries.length > PAGE ? shown.at(-1).id : unseen;
    update(body, shown.length ? table(shown) : nothing(unseen), pager(older));
    return isMoving(shown);
  };

  const nothing = (unseen) => (unseen
    ? empty(`No ${noun} like that here`, "None of those looked through matches these filters; older ones may.")
    : isFiltered() || trail.length
    ? empty(`No ${noun} like that`, `No ${noun} matches these filters.`, button("Clear the filters", clear))
    : whenEmpty);

  const pager = (older) => {
    if (!older && !trail.length) return null;
    const turn = (change) => () => { change(); remember(); ask(); };
    return h("nav", { class: "pager", "aria-label": "Pages of the list" },
      button("Newest", turn(() => { trail.length = 0; }), { disabled: !trail.length }),
      button("Newer", turn(() => trail.pop()), { disabled: !trail.length }),
      button("Older", turn(() => trail.push(older)), { disabled: !older }));
  };

  const choose = (name) => (event) => {
    filters[name] = event.target.value;
    trail.length = 0;
    remember();
    ask();
  };

  const clear = () => {
    for (const control of form.querySelectorAll("select")) control.value = "";
    for (const name of Object.keys(filters)) filters[name] = "";
    trail.length = 0;
    remember();
    ask();
  };

  const pick = ([label, name, options]) => field(label, select(name, options, filters[name], choose(name)));
  const form = h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    choices.filter(Boolean).map(pick), pick(["Time", "within", PERIODS]));

  const ask = poll(load, context.signal);
  ask();
  return [form, body];
}

function table(runs, hasFleet, known) {
  return h("table", { class: "runs" },
    h("thead", null, h("tr", null, ["Status", "Run", hasFleet && "Fleet", "Trigger", "Queued", "Duration"]
      .filter(Boolean).map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, runs.map((run) => h("tr", { "data-key": run.id },
      h("td", { class: "cell-status" }, status(run.status)),
      h("td", { class: "cell-run" }, h("a", { href: `/runs/${run.id}`, title: run.id, class: "id" }, shortId(run.id))),
      hasFleet ? h("td", { class: "cell-fleet" }, known.has(run.fleet_id)
        ? h("a", { href: `/fleets/${run.fleet_id}` }, run.fleet_name)
        : [run.fleet_name, h("span", { class: "hint" }, " (deleted)")]) : null,
      h("td", { class: "cell-trigger" }, trigger(run.trigger), run.event?.type ? h("small", null, ` ${run.event.type}`) : null),
      h("td", { class: "cell-time" }, time(run.queued_at)),
      h("td", { class: "cell-took" }, duration(elapsed(run)))))));
}
