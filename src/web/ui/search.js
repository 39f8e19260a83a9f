// One box for what has a name or an id: fleets and projects by any part of their names, runs and deliveries by their
// ids, and events by those that their senders gave them.

import { h } from "./dom.js";
import { found, get, may } from "./api.js";
import { say } from "./parts.js";

const PAUSE_MS = 150;
const FLEETS_MAX = 8;
const PROJECTS_MAX = 3;
const LABEL = "Find a fleet, project, run or event";

export function searchBox(go) {
  const input = h("input", { type: "search", name: "find", placeholder: LABEL, role: "combobox", "aria-label": LABEL,
    "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list" });
  const list = h("ul", { id: "found", role: "listbox", "aria-label": "What was found", hidden: true });
  let entries = [];
  let active = -1;
  let timer = 0;

  const draw = () => {
    list.replaceChildren(...entries.map(({ text, hint, href }, at) => {
      const option = h("li", { role: "option", id: `found-${at}`, "aria-selected": String(at === active) },
        h("span", text), h("span.hint", hint));
      // Before the field loses the focus.
      option.onmousedown = (event) => { event.preventDefault(); pick(href); };
      return option;
    }));
    list.hidden = !entries.length;
    input.ariaExpanded = !list.hidden;
    if (active < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `found-${active}`);
  };
  const clear = () => { clearTimeout(timer); entries = []; active = -1; draw(); };
  const pick = (href) => { input.value = ""; clear(); input.blur(); go(href); };
  const look = async () => {
    const asked = input.value.trim();
    const found = asked ? await find(asked).catch(() => []) : [];
    // Meanwhile more may have been typed.
    if (asked !== input.value.trim()) return;
    [entries, active] = [found, -1];
    draw();
  };

  input.oninput = () => { clearTimeout(timer); timer = setTimeout(look, PAUSE_MS); };
  input.onblur = clear;
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && entries.length) {
      event.preventDefault();
      active = (active + step + entries.length) % entries.length;
      draw();
    } else if (event.key === "Escape") clear();
  };
  const form = h("form.search", { role: "search" }, input, list);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const asked = input.value.trim();
    if (!asked) return;
    if (active >= 0) return pick(entries[active].href);
    try {
      for (const { href, isGuess } of await find(asked)) {
        // Pages of runs and deliveries have the paths that the API has.
        if (!isGuess || await found(get(href))) return pick(href);
      }
      say(`Nothing goes by ${asked}.`, "error");
    } catch (error) {
      if (error.status !== 401) say(error.message, "error");
    }
  };
  return form;
}

// What `asked` may mean, the likeliest first. A guess may lead nowhere.
async function find(asked) {
  const text = encodeURIComponent(asked);
  const [fleets, projects] = await Promise.all([
    get(`/fleets?name=${text}&limit=${FLEETS_MAX}`),
    may("reader") ? get(`/projects?name=${text}&limit=${PROJECTS_MAX}`) : []]);
  const guess = (hint, path) => ({ text: asked, hint, href: `/${path}/${text}`, isGuess: true });
  return [
    ...fleets.map(({ id, name, project_name }) => ({ text: name, hint: project_name, href: `/fleets/${id}` })),
    fleets.length === FLEETS_MAX ? { text: `All with “${asked}”`, hint: "fleets", href: `/?name=${text}` } : null,
    ...projects.map(({ id, name }) => ({ text: name, hint: "project", href: `/?project=${id}` })),
    /^[0-9a-f-]{4,36}$/i.test(asked) ? guess("run", "runs") : null,
    // Most ids have a digit, and few names that are searched for.
    /^(?=.*\d)\S{4,}$/.test(asked) && may("reader") ? guess("delivery or event", "deliveries") : null,
  ].filter(Boolean);
}
