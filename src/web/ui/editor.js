// Editing the file of a fleet: line numbers, and what the server thinks of it while one types.

import { h } from "./dom.js";
import { del, ifAt, request, sendYaml } from "./api.js";
import { difference } from "./diff.js";
import { plural } from "./format.js";
import { ask, button, notice, pressed, say, sentence } from "./parts.js";
import { graph } from "./graph.js";

const PAUSE_MS = 250;

// A field for YAML. `onInput` is called at every change.
export class Editor {
  constructor(text, onInput = () => {}) {
    this.numbers = h("div.numbers", { "aria-hidden": "true" });
    this.stripe = h("div.stripe", { hidden: true });
    this.area = h("textarea.yaml", { wrap: "off",
      autocapitalize: "off", "aria-label": "Fleet file", "aria-describedby": "yaml-state", value: text });
    this.area.oninput = () => { this.draw(); this.check(); onInput(); };
    this.area.onscroll = () => this.place();
    this.area.onkeydown = (event) => this.indent(event);
    this.state = h("div.yaml-state", { id: "yaml-state", role: "status" });
    this.preview = h("div.preview");
    this.element = h("div.editor",
      h("div.editing",
        h("div.paper", this.numbers, h("div.sheet", this.stripe, this.area)),
        this.state),
      this.preview);
    this.draw();
    this.checkNow();
  }

  get text() { return this.area.value; }

  set text(text) {
    this.area.value = text;
    this.area.scrollTop = 0;
    this.draw();
    this.checkNow();
  }

  draw() {
    const count = this.text.split("\n").length;
    if (this.numbers.childElementCount !== count) {
      this.element.style.setProperty("--digits", String(count).length);
      this.numbers.replaceChildren(...Array.from({ length: count }, (_, at) => h("span", at + 1)));
      this.area.rows = Math.min(Math.max(count + 1, 12), 32);
    }
    this.place();
  }

  // Keeps numbers and stripe beside their lines.
  place() {
    const { scrollTop } = this.area;
    this.numbers.style.transform = `translateY(${-scrollTop}px)`;
    this.stripe.style.transform = `translateY(${-scrollTop}px)`;
  }

  // A new line begins below the one before it.
  indent(event) {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.isComposing) return;
    const line = this.text.slice(0, this.area.selectionStart).split("\n").at(-1);
    const [spaces] = /^ */.exec(line);
    if (!spaces) return;
    event.preventDefault();
    document.execCommand("insertText", false, `\n${spaces}`);
  }

  check() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.checkNow(), PAUSE_MS);
  }

  async checkNow() {
    const asked = this.text;
    try {
      const found = await sendYaml("POST", "/fleets/check", asked);
      // The answer to an older question.
      if (asked !== this.text) return;
      this.show(found);
    } catch (error) {
      if (error.name !== "AbortError") this.state.replaceChildren(notice("error", sentence(error.message)));
    }
  }

  show({ definition, error }) {
    for (const marked of this.numbers.querySelectorAll(".wrong")) marked.className = "";
    this.stripe.hidden = !error?.line;
    this.isValid = !error;
    if (error) {
      // The graph of another text would mislead.
      this.preview.replaceChildren();
      const place = error.line ? `Line ${error.line}: ` : "";
      const message = error.path ? `${error.path}: ${error.message}` : error.message;
      if (error.line) this.markLine(error.line, message);
      this.state.replaceChildren(notice("error", h("strong", place), message, " ",
        error.line ? button("Go there", () => this.goTo(error.line, error.column)) : null));
      return;
    }
    this.area.ariaInvalid = null;
    this.state.replaceChildren(notice("good", `Valid: ${plural(definition.vessels.length, "vessel")}, ${plural(definition.connections.length, "connection")}.`));
    this.preview.replaceChildren(graph(definition.vessels, definition.connections));
  }

  // The message stands in its line, behind the text.
  markLine(line, message) {
    this.area.ariaInvalid = "true";
    const number = this.numbers.children[line - 1];
    if (number) number.className = "wrong";
    const text = this.text.split("\n")[line - 1] || "";
    this.stripe.style.setProperty("--line", line - 1);
    this.stripe.style.setProperty("--column", text.length + 2);
    this.stripe.replaceChildren(h("span", message));
  }

  goTo(line, column) {
    const before = this.text.split("\n").slice(0, line - 1).join("\n");
    const at = (line > 1 ? before.length + 1 : 0) + Math.max(0, (column || 1) - 1);
    this.area.focus();
    this.area.setSelectionRange(at, at);
  }
}

export async function editFleet(context, view) {
  const headers = { Accept: "application/yaml" };
  const path = `/fleets/${view.id}`;
  const load = async () => {
    const response = await request("GET", `${path}?without_ids=true`, { headers, signal: context.signal });
    return { version: Number(JSON.parse(response.headers.get("ETag"))), text: await response.text() };
  };
  // The version that the text is an edit of.
  let { version, text: saved } = await load();
  const editor = new Editor(saved, () => { discard.disabled = editor.text === saved; });
  context.guard = () => editor.text !== saved;
  const discard = button("Discard changes", () => { editor.text = saved; discard.disabled = true; }, { disabled: true });
  const save = pressed(async () => {
    const text = editor.text;
    const put = () => sendYaml("PUT", path, text, ifAt(version));
    const changed = await put().catch(async (error) => {
      if (error.status !== 412) throw error;
      const newest = await load();
      if (!await ask({
        title: `Version ${newest.version} was saved meanwhile`,
        text: [`Your text is an edit of version ${version}. This is what has changed since; nothing of it is overwritten yet. To save your text now takes it back, and no version is lost.`],
        fields: [difference(saved, newest.text)],
        action: "Save over it",
        isWide: true,
      })) return null;
      version = newest.version;
      return put();
    });
    if (!changed) return;
    // The page is loaded anew, and its fields are those of the version that is saved now.
    saved = text;
    say(changed.version === version ? "Nothing had changed" : `Saved as version ${changed.version}`);
    await context.reload();
  });
  const remove = pressed(async () => {
    if (!await ask({
      title: `Delete ${view.name}?`,
      text: ["The fleet and its webhook are gone at once; its URL answers 400. Runs that were accepted finish, and the history of its runs stays."],
      action: "Delete the fleet",
    })) return;
    context.guard = null;
    await del(path, ifAt(version));
    await context.go("/");
    say(`${view.name} is deleted`);
  });
  return [
    editor.element,
    h("p.actions", button("Save", save, { kind: "primary" }), discard),
    h("section.card", h("h2", "Delete this fleet"),
      h("p.hint", "Takes the fleet and its webhook away. What has run stays in the logbook."),
      button("Delete the fleet", remove, { kind: "danger" })),
  ];
}
