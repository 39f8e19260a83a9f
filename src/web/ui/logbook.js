// Lists, newest first: live, filtered, page by page. The list of runs is one.

import { h, update } from "./dom.js";
import { download, poll, request } from "./api.js";
import { duration, elapsed, moment, time } from "./format.js";
import { STATUSES, TRIGGERS, button, empty, field, fleetPlace, heads, isOver, link, pressed, runLink, select, status, statusWord, trigger } from "./parts.js";
import { fleetChoice } from "./fleet-choice.js";
import { many } from "./queue.js";

const PAGE = 25;
// What can be done to all runs of a status.
const DEEDS = { Scheduled: ["stop", "Stop all waiting"], Errored: ["replay", "Replay all failed"] };
const PERIODS = [["", "Any time"], ["3600", "Last hour"], ["86400", "Last 24 hours"], ["604800", "Last 7 days"]];

export const noRuns = () => empty("No runs yet",
  "Runs appear here as soon as a webhook is called, a schedule is due, or a person presses Run now on a fleet.");

// Runs. `fleet`: only those of this one. `whenEmpty`: what to show when there is no run at all.
export function logbook({ context, fleet, whenEmpty = noRuns() }) {
  return listing({
    context,
    path: "/runs",
    noun: "run",
    csv: "runs.csv",
    tools: (filter) => (DEEDS[filter.status] ? h("p.actions", many(context, ...DEEDS[filter.status], { ...filter, vessels: undefined })) : null),
    fixed: fleet ? { fleet, vessels: false } : { vessels: false },
    choices: [
      ["Status", "status", [["", "Any status"], ...STATUSES.map((name) => [name, statusWord(name)])]],
      fleet ? null : ["Fleet", "fleet", (id, choose) => fleetChoice(choose, { value: id, placeholder: "All fleets" })],
      ["Trigger", "trigger", [["", "Any trigger"], ...Object.entries(TRIGGERS)]],
    ],
    table: (runs) => runTable(runs, !fleet),
    isMoving: (runs) => runs.some((run) => !isOver(run.status)),
    whenEmpty,
  });
}

// The list at `path`, `size` entries at a time. `fixed`: parameters that stay. `choices`: label, parameter and
// options of each filter, or a function that makes its control; there is one of time beside them. `others`:
// filters that the address alone has. `hasCursor`: the server says where the next page begins; elsewhere the
// last entry does. `table` shows entries, `tools` what can be done to all that are chosen; `isMoving` says whether they change soon. `csv`: the name of a file.
export function listing({ context, path, noun, size = PAGE, fixed = {}, choices = [], others = [], hasCursor = false,
  table, tools, isMoving, whenEmpty, csv = null }) {
  const interval = context.query.get("within") ?? "";
  const intervals = interval.includes("/") ? [[interval, interval.split("/").map((time) => moment(Date.parse(time))).join(" to ")]] : [];
  const shownChoices = choices.length ? [...choices.filter(Boolean), ["Time", "within", [...PERIODS, ...intervals]]] : [];
  const names = [...shownChoices.map(([, name]) => name), ...others];
  const filters = Object.fromEntries(names.map((name) => [name, context.query.get(name) || ""]));
  // The entries that the pages before this one ended with. The address has the last one, so that a step
  // back in the history leads to the same page of the list.
  const trail = [context.query.get("before")].filter(Boolean);
  const remember = () => {
    const query = new URLSearchParams(Object.entries({ ...filters, before: trail.at(-1) ?? "" }).filter(([, value]) => value));
    history.replaceState(history.state, "", location.pathname + (query.size ? `?${query}` : ""));
  };
  const body = h("div.logbook", { "aria-live": "off" }, h("p.hint", "Loading…"));

  const chosen = () => {
    const { within = "", ...given } = filters;
    // So many seconds up to now, or from a time to a time.
    const [since, until] = within.includes("/") ? within.split("/") : [within && new Date(Date.now() - within * 1000).toISOString()];
    return { ...fixed, ...Object.fromEntries(Object.entries({ ...given, since, until }).filter(([, value]) => value)) };
  };
  const address = (parameters) => `${path}?${new URLSearchParams({ ...chosen(), ...parameters })}`;
  // One more than is shown tells whether there are more.
  const limit = hasCursor ? size : size + 1;

  const load = async () => {
    const [before, asked] = [trail.at(-1), JSON.stringify(filters)];
    const response = await request("GET", address(before ? { limit, before } : { limit }), { signal: context.signal });
    const entries = (await response.json()).data;
    // The server looks through so many at a time; what is older is on the pages that follow.
    const unseen = response.headers.get("X-Next-Before");
    // Meanwhile the page may have been turned.
    if (before !== trail.at(-1) || asked !== JSON.stringify(filters)) return true;
    const shown = entries.slice(0, size);
    const next = entries.length > size ? shown.at(-1).id : unseen;
    update(body, shown.length ? [tools?.(chosen()), table(shown)] : nothing(unseen), pager(next));
    return isMoving(shown);
  };

  const nothing = (unseen) => (unseen
    ? empty(`No ${noun} like that here`, "None of those looked through matches these filters; older ones may.")
    : trail.length || Object.values(filters).some(Boolean)
    ? empty(`No ${noun} like that`, `No ${noun} matches these filters.`,
      h("a.button", { href: "?" }, "Clear the filters"))
    : whenEmpty);

  // Lists by name have a first page, others have a newest one.
  const [first, previous, following] = hasCursor ? ["First", "Previous", "Next"] : ["Newest", "Newer", "Older"];
  const pager = (next) => {
    if (!next && !trail.length) return null;
    const turn = (change) => () => { change(); remember(); ask(); };
    return h("nav.pager", { "aria-label": "Pages of the list" },
      button(first, turn(() => { trail.length = 0; }), { disabled: !trail.length }),
      button(previous, turn(() => trail.pop()), { disabled: !trail.length }),
      button(following, turn(() => trail.push(next)), { disabled: !next }));
  };

  const choose = (name) => (value) => {
    filters[name] = value;
    trail.length = 0;
    remember();
    ask();
  };
  const pick = ([label, name, options]) => field(label, Array.isArray(options)
    ? select(name, options, filters[name], (event) => choose(name)(event.target.value))
    : options(filters[name], choose(name)));
  const form = shownChoices.length ? h("form.filters", { onsubmit: (event) => event.preventDefault() },
    shownChoices.map(pick),
    csv ? h("div.field", h("span", "Export"),
      button("CSV", pressed(() => download(address(), csv, { Accept: "text/csv" })),
        { title: "The first 5,000 of this list as a table" })) : null) : null;

  const ask = poll(load, context.signal);
  ask();
  return [form, body];
}

export function runTable(runs, hasFleet) {
  return h("table.runs", heads("Status", "Run", hasFleet && "Fleet", "Trigger", "Queued", "Duration"),
    h("tbody", runs.map((run) => h("tr", { "data-key": run.id },
      h("td.cell-status", status(run.status)),
      h("td.cell-run", runLink(run.id)),
      hasFleet ? h("td.cell-fleet", link(...fleetPlace(run))) : null,
      h("td.cell-trigger", trigger(run.trigger), run.event?.type ? h("small", ` ${run.event.type}`) : null),
      h("td.cell-time", time(run.queued_at)),
      h("td.cell-took", duration(elapsed(run)))))));
}
