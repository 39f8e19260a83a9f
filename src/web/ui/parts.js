// What several pages are made of: statuses, tabs, messages, dialogs, copying.

import { append, h, svg } from "./dom.js";
import { may, post } from "./api.js";
import { shortId } from "./format.js";

const SHAPES = {
  Success: ["m4.6 8.3 2.3 2.3 4.6-5"],
  Errored: ["m5.3 5.3 5.4 5.4", "m10.7 5.3-5.4 5.4"],
  Terminated: ["M5.8 5.8h4.4v4.4H5.8z"],
  Incomplete: ["M5 8h6"],
  Scheduled: ["M8 4.8V8l2 1.6"],
  Retrying: ["M10.8 6.4A3.2 3.2 0 1 0 11 9", "M11 4.4v2.2H8.8"],
  Running: ["M8 8h.01"],
};

// Each status with its sign in the title of a tab.
export const SIGNS = { Scheduled: "○", Running: "●", Retrying: "●", Success: "✓", Errored: "✗", Terminated: "■", Incomplete: "–" };
export const STATUSES = Object.keys(SIGNS);
export const TRIGGERS = { webhook: "Webhook", on_demand: "On demand", api: "API", replay: "Replay", schedule: "Schedule" };

// The word that people read; the API says Scheduled.
export const statusWord = (status) => (status === "Scheduled" ? "Queued" : status);

export const isOver = (status) => !["Scheduled", "Running", "Retrying"].includes(status);

export function statusIcon(status) {
  const shape = SHAPES[status] || [];
  return svg("svg", { class: `icon is-${status}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("circle", { cx: 8, cy: 8, r: 7 }),
    shape.map((d) => svg("path", { d })));
}

export const status = (name) => h("span", { class: `status is-${name}` }, statusIcon(name), statusWord(name));

export const trigger = (name) => TRIGGERS[name] || name;

// A row of links to the parts of a page.
export function tabs(label, current, entries) {
  return h("nav.tabs", { "aria-label": label }, entries.map(([id, text, href]) =>
    h("a", { href, "aria-current": id === current ? "page" : null }, text)));
}

export function fact(label, ...value) {
  return h("div.fact", h("dt", label), h("dd", value));
}

// A fact that may be missing; `show` makes of it what is shown.
export const given = (label, value, show = (it) => it) => (value ? fact(label, show(value)) : null);

export const notice = (kind, ...content) =>
  h("div", { class: `notice is-${kind}`, role: kind === "error" ? "alert" : null }, content);

// What is shown where nothing is yet: what it would be, and how it comes about.
export function empty(title, text, ...actions) {
  return h("div.empty", h("h2", title), h("p", text),
    actions.length ? h("p.actions", actions) : null);
}

// `needs`: the role that it takes; it is not there for others. `of`: its object, for screen readers.
export function button(text, onclick, { kind = "", needs, of, ...props } = {}) {
  if (needs && !may(needs)) return null;
  return h("button", { type: "button", class: `button ${kind}`.trim(), onclick, "aria-label": of && `${text} ${of}`, ...props }, text);
}

// A button that stays pressed until it is pressed again; calls `onChange` with whether it is.
export function toggle(text, title, onChange) {
  const element = button(text, () => {
    const isOn = element.ariaPressed !== "true";
    element.ariaPressed = isOn;
    onChange(isOn);
  }, { title, "aria-pressed": "false" });
  return element;
}

// Runs `action` while the button that was pressed rests; shows what goes wrong.
export function pressed(action) {
  return async (event) => {
    const target = event.currentTarget;
    target.disabled = true;
    try {
      await action(event);
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 401) say(sentence(error.message), "error");
    } finally {
      target.disabled = false;
    }
  };
}

// What the server says, as a sentence of a page.
export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

// What is wrong with a value, without the place that it would have in a file.
export const plainly = (text) => sentence(text.replace(/^line \d+, column \d+: /, "").replace(/^[\w.[\]]+: /, ""));

// A short message at the edge of the page. It takes the place of the one before.
export function say(text, kind = "done") {
  let region = document.querySelector(".messages");
  if (!region) {
    region = h("div.messages", { role: "status" });
    document.body.append(region);
  }
  const message = h("p", { class: `message is-${kind}` }, text);
  region.replaceChildren(message);
  setTimeout(() => message.remove(), kind === "error" ? 8000 : 3000);
}

// Asks once. `text` says what will happen; without `cancel` there is nothing to call off. `perform` does it
// while the dialog is open, which stays with all that was typed when that fails. The values of the form, or
// null when it is called off.
export function ask({ title, text = [], action, isDanger = true, fields = [], cancel = "Cancel", isWide = false, perform = null }) {
  return new Promise((resolve) => {
    const problem = h("div");
    const form = h("form", { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      text.map((paragraph) => h("p", paragraph)),
      fields,
      problem,
      h("p.actions",
        // The first one is what Enter does in a field.
        h("button", { class: `button ${isDanger ? "danger" : "primary"}`, value: "yes" }, action),
        cancel && h("button.button", { value: "", formnovalidate: true, autofocus: isDanger && !fields.length }, cancel)));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", class: isWide ? "wide" : null }, form);
    form.onsubmit = async (event) => {
      if (!perform || event.submitter?.value !== "yes") return;
      event.preventDefault();
      event.submitter.disabled = true;
      try {
        await perform(new FormData(form));
        dialog.close("yes");
      } catch (error) {
        problem.replaceChildren(notice("error", plainly(error.message)));
      } finally {
        event.submitter.disabled = false;
      }
    };
    dialog.onclose = () => {
      const values = new FormData(form);
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? values : null);
    };
    document.body.append(dialog);
    dialog.returnValue = "";
    dialog.showModal();
  });
}

// Browsers lend their clipboard only to pages that came over HTTPS or from this machine.
export async function copy(text, what) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {
    const area = h("textarea.offscreen", { value: text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) throw new Error("Your browser does not let this page copy. Select the text instead.");
  }
  say(`Copied ${what}`);
}

export const copyButton = (text, what, label = "Copy") =>
  button(label, pressed(() => copy(typeof text === "function" ? text() : text, what)), { of: what });

export function field(label, control, hint) {
  return h("label.field", h("span", label), control,
    hint ? h("small", hint) : null);
}

export function select(name, options, value, onchange) {
  return h("select", { name, onchange }, options.map(([id, text]) =>
    h("option", { value: id, selected: id === value }, text)));
}

export function page(heading, ...content) {
  return append(h("div.page"), heading, content);
}

// A part of a page, under its title; `card`: in a box.
export const section = (title, ...content) => h("section", { "aria-label": title }, h("h2", title), content);
export const card = (title, ...content) => h("section.card", { "aria-label": title }, h("h2", title), content);

// A link to a run, or to a delivery, by the end of its id.
export const runLink = (id, kind = "runs") => h("a.id", { href: `/${kind}/${id}`, title: id }, shortId(id));

export const heads = (...names) => h("thead", h("tr", names.map((name) => name && h("th", { scope: "col" }, name))));

// What a button does: it performs, shows the page again and says so. With a `question` it asks that first, and performs
// with the values of its form; a function makes a question anew each time, with fields that are as they were.
export const doing = (context, perform, done, question) => pressed(async () => {
  const values = question && await ask(typeof question === "function" ? question() : question);
  if (values === null) return;
  await perform?.(values);
  await context.reload();
  if (done) say(typeof done === "string" ? done : done(values));
});
export const asking = (context, question, perform, done) => doing(context, perform, done, question);

// Shows a secret that is not shown again.
export const showOnce = (title, where, value, what, more = "") => ask({
  title,
  text: [`Copy it now to where ${where}. It is not shown again.`],
  fields: [h("div.tools.secret", h("code.url", value), copyButton(value, what)), more],
  action: "Done",
  isDanger: false,
  cancel: null,
});

// Shows the run that a request to a webhook has started, or how it was answered.
export function showAnswer(context, { fleet_run_id, status }) {
  if (fleet_run_id) return context.go(`/runs/${fleet_run_id}`);
  return say(`The webhook answered ${status}`, status < 300 ? "done" : "error");
}

// Starts a run and shows it.
export async function start(context, path, body) {
  const { fleet_run_id } = await post(path, body);
  await context.go(`/runs/${fleet_run_id}`);
  say("A new run has started");
}

export const link = (text, href) => h(href ? "a" : "span", { href }, text);

export const crumbs = (...entries) =>
  h("nav.crumbs", { "aria-label": "Where you are" }, [["Overview", "/"], ...entries].map((entry) => link(...entry)));

// Text and address of the fleet of a run or a delivery. One that is deleted has no page.
export const fleetPlace = ({ fleet_id, fleet_name, fleet_deleted }, part = "") =>
  (fleet_deleted ? [`${fleet_name} (deleted)`] : [fleet_name, `/fleets/${fleet_id}${part}`]);
