// A growing text of any bytes, and where its rows begin. A row is a line, or a piece of one that is
// too long or was overwritten by a carriage return, so that no row is long and nothing is hidden.
// Ten megabytes take some ten megabytes here, and any row is at hand at once.

import { applySgr } from "./ansi.js";

const ROW_BYTES_MAX = 2000;
// An escape sequence is not cut unless it goes on for longer than any real one.
const SEQUENCE_BYTES_MAX = 64;
const LF = 10;
const CR = 13;
const ESC = 27;

export class TextIndex {
  constructor({ hasColours }) {
    this.hasColours = hasColours;
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
    this.sequence = -1;
    this.decoder = new TextDecoder("utf-8");
    this.begin(0, true);
  }

  // How many rows there are to show. What follows the last line feed is one when it has bytes.
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
    const start = this.starts[this.rows - 1];
    if (at > start) {
      const wasReturn = this.bytes[at - 1] === CR && byte !== CR;
      const isLetterStart = (byte & 0xc0) !== 0x80;
      const isLong = at - start >= ROW_BYTES_MAX && isLetterStart
        && (this.sequence < 0 || at - this.sequence > SEQUENCE_BYTES_MAX);
      if (wasReturn || isLong) this.begin(at, false);
    }
    if (!this.hasColours) return;
    if (byte === ESC) this.sequence = at;
    else if (this.sequence >= 0) this.scanSequence(at, byte);
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

  // The text of a row; what is not UTF-8 is replaced.
  text(row) {
    let end = row + 1 < this.rows ? this.starts[row + 1] : this.length;
    if (end > this.starts[row] && this.bytes[end - 1] === LF) end -= 1;
    while (end > this.starts[row] && this.bytes[end - 1] === CR) end -= 1;
    return this.decoder.decode(this.bytes.subarray(this.starts[row], end));
  }
}
