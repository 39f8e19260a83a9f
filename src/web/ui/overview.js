// The first page: is the server well, what are the fleets doing, what ran lately.

import { h, update } from "./dom.js";
import { get, may, poll } from "./api.js";
import { bytes, duration, number, plural, relative, time } from "./format.js";
import { empty, notice, page, sentence, statusIcon, statusWord } from "./parts.js";
import { logbook } from "./logbook.js";

export async function overview(context) {
  const health = h("section", { class: "health", "aria-label": "Health" });
  const fleets = h("section", { class: "fleets", "aria-label": "Fleets" });
  const upcoming = h("section", { class: "fleets", "aria-label": "Upcoming" });
  let last = "";
  // The list of runs tells deleted fleets by it.
  const known = [];
  const draw = (state) => {
    const isFailing = state.fleets.some(({ latest }) => latest[0]?.status === "Errored");
    context.mark(state.healthy && !isFailing ? null : "Errored");
    known.splice(0, known.length, ...state.fleets);
    update(health, healthOf(state));
    update(fleets, fleetsOf(state.fleets));
    // Servers that know schedules say what comes.
    update(upcoming, upcomingOf(state.upcoming || []));
    // Busy is what changes between two looks, apart from the clock.
    const seen = JSON.stringify({ ...state, now: 0, disk_free_bytes: 0, database_bytes: 0 });
    const isBusy = seen !== last;
    last = seen;
    return isBusy;
  };
  const state = await get("/overview", context.signal);
  draw(state);
  poll(async () => draw(await get("/overview", context.signal)), context.signal)();
  const runs = state.fleets.length ? [
    h("h2", null, "Logbook"),
    logbook({ context, fleets: known, whenEmpty: empty("No runs yet",
      "Runs appear here as soon as a webhook is called or a person presses Run now on a fleet.") }),
  ] : null;
  return { title: "Overview", content: page(h("h1", null, "Overview"), health, fleets, upcoming, runs) };
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
    h("dl", { class: "gauges" },
      gauge("State", state.healthy ? "Accepting" : "Refusing", state.healthy ? "good" : "bad",
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
        ? gauge(problem.level === "ERROR" ? "Last error" : "Last warning", time(problem.at), "warn", sentence(problem.message))
        : gauge("Last problem", "None", "", "no warning or error since the start")),
  ];
}

function gauge(label, value, kind, detail, part = null) {
  return h("div", { class: `gauge ${kind}`.trim(), "data-key": label },
    h("dt", null, label),
    h("dd", { class: "value" }, value),
    h("dd", { class: "detail", title: detail }, detail),
    part == null ? null : h("dd", { class: "meter", "aria-hidden": "true" }, h("span", { style: { width: `${Math.round(part * 100)}%` } })));
}

function upcomingOf(due) {
  if (!due.length) return [];
  return [
    h("h2", null, "Upcoming"),
    h("ul", { class: "fleet-list" }, due.map(({ due_at, fleet_id, fleet_name }, place) =>
      h("li", { "data-key": `${due_at} ${fleet_id} ${place}` },
        h("a", { href: `/fleets/${fleet_id}/triggers`, class: "name" }, fleet_name),
        h("span", { class: "spring" }),
        h("span", { class: "when hint" }, time(due_at))))),
  ];
}

function fleetsOf(fleets) {
  if (!fleets.length) {
    return empty("No fleets yet",
      "A fleet is a graph of your own programs. It gets one secret URL; whatever is sent there starts it.",
      may("author") ? h("a", { href: "/new", class: "button primary" }, "Start from an example") : null);
  }
  const projects = new Set(fleets.map(({ project_name }) => project_name));
  return [
    h("h2", null, "Fleets"),
    h("ul", { class: "fleet-list" }, fleets.map((fleet) => h("li", { "data-key": fleet.id },
      h("a", { href: `/fleets/${fleet.id}`, class: "name" }, fleet.name),
      projects.size > 1 ? h("span", { class: "hint" }, fleet.project_name) : null,
      h("span", { class: "spring" }),
      h("span", { class: "dots" }, fleet.latest.toReversed().map(({ id, status, queued_at }) => {
        const label = `${statusWord(status)}, ${relative(Date.parse(queued_at))}`;
        return h("a", { href: `/runs/${id}`, title: label, "aria-label": label, "data-key": id }, statusIcon(status));
      })),
      h("span", { class: "when hint" }, fleet.latest.length ? time(fleet.latest[0].queued_at) : "never ran"),
      h("span", { class: "hint hook" }, fleet.webhook ? "webhook" : "no webhook")))),
  ];
}
