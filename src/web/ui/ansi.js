// The colours that programs write (ECMA-48 SGR, as terminals understand it). A style is one number,
// so that every row of a long text can have its own: nine bits each for the colours in front and
// behind (0: the default, else 1 + the index of xterm's 256), then a bit per attribute.

const FOREGROUND = 0;
const BACKGROUND = 9;
const BITS = { 1: 18, 2: 19, 3: 20, 4: 21, 7: 22, 9: 23 };
const OFF = { 22: [1, 2], 23: [3], 24: [4], 27: [7], 29: [9] };
// The first of eight codes, what makes it an index, and which colour it sets.
const EIGHT = [[30, -29, FOREGROUND], [90, -81, FOREGROUND], [40, -39, BACKGROUND], [100, -91, BACKGROUND]];
const CLASSES = [[18, "bold"], [19, "dim"], [20, "italic"], [21, "underline"], [23, "strike"]];

const colour = (style, shift) => (style >>> shift) & 511;
const withColour = (style, shift, value) => (style & ~(511 << shift)) | (value << shift);

// `style` after the parameters of an SGR sequence, such as "1;31".
export function applySgr(style, parameters) {
  const codes = parameters.split(/[;:]/).map((code) => Number(code) || 0);
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    const eight = EIGHT.find(([first]) => code >= first && code < first + 8);
    if (code === 0) style = 0;
    else if (BITS[code]) style |= 1 << BITS[code];
    else if (OFF[code]) for (const bit of OFF[code]) style &= ~(1 << BITS[bit]);
    else if (eight) style = withColour(style, eight[2], code + eight[1]);
    else if (code === 39) style = withColour(style, FOREGROUND, 0);
    else if (code === 49) style = withColour(style, BACKGROUND, 0);
    else if (code === 38 || code === 48) {
      const shift = code === 38 ? FOREGROUND : BACKGROUND;
      if (codes[at + 1] === 5) {
        style = withColour(style, shift, 1 + Math.min(codes[at + 2] || 0, 255));
        at += 2;
      } else if (codes[at + 1] === 2) {
        const level = (value) => Math.round((Math.min(value || 0, 255) / 255) * 5);
        const [red, green, blue] = codes.slice(at + 2, at + 5).map(level);
        style = withColour(style, shift, 17 + 36 * (red || 0) + 6 * (green || 0) + (blue || 0));
        at += 4;
      }
    }
  }
  return style;
}

// A control sequence (parameters and final character are groups), a control string, or one control character.
export const CONTROL = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\0-\x08\x0b-\x1f\x7f]/g;

// U+2400 and after are pictures of the control characters.
export const picture = (control) => String.fromCharCode(control === "\x7f" ? 0x2421 : 0x2400 + control.charCodeAt(0));

// Gives an element the looks of a style.
export function dress(element, style) {
  let front = colour(style, FOREGROUND);
  let back = colour(style, BACKGROUND);
  const isInverse = style & (1 << BITS[7]);
  if (isInverse) [front, back] = [back, front];
  if (front) element.style.color = css(front - 1);
  else if (isInverse) element.style.color = "var(--surface)";
  if (back) element.style.backgroundColor = css(back - 1);
  else if (isInverse) element.style.backgroundColor = "var(--text)";
  element.className = CLASSES.filter(([bit]) => style & (1 << bit)).map(([, name]) => name).join(" ");
}

// The first sixteen are the theme's, so that they can be read on it.
function css(index) {
  if (index < 16) return `var(--ansi-${index})`;
  if (index >= 232) {
    const grey = 8 + 10 * (index - 232);
    return `rgb(${grey}, ${grey}, ${grey})`;
  }
  const level = (digit) => (digit ? 55 + 40 * digit : 0);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))}, ${level(Math.floor(cube / 6) % 6)}, ${level(cube % 6)})`;
}
