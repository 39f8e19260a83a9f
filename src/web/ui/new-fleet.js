// A new fleet, begun from an example that works as it is.

import { h } from "./dom.js";
import { list, sendYaml } from "./api.js";
import { button, page, pressed, say } from "./parts.js";
import { Editor } from "./editor.js";
import { EXAMPLES } from "./examples.js";

export async function newFleet(context) {
  const names = new Set((await list("/fleets", context.signal)).map(({ name }) => name));
  let offered = fresh(EXAMPLES[0].yaml, names);
  const editor = new Editor(offered);
  context.guard = () => editor.text !== offered;
  const choices = EXAMPLES.map((example) => {
    const choice = h("button", { type: "button", class: "choice", "aria-pressed": String(example === EXAMPLES[0]) },
      h("strong", null, example.title), h("span", null, example.text));
    choice.onclick = () => {
      offered = fresh(example.yaml, names);
      editor.text = offered;
      for (const other of choices) other.setAttribute("aria-pressed", String(other === choice));
    };
    return choice;
  });
  const create = pressed(async () => {
    const fleet = await sendYaml("POST", "/fleets", editor.text);
    context.guard = null;
    await context.go(`/fleets/${fleet.id}/triggers`);
    say(`${fleet.name} is ready`);
  });
  return {
    title: "New fleet",
    content: page(
      [h("h1", null, "New fleet"),
        h("p", { class: "hint" }, "Each of these works as it is. Change what you like, now or later.")],
      h("div", { class: "choices", role: "group", "aria-label": "Examples" }, choices),
      editor.element,
      h("p", { class: "actions" }, button("Create fleet", create, { kind: "primary" }))),
  };
}

// `yaml` with a name that no fleet has.
function fresh(yaml, names) {
  return yaml.replace(/^name: (.*)$/m, (line, name) => {
    let free = name;
    for (let count = 2; names.has(free); count += 1) free = `${name}-${count}`;
    return `name: ${free}`;
  });
}
