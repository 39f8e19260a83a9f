// Makes DOM nodes, and makes nodes that are there like others. Text goes in as text: nothing here
// parses markup.

// What addresses of the server begin with: the setting admin_base_path, which this file's own address has.
export const BASE = new URL(import.meta.url).pathname.replace(/\/ui\/[^/]+\/[^/]+$/, "");

// The address of a path of the server's own; anything else stays as it is.
export const address = (path) => (path.startsWith("/") ? BASE + path : path);

const SVG = "http://www.w3.org/2000/svg";

// An element: a tag, with classes after dots. `props`, which may be left out: attributes (`href` as `address` takes
// it), handlers (`onclick`), `style` as an object, `class`. Children: nodes, text, lists of both; what is null or
// false is left out.
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  // What is written in these pages is no prose.
  if (name === "input" || name === "textarea") Object.assign(element, { spellcheck: false, autocomplete: "off" });
  return props?.constructor === Object ? build(element, props, children) : build(element, null, [props, children]);
}

export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element[name] = value;
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : name === "href" ? address(value) : value);
  }
  append(element, children);
  return element;
}

export function append(parent, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child == null || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

// Gives `parent` the given children, keeping nodes that are there already: focus, selection and
// scroll positions survive. Nodes with the same data-key are the same.
export function update(parent, ...children) {
  morphChildren(parent, append(document.createDocumentFragment(), children));
}

const HANDLERS = ["onclick", "oninput", "onchange", "onsubmit", "onkeydown"];

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name === "style") continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // Whether something is open is up to the person at the page.
    if (name !== "open" && name !== "style" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  for (const handler of HANDLERS) old[handler] = fresh[handler];
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.childNodes) {
    if (child.dataset?.key) keyed.set(child.dataset.key, child);
  }
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    let match = key ? keyed.get(key) : next;
    if (match && (match.nodeName !== child.nodeName || (!key && match.dataset?.key))) match = null;
    if (!match) {
      old.insertBefore(child, next);
      continue;
    }
    keyed.delete(key);
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    morph(match, child);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}
