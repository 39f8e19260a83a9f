// Which lines of two texts differ.

import { h } from "./dom.js";

// Lines around those that differ.
const CONTEXT = 3;

// Beyond this many pairs of lines the middle is shown as replaced as a whole.
const PAIRS_MAX = 4_000_000;

// The lines of both texts in order: [" ", line], ["-", only in `before`], ["+", only in `after`].
function diffLines(before, after) {
  const a = before.split("\n");
  const b = after.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const same = (lines) => lines.map((line) => [" ", line]);
  return [
    ...same(a.slice(0, start)),
    ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...same(a.slice(a.length - end)),
  ];
}

// By the longest common subsequence of lines.
function middle(a, b) {
  if (a.length * b.length > PAIRS_MAX) {
    return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  }
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = a[i] === b[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push([" ", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      lines.push(["-", a[i]]);
      i += 1;
    } else {
      lines.push(["+", b[j]]);
      j += 1;
    }
  }
  return lines;
}

// The lines that differ, with a few around them.
export function difference(before, after) {
  const lines = diffLines(before, after);
  const near = new Set();
  lines.forEach(([kind], at) => {
    if (kind !== " ") for (let it = at - CONTEXT; it <= at + CONTEXT; it += 1) near.add(it);
  });
  if (!near.size) return h("p.hint", "Nothing but the version.");
  const rows = [];
  let wasShown = true;
  lines.forEach(([kind, text], at) => {
    if (near.has(at)) {
      const tag = { "+": "ins", "-": "del" }[kind] ?? "span";
      rows.push(h(`${tag}.line`, `${kind} ${text}\n`));
    } else if (wasShown) rows.push(h("span.line.hint", "⋯\n"));
    wasShown = near.has(at);
  });
  return h("pre.code.diff", { tabindex: "0", "aria-label": "Differences" }, rows);
}
