// What a terminal shows of one line: carriage returns, backspaces and cursor moves (ECMA-48) lead back to
// cells that later characters overwrite, so that the frames of a progress bar become its last one.

import { CONTROL, applySgr, picture } from "./ansi.js";

// A move goes no further: a program cannot make a line of a billion cells.
const COLUMNS_MAX = 4000;
const COMBINING = /^\p{M}$/u;

// The cells of a line. A cell has a character and a style.
class Line {
  constructor() {
    this.cells = [];
    this.column = 0;
  }

  move(column) {
    this.column = Math.min(Math.max(column, 0), COLUMNS_MAX);
  }

  write(text, style) {
    for (const character of text) {
      if (COMBINING.test(character) && this.cells[this.column - 1]) {
        this.cells[this.column - 1].character += character;
      } else {
        this.cells[this.column] = { character, style };
        this.column += 1;
      }
    }
  }

  // Erases to the end (0), from the beginning (1), or all (2).
  erase(part) {
    if (part !== 1) this.cells.length = Math.min(this.cells.length, part ? 0 : this.column);
    else this.cells.fill(undefined, 0, this.column + 1);
  }
}

const MOVES = {
  C: (line, count) => line.move(line.column + count),
  D: (line, count) => line.move(line.column - count),
  G: (line, count) => line.move(count - 1),
  "`": (line, count) => line.move(count - 1),
};

// `text`, a line, in pieces of one style each, as they are seen in the end.
export function settle(text, style, onPiece) {
  const line = new Line();
  let last = 0;
  for (const match of text.matchAll(CONTROL)) {
    line.write(text.slice(last, match.index), style);
    last = match.index + match[0].length;
    const [sequence, parameters, final] = match;
    if (final === "m") style = applySgr(style, parameters);
    else if (final === "K") line.erase(Number(parameters) || 0);
    else if (MOVES[final]) MOVES[final](line, Number(parameters) || 1);
    else if (sequence === "\r") line.move(0);
    else if (sequence === "\b") line.move(line.column - 1);
    else if (sequence.length === 1) line.write(picture(sequence), style);
  }
  line.write(text.slice(last), style);
  emit(line.cells, onPiece);
}

function emit(cells, onPiece) {
  let piece = "";
  let style = 0;
  for (let at = 0; at < cells.length; at += 1) {
    const cell = cells[at] || { character: " ", style: 0 };
    if (cell.style !== style && piece) {
      onPiece(piece, style);
      piece = "";
    }
    style = cell.style;
    piece += cell.character;
  }
  if (piece) onPiece(piece, style);
}
