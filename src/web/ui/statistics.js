// How many runs there were, how they ended, how long they took and waited.

import { h, update } from "./dom.js";
import { get, poll } from "./api.js";
import { duration, moment, number, plural } from "./format.js";
import { fact, field, heads, select } from "./parts.js";

// What a period is called, and the hours of one bar.
const PERIODS = { "24h": ["Last 24 hours", 1], "7d": ["Last 7 days", 6], "30d": ["Last 30 days", 24] };
const HOUR_MS = 3_600_000;

const sum = (counts) => counts.reduce((all, count) => all + count, 0);

// Bars that are links; the parts of each are statuses with their shares of the height.
const bars = (entries) => h("div.bars", entries.map(({ key, href, label, parts }) =>
  h("a", { href, title: label, "aria-label": label, "data-key": key },
    parts.map(([name, share]) => h("span", { class: `is-${name}`, style: { height: `${100 * share}%` } })))));

export function statistics(context, fleet) {
  const shown = h("div");
  let chosen = "";
  const load = async () => {
    // Without a choice the server takes the shortest period that has runs.
    const data = await get(`/statistics?fleet=${fleet ?? ""}&period=${chosen}`, context.signal);
    section.hidden = !chosen && !sum(Object.values(data.runs));
    choice.value = chosen || data.period;
    update(shown, drawn(data, fleet ? `/fleets/${fleet}` : "/runs"));
    return chosen && data.period !== chosen;
  };
  const ask = poll(load, context.signal);
  const choice = select("period", Object.entries(PERIODS).map(([id, [text]]) => [id, text]), "", () => { chosen = choice.value; ask(); });
  const section = h("section.histogram", { "aria-label": "Statistics", hidden: true }, field("Runs", choice), shown);
  ask();
  return section;
}

function drawn({ period, since, until, runs, hourly, success_rate, duration_ms, waiting_ms }, base) {
  const names = Object.keys(runs);
  const width = PERIODS[period][1];
  const address = (from, to, status = "") => `${base}?status=${status}&within=${new Date(from).toISOString()}/${new Date(to).toISOString()}`;
  const entries = [];
  for (let at = 0; at < hourly[names[0]].length; at += width) {
    const from = Date.parse(since) + at * HOUR_MS;
    const counts = names.map((name) => sum(hourly[name].slice(at, at + width)));
    const ends = names.map((name, place) => counts[place] && `${number(counts[place])} ${name}`).filter(Boolean);
    entries.push({ key: from, href: address(from, from + width * HOUR_MS - 1), label: `${moment(from)}: ${ends.join(", ") || "no runs"}`, counts });
  }
  const most = Math.max(1, ...entries.map(({ counts }) => sum(counts)));
  for (const entry of entries) entry.parts = names.map((name, place) => [name, entry.counts[place] / most]).filter(([, share]) => share);
  const quantiles = ({ median, p95 }) => (median == null ? "–" : `${duration(median)}, 95 % within ${duration(p95)}`);
  return [
    h("dl.facts",
      fact("Success rate", success_rate == null ? "–" : `${(100 * success_rate).toFixed(1)} %`),
      names.map((name) => runs[name] ? fact(name, h("a", { href: address(since, until, name) }, number(runs[name]))) : null),
      fact("Duration", quantiles(duration_ms)), fact("Waited", quantiles(waiting_ms))),
    bars(entries),
    h("p.ends.hint", h("span", moment(Date.parse(since))), h("span", `at most ${plural(most, "run")}`)),
    h("details", h("summary.hint", "As a table"), h("table", heads("From", ...names),
      h("tbody", entries.filter(({ parts }) => parts.length).map(({ key, href, counts }) => h("tr", { "data-key": key },
        h("td", h("a", { href }, moment(key))), counts.map((count) => h("td", number(count)))))))),
  ];
}
