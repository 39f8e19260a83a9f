// The first page: is the server well, how are the fleets doing, what ran last.

import { h, update } from "./dom.js";
import { get, may, poll } from "./api.js";
import { bytes, duration, number, plural, relative, time } from "./format.js";
import { empty, notice, page, sentence, statusIcon, statusWord, tabs } from "./parts.js";
import { listing, noRuns, runTable } from "./logbook.js";
import { statistics } from "./statistics.js";

// With these the page stays short, and little is sent each time.
const FLEETS = 15;
const RUNS = 8;

// What the list of fleets can be limited to: the words of the API, and those of people.
const STATES = { total: "All", failing: "Failing", running: "Running", waiting: "Waiting", no_webhook: "No webhook" };

export async function overview(context) {
  const health = h("section.health", { "aria-label": "Health" });
  const chips = h("div");
  const upcoming = h("section.fleets", { "aria-label": "Upcoming" });
  const latest = h("section", { "aria-label": "Latest runs" });
  let last = "";
  const load = async () => {
    const [state, runs] = await Promise.all(
      ["/overview", `/runs?limit=${RUNS}&vessels=false`].map((path) => get(path, context.signal)));
    context.mark(state.healthy && !state.fleets.failing ? null : "Errored");
    update(health, healthOf(state));
    update(chips, state.fleets.total ? chipsOf(context.query, state.fleets) : null);
    update(upcoming, upcomingOf(state.upcoming));
    update(latest, runs.length || state.fleets.total ? latestOf(runs) : null);
    // Busy is what changes between two looks, apart from the clock.
    const seen = JSON.stringify([{ ...state, now: 0, disk_free_bytes: 0, database_bytes: 0 }, runs]);
    const isBusy = seen !== last;
    last = seen;
    return isBusy;
  };
  await load();
  poll(load, context.signal)();
  const fleets = listing({
    context,
    path: "/overview/fleets",
    noun: "fleet",
    size: FLEETS,
    hasCursor: true,
    others: ["state", "project", "name"],
    table: fleetTable,
    isMoving: (entries) => entries.some((fleet) => fleet.runs_active || fleet.runs_waiting),
    whenEmpty: empty("No fleets yet",
      "A fleet is a graph of your own programs. It gets one secret URL; whatever is sent there starts it.",
      may("author") ? h("a.button.primary", { href: "/new" }, "Start from an example") : null),
  });
  return {
    title: "Overview",
    content: page(h("h1", "Overview"), health,
      h("section.fleets", { "aria-label": "Fleets" }, chips, fleets), h("details", h("summary", "Statistics"), statistics(context)), upcoming, latest),
  };
}

function chipsOf(query, counts) {
  const entries = Object.entries(STATES).map(([state, text]) =>
    [state, `${text} ${number(counts[state])}`, state === "total" ? "/" : `/?state=${state}`]);
  const name = query.get("name");
  const part = name ? `Fleets with “${name}” in project/name. ` : query.get("project") ? "The fleets of one project. " : null;
  return [
    tabs("Which fleets", part ? null : query.get("state") || "total", entries),
    part ? h("p.hint", part, h("a", { href: "/" }, "Show all")) : null,
  ];
}

// The fleets, project by project.
function fleetTable(fleets) {
  return h("ul.fleet-list", fleets.map((fleet, at) => [
    fleets[at - 1]?.project_id === fleet.project_id ? null
      : h("li.group", { "data-key": fleet.project_id },
        h("h3", h("a", { href: `/?project=${fleet.project_id}` }, fleet.project_name))),
    fleetRow(fleet)]));
}

function fleetRow({ id, name, webhook, failing, runs_active, runs_waiting, latest }) {
  return h("li", { "data-key": id },
    h("a.name", { href: `/fleets/${id}` }, name),
    h("span.spring"),
    failing ? h("span.status.is-Errored", "failing") : null,
    runs_active ? h("span.status.is-Running", `${number(runs_active)} running`) : null,
    runs_waiting ? h("span.hint", `${number(runs_waiting)} waiting`) : null,
    webhook ? null : h("span.hint", "no webhook"),
    h("span.dots", latest.toReversed().map((run) => {
      const label = `${statusWord(run.status)}, ${relative(Date.parse(run.queued_at))}`;
      return h("a", { href: `/runs/${run.id}`, title: label, "aria-label": label, "data-key": run.id }, statusIcon(run.status));
    })),
    h("span.when.hint", latest.length ? time(latest[0].queued_at) : "never ran"));
}

function latestOf(runs) {
  return [
    h("h2", "Latest runs"),
    runs.length ? h("div.logbook", runTable(runs, true)) : noRuns(),
    runs.length === RUNS ? h("p.pager", h("a.button", { href: "/runs" }, "All runs")) : null,
  ];
}

function healthOf(state) {
  const problem = state.last_problem;
  return [
    state.healthy
      ? null
      : notice("error", `The server accepts no runs at the moment: ${state.refused_because}.`),
    state.launching_paused_because
      ? notice("error", `Runs wait, for launching is paused: ${state.launching_paused_because}.`)
      : null,
    h("dl.gauges",
      gauge("State", state.healthy ? "Accepting" : "Refusing", state.healthy ? "is-good" : "is-error",
        `up ${duration(Date.parse(state.now) - Date.parse(state.started_at))}, version ${state.version}`),
      gauge("Waiting", number(state.runs_waiting), "", `runs in the queue, at most ${number(state.runs_waiting_max)}`),
      gauge("Running", `${number(state.vessels_running)} / ${number(state.workers)}`, "",
        `vessels at a time; ${plural(state.runs_active, "run")} under way`, state.vessels_running / state.workers),
      gauge("Accepted", `${number(state.accepted_last_minute)}${state.accepted_last_minute >= state.accepted_counted_max ? "+" : ""}`,
        "", "runs within the last minute"),
      gauge("Disk", bytes(state.disk_free_bytes), "",
        state.disk_total_bytes ? `free of ${bytes(state.disk_total_bytes)}` : "unknown",
        state.disk_total_bytes ? 1 - state.disk_free_bytes / state.disk_total_bytes : null),
      gauge("History", bytes(state.history_bytes), "",
        `${plural(state.history_runs, "finished run")}, kept ${state.keep_runs}; database: ${bytes(state.database_bytes)}`),
      problem
        ? gauge(problem.level === "ERROR" ? "Last error" : "Last warning", time(problem.at), "is-warn", sentence(problem.message))
        : gauge("Last problem", "None", "", "no warning or error since the start")),
  ];
}

function gauge(label, value, kind, detail, part = null) {
  return h("div", { class: `gauge ${kind}`.trim(), "data-key": label },
    h("dt", label),
    h("dd.value", value),
    h("dd.detail", { title: detail }, detail),
    part == null ? null : h("dd.meter", { "aria-hidden": "true" }, h("span", { style: { width: `${Math.round(part * 100)}%` } })));
}

function upcomingOf(due) {
  if (!due.length) return [];
  return [
    h("h2", "Upcoming"),
    h("ul.fleet-list", due.map(({ due_at, fleet_id, fleet_name }, place) =>
      h("li", { "data-key": `${due_at} ${fleet_id} ${place}` },
        h("a.name", { href: `/fleets/${fleet_id}/triggers` }, fleet_name),
        h("span.spring"),
        h("span.when.hint", time(due_at))))),
  ];
}
