// When each vessel of a run ran, to scale.

import { h } from "./dom.js";
import { now } from "./api.js";
import { duration, elapsed } from "./format.js";
import { isOver, statusIcon, statusWord } from "./parts.js";

const TICKS = 4;

export function gantt(run, hrefOf) {
  const start = Date.parse(run.started_at || run.queued_at);
  const end = Math.max(run.ended_at ? Date.parse(run.ended_at) : now(), start + 1);
  const percent = (millis) => `${Math.min(100, Math.max(0, (100 * (millis - start)) / (end - start)))}%`;
  const ticks = Array.from({ length: TICKS + 1 }, (_, at) => at / TICKS);
  return h("div", { class: "gantt" },
    h("div", { class: "axis", "aria-hidden": "true" }, ticks.map((part) =>
      h("span", { style: { left: `${part * 100}%` } }, part ? duration((end - start) * part) : "0"))),
    run.vessels.map((vessel) => lane(vessel, percent, end, hrefOf)));
}

function lane(vessel, percent, end, hrefOf) {
  const from = vessel.started_at && Date.parse(vessel.started_at);
  const to = vessel.ended_at ? Date.parse(vessel.ended_at) : end;
  const bar = from && {
    left: percent(from),
    right: `calc(100% - ${percent(isOver(vessel.status) || vessel.ended_at ? to : end)})`,
  };
  const took = elapsed(vessel);
  const text = took == null ? statusWord(vessel.status) : duration(took);
  return h("a", { class: "lane", href: hrefOf(vessel), "data-key": vessel.id, title: statusWord(vessel.status) },
  h("span", { class: "name" }, statusIcon(vessel.status), h("span", null, vessel.vessel_name),
    h("span", { class: "unseen" }, statusWord(vessel.status))),
  h("span", { class: "track" }, bar ? h("span", { class: `bar-of-time is-${vessel.status}`, style: bar }) : null),
  h("span", { class: "took" }, text));
}
