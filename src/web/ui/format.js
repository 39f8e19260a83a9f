// How times, durations and sizes read.

import { h } from "./dom.js";
import { now } from "./api.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const ofDistance = new Intl.RelativeTimeFormat("en");

// "3 minutes ago", "in 2 hours".
export function relative(millis, from = now()) {
  const distance = Math.abs(from - millis);
  if (distance < 5 * SECOND) return "just now";
  const [unit, size] = distance < MINUTE ? ["second", SECOND]
    : distance < HOUR ? ["minute", MINUTE]
    : distance < DAY ? ["hour", HOUR]
    : ["day", DAY];
  return ofDistance.format(Math.floor(distance / size) * Math.sign(millis - from), unit);
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

// A time of the API, relative, with the exact one on hover; "-" when there is none.
export function time(text) {
  if (!text) return "–";
  const millis = Date.parse(text);
  return h("time", { datetime: text, title: `${exact.format(millis)} (${text})` }, relative(millis));
}

const ofMinutes = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// Day and time, to the minute.
export const moment = (millis) => ofMinutes.format(millis);

const timeOfDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

// The time of day, to the second.
export const clock = (millis) => timeOfDay.format(millis);

// Keeps the times on the page true.
export function keepTimesTrue() {
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll("time")) {
      const text = relative(Date.parse(element.dateTime));
      if (element.textContent !== text) element.firstChild.data = text;
    }
  }, 5000);
}

export function duration(millis) {
  if (millis == null) return "–";
  if (millis < SECOND) return `${Math.round(millis)} ms`;
  if (millis < 10 * SECOND) return `${(millis / SECOND).toFixed(1)} s`;
  if (millis < MINUTE) return `${Math.round(millis / SECOND)} s`;
  const [large, small, names] = millis < HOUR ? [MINUTE, SECOND, "m s"]
    : millis < DAY ? [HOUR, MINUTE, "h m"]
    : [DAY, HOUR, "d h"];
  const [first, second] = names.split(" ");
  const rest = Math.floor((millis % large) / small);
  return `${Math.floor(millis / large)} ${first}${rest ? ` ${rest} ${second}` : ""}`;
}

// How long something has taken, or takes so far.
export function elapsed({ started_at, ended_at, duration_ms }) {
  if (duration_ms != null) return duration_ms;
  if (!started_at || ended_at) return null;
  return Math.max(0, now() - Date.parse(started_at));
}

export function bytes(count) {
  if (count == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export const number = (count) => count.toLocaleString("en");

export const plural = (count, noun, many = `${noun}s`) => `${number(count)} ${count === 1 ? noun : many}`;

// The end of an id, which tells runs apart: their beginnings are the time.
export const shortId = (id) => id.slice(-12);

// A URL without its token.
export const masked = (url) => url.replace(/[^/]+$/, "•".repeat(24));
