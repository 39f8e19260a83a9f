// Lays JSON out over lines without parsing it into values: numbers keep their digits, objects the
// order of their keys and keys that come twice.

// `text` must be JSON.
export function indentJson(text) {
  const out = [];
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
  const tokens = text.match(token) || [];
  tokens.forEach((it, index) => {
    const next = tokens[index + 1];
    if (it === "{" || it === "[") {
      out.push(it);
      if (next === "}" || next === "]") return;
      depth += 1;
      out.push(line());
    } else if (it === "}" || it === "]") {
      const before = tokens[index - 1];
      if (before !== "{" && before !== "[") {
        depth -= 1;
        out.push(line());
      }
      out.push(it);
    } else if (it === ",") out.push(",", line());
    else if (it === ":") out.push(": ");
    else out.push(it);
  });
  return out.join("");
}
