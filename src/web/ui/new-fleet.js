// A new fleet, begun from an example that works as it is, or from a version of another fleet.

import { h } from "./dom.js";
import { get, list, sendYaml } from "./api.js";
import { button, page, pressed, say } from "./parts.js";
import { Editor } from "./editor.js";

export async function newFleet(context) {
  const [from, version] = ["from", "version"].map((name) => context.query.get(name));
  const examples = from ? [await get(`/fleets/${from}/versions/${version}`, context.signal)] : await get("/examples", context.signal);
  const [{ yaml }] = examples;
  let offered = await fresh(yaml);
  const editor = new Editor(offered);
  context.guard = () => editor.text !== offered;
  const choices = from ? [] : examples.map((example) => {
    const choice = h("button.choice", { type: "button", "aria-pressed": String(example.yaml === yaml) },
      h("strong", example.title), h("span.hint", example.text));
    choice.onclick = pressed(async () => {
      offered = await fresh(example.yaml);
      editor.text = offered;
      for (const other of choices) other.ariaPressed = other === choice;
    });
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
      [h("h1", "New fleet"),
        h("p.hint", from ? `Version ${version} of another fleet, with a name of its own. It has no webhook yet.`
          : "Each of these works as it is. Change what you like, now or later.")],
      choices.length ? h("div.choices", { role: "group", "aria-label": "Examples" }, choices) : null,
      editor.element,
      h("p.actions", button("Create fleet", create, { kind: "primary" }))),
  };
}

// `yaml` with a name that no fleet has.
async function fresh(yaml) {
  const name = (await sendYaml("POST", "/fleets/check", yaml)).definition?.name ?? "";
  const taken = new Set((await list(`/fleets?name=${encodeURIComponent(name)}`)).map((fleet) => fleet.name));
  let free = name;
  for (let count = 2; taken.has(free); count += 1) free = `${name}-${count}`;
  return free === name ? yaml : yaml.replace(/^name:.*$/m, () => `name: ${/^[\w.-]+$/.test(free) ? free : JSON.stringify(free)}`);
}
