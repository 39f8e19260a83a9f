// Starting a fleet with parameters: other variables, vessels that are skipped, a body.

import { h } from "./dom.js";
import { data, post } from "./api.js";
import { ask, field, select } from "./parts.js";

const SKIPS = [["", "Runs"], ["SUCCESS", "Is skipped, as a success"], ["ERRORED", "Is skipped, as a failure"]];

export async function runWith(context, view) {
  const vessels = view.vessels.map((vessel) => new Parameters(vessel));
  const [body, type] = [h("textarea.mono", { rows: 4 }), h("input", { value: "application/json" })];
  let run = null;
  const start = async () => {
    const overrides = { vessel_overrides: vessels.map((it) => it.overrides()).filter(Boolean) };
    const { fleet_run_id } = body.value ? await asWebhook(view.id, overrides, body.value, type.value)
      : await post(`/fleets/${view.id}/runs?trigger=on_demand`, overrides);
    run = fleet_run_id;
  };
  await ask({
    title: `Run ${view.name} with parameters`,
    text: ["For one run. The fleet stays as it is."],
    fields: [
      vessels.map((it) => it.element(vessels.length < 4)),
      field("Body", body, "Optional. With a body, the run starts as its webhook would start it."),
      field("Content type of the body", type)],
    action: "Run",
    isDanger: false,
    isWide: true,
    perform: start,
  });
  if (run) await context.go(`/runs/${run}`);
}

async function asWebhook(fleet, overrides, body, type) {
  // A header has ASCII only.
  const text = JSON.stringify(overrides).replace(/[\u0080-\uffff]/g, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const started = await data("POST", `/fleets/${fleet}/test`, { body, type, headers: { "Boathook-Overrides": text } });
  if (!started) throw new Error("Nothing was started: the filter of the fleet does not want this body.");
  return started;
}

// What one vessel is started with.
class Parameters {
  constructor({ name, environment }) {
    this.name = name;
    const entries = Object.entries(environment);
    this.known = new Map(entries.filter(([, value]) => typeof value === "string"));
    this.others = entries.map(([key]) => key).filter((key) => !this.known.has(key));
    const lines = [...this.known].map(([key, value]) => `${key}=${/^"|\n/.test(value) ? JSON.stringify(value) : value}`);
    this.variables = h("textarea.mono", { rows: Math.min(Math.max(2, lines.length), 8),
      placeholder: "NAME=value", value: lines.join("\n") });
    this.skip = select("skip", SKIPS, "");
  }

  element(open) {
    const others = this.others.length ? ` Set by a secret or an expression: ${this.others.join(", ")}.` : "";
    return h("details", { open }, h("summary", this.name),
      field(`Variables of ${this.name}`, this.variables,
        `NAME=value, one in a line; a value in "quotes" is JSON. One that you take out is not set.${others}`),
      field(`Vessel ${this.name}`, this.skip));
  }

  // What differs from the fleet, as the API takes it; null when nothing does.
  overrides() {
    const given = this.given();
    const changed = [...given].filter(([key, value]) => value !== this.known.get(key));
    for (const key of this.known.keys()) if (!given.has(key)) changed.push([key, null]);
    if (this.skip.value) changed.push(["SHIPYARD_OVERRIDE_STATUS", this.skip.value]);
    return changed.length ? { name: this.name, environment_variable_overrides: Object.fromEntries(changed) } : null;
  }

  given() {
    const given = new Map();
    for (const line of this.variables.value.split("\n").filter((it) => it.trim())) {
      const [, key, value] = /^\s*([^=\s]+)\s*=(.*)$/.exec(line) ?? [];
      if (!key) throw new Error(`${this.name}, “${line}”: write NAME=value.`);
      try {
        given.set(key, value.startsWith('"') ? String(JSON.parse(value)) : value);
      } catch {
        throw new Error(`${this.name}, ${key}: a value that begins with a quote is JSON text, such as "two\\nlines".`);
      }
    }
    return given;
  }
}
