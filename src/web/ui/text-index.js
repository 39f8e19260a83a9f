// A growing text of any bytes, and where its rows begin. A row is a line, or a piece of one that is too
// long. As a terminal shows it, a row is what its carriage returns and cursor moves leave; raw, each
// carriage return begins a row, and control characters are visible.

import { applySgr, picture } from "./ansi.js";
import { settle } from "./terminal.js";

const COLUMNS_MAX = 2000;
// Of a row with more, only the last frames count: later ones have overwritten the others.
const FRAMES_BYTES_MAX = 1 << 16;
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f]/g;
// An escape sequence is not cut unless it goes on for longer than any real one.
const SEQUENCE_BYTES_MAX = 64;
const LF = 10;
const CR = 13;
const ESC = 27;

export class TextIndex {
  constructor({ isTerminal, columns = COLUMNS_MAX }) {
    this.isTerminal = isTerminal;
    this.columns = columns;
    this.bytes = new Uint8Array(1 << 16);
    this.length = 0;
    // Of each row: where it begins, the number of its line (0: the line has begun before), and the
    // style it begins with.
    this.starts = new Uint32Array(1024);
    this.lines = new Uint32Array(1024);
    this.styles = new Uint32Array(1024);
    this.rows = 0;
    this.line = 0;
    this.style = 0;
    this.column = 0;
    this.sequence = -1;
    this.decoder = new TextDecoder("utf-8");
    this.begin(0, true);
  }

  // The rows to show. What follows the last line feed is one when it has bytes.
  get count() {
    return this.starts[this.rows - 1] === this.length ? this.rows - 1 : this.rows;
  }

  begin(at, isLine) {
    if (this.rows === this.starts.length) {
      for (const name of ["starts", "lines", "styles"]) {
        const larger = new Uint32Array(this.rows * 2);
        larger.set(this[name]);
        this[name] = larger;
      }
    }
    if (isLine) this.line += 1;
    this.starts[this.rows] = at;
    this.lines[this.rows] = isLine ? this.line : 0;
    this.styles[this.rows] = this.style;
    this.rows += 1;
    this.column = 0;
  }

  append(chunk) {
    if (this.length + chunk.length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + chunk.length));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
    }
    this.bytes.set(chunk, this.length);
    const first = this.length;
    this.length += chunk.length;
    for (let at = first; at < this.length; at += 1) this.scan(at);
  }

  scan(at) {
    const byte = this.bytes[at];
    if (byte === LF) {
      this.sequence = -1;
      this.begin(at + 1, true);
      return;
    }
    const isReturn = at > this.starts[this.rows - 1] && this.bytes[at - 1] === CR && byte !== CR;
    if (isReturn && this.isTerminal) this.column = 0;
    else if (isReturn) this.begin(at, false);
    if (this.sequence >= 0 && at - this.sequence > SEQUENCE_BYTES_MAX) this.sequence = -1;
    if (!this.isTerminal || this.sequence < 0) this.takeColumn(at, byte);
    if (!this.isTerminal) return;
    if (byte === ESC) this.sequence = at;
    else if (this.sequence >= 0) this.scanSequence(at, byte);
  }

  // Gives a letter its column. The first one beyond the last column begins a row.
  takeColumn(at, byte) {
    const isLetterStart = (byte & 0xc0) !== 0x80;
    if (!isLetterStart || byte === CR || (this.isTerminal && byte === ESC)) return;
    if (this.column >= this.columns) this.begin(at, false);
    this.column += 1;
  }

  scanSequence(at, byte) {
    if (at === this.sequence + 1) {
      if (byte !== 0x5b) this.sequence = -1;
    } else if (byte >= 0x40 && byte <= 0x7e) {
      if (byte === 0x6d) {
        const parameters = this.bytes.subarray(this.sequence + 2, at);
        this.style = applySgr(this.style, String.fromCharCode(...parameters.subarray(0, SEQUENCE_BYTES_MAX)));
      }
      this.sequence = -1;
    }
  }

  // Calls `onPiece` with the text of a row in pieces of one style each. Bytes that are not UTF-8 are replaced.
  pieces(row, onPiece) {
    let start = this.starts[row];
    let end = row + 1 < this.rows ? this.starts[row + 1] : this.length;
    if (end > start && this.bytes[end - 1] === LF) end -= 1;
    while (end > start && this.bytes[end - 1] === CR) end -= 1;
    if (end - start > FRAMES_BYTES_MAX) {
      const frame = this.bytes.indexOf(CR, end - FRAMES_BYTES_MAX);
      if (frame >= 0 && frame < end) start = frame + 1;
    }
    const text = this.decoder.decode(this.bytes.subarray(start, end));
    if (this.isTerminal) settle(text, this.styles[row], onPiece);
    else onPiece(text.replace(CONTROLS, picture), 0);
  }

  // The row that line `line` begins at; -1: there is no such line yet.
  rowOf(line) {
    return line > 0 ? this.lines.subarray(0, this.rows).indexOf(line) : -1;
  }

  lineOf(row) {
    while (row > 0 && !this.lines[row]) row -= 1;
    return this.lines[row];
  }
}
