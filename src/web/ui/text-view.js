// Shows a text of any length: only the rows that can be seen are nodes. With line numbers that are links,
// search, wrapped rows, and, for output, as a terminal shows it. Can stay at the end while the text grows.

import { h } from "./dom.js";
import { number } from "./format.js";
import { dress } from "./ansi.js";
import { button, copyButton, toggle } from "./parts.js";
import { TextIndex } from "./text-index.js";

const ROW_PIXELS = 20;
const MARGIN_ROWS = 20;
// Browsers cut elements that are much higher.
const HEIGHT_PIXELS_MAX = 8_000_000;
// Rows that are searched at a time, so that the page stays responsive.
const SEARCH_ROWS = 20_000;
// A wrapped row is not narrower.
const COLUMNS_MIN = 20;
// Room for the numbers of lines to come.
const DIGITS_MIN = 6;

export class TextView {
  // `isTerminal`: the text is the output of a program. `line`: the line to begin at.
  constructor({ label, isTerminal = false, follows = false, line = 0, tools = [] }) {
    this.isTerminal = isTerminal;
    this.isRaw = false;
    this.isWrapped = false;
    this.follows = follows && !line;
    this.line = line;
    this.isSought = line > 0;
    this.index = new TextIndex({ isTerminal });
    this.matches = [];
    this.match = -1;
    this.needle = "";
    this.sizer = h("div.sizer");
    this.window = h("div.window");
    this.scroller = h("div.scroller", { tabindex: "0", role: "region", "aria-label": label },
      this.sizer, this.window);
    this.scroller.onscroll = () => {
      this.follows = this.canFollow && this.isAtEnd();
      this.draw();
    };
    this.canFollow = follows;
    this.found = h("span.found", { role: "status" });
    this.toEnd = button("Follow the end", () => {
      this.follows = this.canFollow;
      this.scroller.scrollTop = this.scroller.scrollHeight;
    }, { kind: "to-end", hidden: true });
    const search = h("input", { type: "search", placeholder: "Search", "aria-label": `Search in: ${label}`,
      oninput: () => this.search(search.value),
      onkeydown: (event) => { if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1); } });
    const step = (text, title, by) => button(text, () => this.step(by), { "aria-label": title, title });
    this.element = h("section.text-view",
      h("div.tools", search, step("↑", "Previous match", -1), step("↓", "Next match", 1),
        this.found, h("span.spring"),
        toggle("Wrap", "Break long lines", (isOn) => this.show({ isWrapped: isOn })),
        isTerminal ? toggle("Raw", "Show each frame and each control character", (isOn) => this.show({ isRaw: isOn })) : null,
        copyButton(() => this.plainText(), label.toLowerCase()), tools),
      h("div.frame", this.scroller, this.toEnd));
    new ResizeObserver(() => this.fit()).observe(this.scroller);
  }

  append(bytes) {
    this.index.append(bytes);
    this.resize();
    if (this.isSought && this.index.rowOf(this.line) >= 0) {
      this.isSought = false;
      this.seek(this.index.rowOf(this.line));
    }
    if (this.needle) this.search(this.needle, true);
  }

  clear() {
    this.index = this.emptyIndex();
    this.matches = [];
    this.resize();
  }

  emptyIndex() {
    const columns = this.isWrapped ? { columns: this.columns() } : {};
    return new TextIndex({ isTerminal: this.isTerminal && !this.isRaw, ...columns });
  }

  // How many letters fit into a row.
  columns() {
    const style = getComputedStyle(this.scroller);
    const pen = h("canvas").getContext("2d");
    pen.font = `${style.fontSize} ${style.fontFamily}`;
    const digits = Math.max(DIGITS_MIN, String(this.index.line).length);
    const letters = (this.scroller.clientWidth - 60) / pen.measureText("0").width - digits;
    return Math.max(COLUMNS_MIN, Math.floor(letters));
  }

  // Shows the same text in another way, from the same line on.
  show(how) {
    Object.assign(this, how);
    const line = this.index.lineOf(this.firstRow());
    const bytes = this.index.bytes.subarray(0, this.index.length);
    this.index = this.emptyIndex();
    this.index.append(bytes);
    this.resize();
    if (!this.follows) this.seek(this.index.rowOf(line), 0);
    if (this.needle) this.search(this.needle, true);
  }

  // After the room for the text has changed.
  fit() {
    if (this.isWrapped && this.columns() !== this.index.columns) this.show({});
    else this.draw();
  }

  plainText() {
    let text = "";
    for (let row = 0; row < this.index.count; row += 1) {
      if (row && this.index.lines[row]) text += "\n";
      text += this.plain(row);
    }
    return text;
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
    const content = h("span.content");
    const isCurrent = this.matches[this.match] === row || (line > 0 && line === this.line);
    this.index.pieces(row, (text, style) => {
      const piece = h("span");
      if (style) dress(piece, style);
      this.mark(piece, text);
      content.append(piece);
    });
    return h(isCurrent ? "div.row.current" : "div.row",
      line ? this.lineLink(line) : h("span.number", { "data-line": "·" }), content);
  }

  // For the mouse: the keyboard would have to pass every line.
  lineLink(line) {
    const onclick = (event) => {
      event.preventDefault();
      this.line = line;
      history.replaceState(history.state, "", `#L${line}`);
      this.draw();
    };
    return h("a.number", { href: `#L${line}`, "data-line": line, tabindex: "-1", "aria-hidden": "true", onclick });
  }

  mark(piece, text) {
    if (!this.needle) return piece.append(text);
    const lower = text.toLowerCase();
    let last = 0;
    // Some letters change their length with their case; then positions say nothing.
    for (let at = lower.length === text.length ? lower.indexOf(this.needle) : -1; at >= 0;
      at = lower.indexOf(this.needle, last)) {
      piece.append(text.slice(last, at), h("mark", text.slice(at, at + this.needle.length)));
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
      if (this.plain(row).toLowerCase().includes(this.needle)) matches.push(row);
    }
    this.matches = matches;
    if (!again && matches.length) this.step(1);
    else this.report();
    this.draw();
  }

  plain(row) {
    let plain = "";
    this.index.pieces(row, (piece) => { plain += piece; });
    return plain;
  }

  // Scrolls to a row: into the middle, or `share` of the height below the top.
  seek(row, share = 0.5) {
    this.scroller.scrollTop = Math.max(0, (row / this.index.count) * this.height - this.scroller.clientHeight * share);
  }

  step(by) {
    const { length } = this.matches;
    if (length) {
      this.match = (this.match + by + length) % length;
      this.follows = false;
      this.seek(this.matches[this.match]);
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
