// One box for what has a name or an id: fleets by any part of theirs, runs and deliveries by theirs.

import { h } from "./dom.js";
import { get } from "./api.js";
import { say } from "./parts.js";

const PAUSE_MS = 150;
const FLEETS_MAX = 8;
const LABEL = "Find a fleet, a run or a delivery";

export function searchBox(go) {
  const input = h("input", { type: "search", name: "find", placeholder: LABEL, role: "combobox", "aria-label": LABEL,
    "aria-expanded": "false", "aria-controls": "found", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false" });
  const list = h("ul", { id: "found", role: "listbox", "aria-label": "What was found", hidden: true });
  let entries = [];
  let active = -1;
  let timer = 0;

  const draw = () => {
    list.replaceChildren(...entries.map(({ text, hint, href }, at) => {
      const option = h("li", { role: "option", id: `found-${at}`, "aria-selected": String(at === active) },
        h("span", null, text), h("span", { class: "hint" }, hint));
      // Before the field loses the focus.
      option.onmousedown = (event) => { event.preventDefault(); pick(href); };
      return option;
    }));
    list.hidden = !entries.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
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
  const form = h("form", { class: "search", role: "search" }, input, list);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const asked = input.value.trim();
    if (!asked) return;
    if (active >= 0) return pick(entries[active].href);
    try {
      const [first] = await find(asked);
      if (first) pick(first.href);
      else say(`No fleet has ${asked} in its name.`, "error");
    } catch (error) {
      if (error.status !== 401) say(error.message, "error");
    }
  };
  return form;
}

// What `asked` may mean, the likeliest first.
async function find(asked) {
  const fleets = await get(`/fleets?name=${encodeURIComponent(asked)}&limit=${FLEETS_MAX}`);
  const entries = fleets.map(({ id, name, project_name }) => ({ text: name, hint: project_name, href: `/fleets/${id}` }));
  if (/^[0-9a-f-]{4,36}$/i.test(asked)) {
    const path = encodeURIComponent(asked);
    entries.push({ text: asked, hint: "run", href: `/runs/${path}` }, { text: asked, hint: "delivery", href: `/deliveries/${path}` });
  }
  return entries;
}
