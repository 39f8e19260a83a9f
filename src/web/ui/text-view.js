// Shows a text of any length: only the rows that can be seen are nodes. With line numbers, search,
// and, for output, colours. Can stay at the end while the text grows.

import { h } from "./dom.js";
import { number } from "./format.js";
import { dress, pieces } from "./ansi.js";
import { TextIndex } from "./text-index.js";

const ROW_PIXELS = 20;
const MARGIN_ROWS = 20;
// Browsers cut elements that are much higher.
const HEIGHT_PIXELS_MAX = 8_000_000;
// Rows that are searched at a time, so that the page stays responsive.
const SEARCH_ROWS = 20_000;

export class TextView {
  constructor({ label, hasColours = false, follows = false, tools = [] }) {
    this.index = new TextIndex({ hasColours });
    this.hasColours = hasColours;
    this.follows = follows;
    this.matches = [];
    this.match = -1;
    this.needle = "";
    this.sizer = h("div", { class: "sizer" });
    this.window = h("div", { class: "window" });
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": label },
      this.sizer, this.window);
    this.scroller.onscroll = () => {
      this.follows = this.canFollow && this.isAtEnd();
      this.draw();
    };
    this.canFollow = follows;
    this.found = h("span", { class: "found", role: "status" });
    this.toEnd = h("button", { type: "button", class: "button to-end", hidden: true, onclick: () => {
      this.follows = this.canFollow;
      this.scroller.scrollTop = this.scroller.scrollHeight;
    } }, "Follow the end");
    const search = h("input", { type: "search", placeholder: "Search", "aria-label": `Search in: ${label}`,
      oninput: () => this.search(search.value),
      onkeydown: (event) => { if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1); } });
    const step = (text, name, by) => h("button", { type: "button", class: "button", "aria-label": name,
      title: name, onclick: () => this.step(by) }, text);
    this.element = h("section", { class: "text-view" },
      h("div", { class: "tools" }, search, step("↑", "Previous match", -1), step("↓", "Next match", 1),
        this.found, h("span", { class: "spring" }), tools),
      h("div", { class: "frame" }, this.scroller, this.toEnd));
    new ResizeObserver(() => this.draw()).observe(this.scroller);
  }

  append(bytes) {
    this.index.append(bytes);
    this.resize();
    if (this.needle) this.search(this.needle, true);
  }

  // Forgets the text.
  clear() {
    this.index = new TextIndex({ hasColours: this.hasColours });
    this.matches = [];
    this.resize();
  }

  setText(text) {
    this.clear();
    this.append(new TextEncoder().encode(text));
  }

  resize() {
    const height = this.index.count * ROW_PIXELS;
    this.height = Math.min(height, HEIGHT_PIXELS_MAX);
    this.sizer.style.height = `${this.height}px`;
    // Short texts take no more room than they need.
    this.scroller.style.height = `min(70vh, ${Math.max(height, 3 * ROW_PIXELS) + 24}px)`;
    this.window.style.setProperty("--digits", String(this.index.line).length);
    if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.draw();
  }

  isAtEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 2 * ROW_PIXELS;
  }

  // The first row in sight. Beyond the highest element there can be, a pixel stands for more.
  firstRow() {
    const seen = Math.ceil(this.scroller.clientHeight / ROW_PIXELS);
    const range = this.height - this.scroller.clientHeight;
    if (this.height < HEIGHT_PIXELS_MAX || range <= 0) return Math.floor(this.scroller.scrollTop / ROW_PIXELS);
    return Math.floor((Math.min(1, this.scroller.scrollTop / range)) * (this.index.count - seen + 1));
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const { index } = this;
    const first = Math.max(0, this.firstRow() - MARGIN_ROWS);
    const seen = Math.ceil(this.scroller.clientHeight / ROW_PIXELS);
    const end = Math.min(index.count, first + seen + 2 * MARGIN_ROWS);
    const top = this.height < HEIGHT_PIXELS_MAX
      ? first * ROW_PIXELS
      : this.scroller.scrollTop - (this.firstRow() - first) * ROW_PIXELS;
    this.window.style.transform = `translateY(${Math.max(0, top)}px)`;
    const rows = [];
    for (let row = first; row < end; row += 1) rows.push(this.row(row));
    this.window.replaceChildren(...rows);
    this.toEnd.hidden = !this.canFollow || this.follows || this.isAtEnd();
  }

  row(row) {
    const line = this.index.lines[row];
    const content = h("span", { class: "content" });
    const isCurrent = this.matches[this.match] === row;
    pieces(this.index.text(row), this.hasColours ? this.index.styles[row] : 0, (text, style) => {
      const piece = h("span");
      if (style) dress(piece, style);
      this.mark(piece, text);
      content.append(piece);
    });
    return h("div", { class: isCurrent ? "row current" : "row" },
      h("span", { class: "number", "data-line": line || "·" }), content);
  }

  mark(piece, text) {
    if (!this.needle) return piece.append(text);
    const lower = text.toLowerCase();
    let last = 0;
    // Some letters change their length with their case; then positions say nothing.
    for (let at = lower.length === text.length ? lower.indexOf(this.needle) : -1; at >= 0;
      at = lower.indexOf(this.needle, last)) {
      piece.append(text.slice(last, at), h("mark", null, text.slice(at, at + this.needle.length)));
      last = at + this.needle.length;
    }
    piece.append(text.slice(last));
  }

  // Looks for `text` in all rows. `again`: because there are more rows.
  async search(text, again = false) {
    this.needle = text.toLowerCase();
    const search = Symbol("search");
    this.searching = search;
    if (!again) this.match = -1;
    const matches = [];
    for (let row = 0; this.needle && row < this.index.count; row += 1) {
      if (row % SEARCH_ROWS === SEARCH_ROWS - 1) {
        await new Promise((resume) => { setTimeout(resume); });
        if (this.searching !== search) return;
      }
      if (this.plain(row).includes(this.needle)) matches.push(row);
    }
    this.matches = matches;
    if (!again && matches.length) this.step(1);
    else this.report();
    this.draw();
  }

  plain(row) {
    const text = this.index.text(row);
    if (!this.hasColours || !text.includes("\x1b")) return text.toLowerCase();
    let plain = "";
    pieces(text, 0, (piece) => { plain += piece; });
    return plain.toLowerCase();
  }

  step(by) {
    const { length } = this.matches;
    if (length) {
      this.match = (this.match + by + length) % length;
      this.follows = false;
      const row = this.matches[this.match];
      this.scroller.scrollTop = Math.max(0, (row / this.index.count) * this.height - this.scroller.clientHeight / 2);
    }
    this.report();
    this.draw();
  }

  report() {
    const count = this.matches.length;
    this.found.textContent = !this.needle ? ""
      : count ? `${number(this.match + 1)} of ${number(count)}` : "Nothing found";
  }
}
