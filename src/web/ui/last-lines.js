// The ends of the outputs of vessels that failed, with why: a failure can be read without a click.

import { h } from "./dom.js";
import { request } from "./api.js";
import { plural } from "./format.js";
import { notice, sentence, statusIcon } from "./parts.js";
import { CONTROL, applySgr, dress } from "./ansi.js";
import { settle } from "./terminal.js";

const LINES = 20;
const BYTES = 16_384;
// Of more vessels that failed, the first ones are shown.
const VESSELS = 10;

export class LastLines {
  constructor(context) {
    this.context = context;
    this.texts = new Map();
  }

  // Fetches what is not here yet.
  async load(vessels) {
    const failed = vessels.filter(({ status }) => status === "Errored").slice(0, VESSELS);
    await Promise.all(failed.map(async ({ id, attempt }) => {
      const key = `${id}.${attempt}`;
      if (this.texts.has(key)) return;
      const path = `/vessel-runs/${id}/output?last=${BYTES}&attempt=${attempt}`;
      const response = await request("GET", attempt ? path : `/vessel-runs/${id}/output?last=${BYTES}`, { signal: this.context.signal });
      const isCut = Number(response.headers.get("X-Output-Offset")) > 0;
      const lines = (await response.text()).split("\n");
      if (lines.at(-1) === "") lines.pop();
      // The first one may have begun before.
      if (isCut && lines.length > 1) lines.shift();
      this.texts.set(key, { lines: lines.slice(-LINES), isCut: isCut || lines.length > LINES });
    }));
  }

  shown(view, hrefOf) {
    const failed = view.vessels.filter(({ status }) => status === "Errored");
    const blocks = failed.slice(0, VESSELS).map((vessel) => this.block(vessel, hrefOf(vessel)));
    const more = failed.length - blocks.length;
    return [blocks, more > 0 ? h("p.hint", `${plural(more, "more vessel")} failed.`) : null];
  }

  block(vessel, href) {
    const text = this.texts.get(`${vessel.id}.${vessel.attempt}`);
    return h("div.failure", { "data-key": `${vessel.id}.${vessel.attempt}` },
      h("h2", statusIcon("Errored"), " ", vessel.vessel_name),
      h("p", sentence(vessel.reason || "it failed"), vessel.meaning ? ` ${vessel.meaning}` : ""),
      text?.lines.length
        ? h("pre.code.last-lines", { tabindex: "0", "aria-label": `The last lines of ${vessel.vessel_name}` }, shownLines(text.lines))
        : notice("info", "It wrote nothing."),
      h("p.hint", h("a", { href }, "Whole log"), text?.isCut ? `; these are its last ${plural(text.lines.length, "line")}.` : ""));
  }
}

// The lines as a terminal shows them.
function shownLines(lines) {
  const spans = [];
  let style = 0;
  for (const line of lines) {
    settle(line.replace(/\r$/, ""), style, (piece, its) => {
      const span = h("span", piece);
      if (its) dress(span, its);
      spans.push(span);
    });
    for (const [, parameters, final] of line.matchAll(CONTROL)) if (final === "m") style = applySgr(style, parameters);
    spans.push("\n");
  }
  return spans;
}
