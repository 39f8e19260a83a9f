// When each vessel of a run ran and waited, to scale, attempt by attempt.

import { h } from "./dom.js";
import { get, now } from "./api.js";
import { clock, duration, elapsed } from "./format.js";
import { statusIcon, statusWord } from "./parts.js";

const TICKS = 4;

// The attempts of vessels that had several, asked for again when there is another.
export class Attempts {
  constructor(signal) {
    this.signal = signal;
    this.known = new Map();
  }

  async learn(run) {
    const isNew = ({ id, attempt, status }) => {
      const known = this.known.get(id);
      return attempt > 1 && (known?.attempt !== attempt || known.status !== status);
    };
    await Promise.all(run.vessels.filter(isNew).map(async ({ id }) => {
      this.known.set(id, await get(`/vessel-runs/${id}`, this.signal));
    }));
  }

  // Those before the latest, which the run tells.
  before(vessel) {
    const attempts = this.known.get(vessel.id)?.attempts ?? [];
    return attempts.filter(({ attempt }) => attempt < vessel.attempt).sort((a, b) => a.attempt - b.attempt);
  }
}

// `connections` may be missing: then no vessel is known to have waited for its first start.
export function gantt(run, attempts, connections, hrefOf) {
  const start = run.started_at && Date.parse(run.started_at);
  const end = start && Math.max(run.ended_at ? Date.parse(run.ended_at) : now(), start + 1);
  const scale = start && { start, end, percent: (millis) => Math.min(100, Math.max(0, (100 * (millis - start)) / (end - start))) };
  const ready = readyTimes(run, connections ?? []);
  return h("div.gantt",
    scale ? axis(scale) : null,
    run.vessels.map((vessel) =>
      lane(vessel, scale ? bars(vessel, attempts.before(vessel), ready.get(vessel.vessel_name), scale) : [], hrefOf)));
}

function axis({ start, end }) {
  const ticks = Array.from({ length: TICKS + 1 }, (_, at) => at / TICKS);
  return h("div.axis", { "aria-hidden": "true" }, ticks.map((part) =>
    h("span", { style: { left: `${part * 100}%` } }, part ? duration((end - start) * part) : "0",
      h("small", clock(start + (end - start) * part)))));
}

// When a vessel could have started: at the end of the last vessel that leads to it.
function readyTimes(run, connections) {
  const ended = new Map(run.vessels.map(({ vessel_name, ended_at }) => [vessel_name, ended_at && Date.parse(ended_at)]));
  const ready = new Map();
  for (const { from, to } of connections) {
    if (ended.get(from)) ready.set(to, Math.max(ready.get(to) ?? 0, ended.get(from)));
  }
  return ready;
}

// What a track shows, from left to right: waits and attempts.
function bars(vessel, before, ready, { end, percent }) {
  const place = (from, to, kind) => h("span", { class: kind,
    style: { left: `${percent(from)}%`, right: `${100 - percent(to)}%` } });
  const shown = [];
  let free = ready;
  for (const attempt of [...before, vessel]) {
    const from = attempt.started_at && Date.parse(attempt.started_at);
    if (!from) continue;
    const to = attempt.ended_at ? Date.parse(attempt.ended_at) : end;
    if (free && free < from) shown.push(place(free, from, "wait"));
    // The API says Retrying of an attempt after which the vessel was tried again.
    shown.push(place(from, to, `bar-of-time is-${attempt.status === "Retrying" ? "Errored" : attempt.status}`));
    free = to;
  }
  if (vessel.status === "Retrying" && free) shown.push(place(free, end, "wait"));
  return shown;
}

function lane(vessel, shown, hrefOf) {
  const took = elapsed(vessel);
  const text = took == null ? statusWord(vessel.status) : duration(took);
  const tries = vessel.attempt > 1 ? `, attempt ${vessel.attempt}` : "";
  return h("a.lane", { href: hrefOf(vessel), "data-key": vessel.id, title: `${vessel.vessel_name}: ${statusWord(vessel.status)}${tries}` },
    h("span.name", statusIcon(vessel.status), h("span", vessel.vessel_name),
      h("span.unseen", statusWord(vessel.status))),
    h("span.track", shown),
    h("span.took", text));
}
