// The graph of a fleet as SVG: layers from left to right, every path below its condition's colour.

import { h, svg } from "./dom.js";
import { isOver, statusIcon, statusWord } from "./parts.js";

const WIDTH = 176;
const HEIGHT = 44;
const GAP_X = 96;
const GAP_Y = 22;
const MARGIN = 8;
const SWEEPS = 6;
// Between the text of a box and its right edge.
const PADDING = 8;

// Where everything is: nodes with their places, edges with the points they go through. An edge over
// several layers passes through places of its own, so that it crosses no vessel.
export function layout(vessels, connections) {
  const index = new Map(vessels.map((vessel, at) => [vessel.name, at]));
  const edges = connections.map(({ from, to, condition }) => ({ from: index.get(from), to: index.get(to), condition }));
  const layer = layers(vessels.length, edges);
  const columns = Array.from({ length: Math.max(0, ...layer) + 1 }, () => []);
  const places = vessels.map((vessel, at) => ({ vessel, layer: layer[at], before: [], after: [] }));
  for (const place of places) columns[place.layer].push(place);
  for (const edge of edges) {
    edge.points = [places[edge.from]];
    for (let between = layer[edge.from] + 1; between < layer[edge.to]; between += 1) {
      const place = { layer: between, before: [], after: [] };
      columns[between].push(place);
      edge.points.push(place);
    }
    edge.points.push(places[edge.to]);
    edge.points.slice(1).forEach((place, at) => {
      place.before.push(edge.points[at]);
      edge.points[at].after.push(place);
    });
  }
  order(columns);
  const rows = Math.max(1, ...columns.map((column) => column.length));
  columns.forEach((column, x) => column.forEach((place, y) => {
    place.x = MARGIN + x * (WIDTH + GAP_X);
    place.y = MARGIN + (y + (rows - column.length) / 2) * (HEIGHT + GAP_Y);
  }));
  return {
    nodes: places,
    edges,
    width: 2 * MARGIN + columns.length * WIDTH + (columns.length - 1) * GAP_X,
    height: 2 * MARGIN + rows * HEIGHT + (rows - 1) * GAP_Y,
  };
}

// The longest way to each vessel from one that nothing leads to.
function layers(count, edges) {
  const layer = new Array(count).fill(0);
  const incoming = new Array(count).fill(0);
  const outgoing = Array.from({ length: count }, () => []);
  for (const { from, to } of edges) {
    incoming[to] += 1;
    outgoing[from].push(to);
  }
  const ready = [...layer.keys()].filter((vessel) => !incoming[vessel]);
  for (let vessel = ready.pop(); vessel !== undefined; vessel = ready.pop()) {
    for (const next of outgoing[vessel]) {
      layer[next] = Math.max(layer[next], layer[vessel] + 1);
      incoming[next] -= 1;
      if (!incoming[next]) ready.push(next);
    }
  }
  return layer;
}

// Moves each place to the middle of its neighbours, back and forth: fewer paths cross.
function order(columns) {
  const rank = (column) => column.forEach((place, at) => { place.rank = at; });
  columns.forEach(rank);
  const sort = (column, side) => {
    const middle = (place) => (place[side].length
      ? place[side].reduce((sum, other) => sum + other.rank, 0) / place[side].length
      : place.rank);
    column.sort((a, b) => middle(a) - middle(b));
    rank(column);
  };
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    columns.forEach((column) => sort(column, "before"));
    columns.toReversed().forEach((column) => sort(column, "after"));
  }
}

// Draws it. `look(vessel)` may return { status, href, note } for each. Paths that the statuses of a run have
// ruled out are faint.
export function graph(vessels, connections, look = () => ({})) {
  const { nodes, edges, width, height } = layout(vessels, connections);
  return h("div.graph", { tabindex: "0", role: "group", "aria-label": "The graph of the vessels" },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` },
      edges.map((path) => edge(path, look(path.points[0].vessel).status)),
      nodes.map((place) => node(place, look(place.vessel)))));
}

const TAKEN = { SUCCESS: ["Success"], ERRORED: ["Errored"], COMPLETED: ["Success", "Errored"] };

// Whether a vessel that ended with `status` leads on; null while that is open.
const isTaken = (condition, status) =>
  (!status || !isOver(status) ? null : TAKEN[condition.toUpperCase()].includes(status));

function edge({ points, condition }, status) {
  const taken = isTaken(condition, status);
  const [start, ...rest] = points;
  let d = `M${start.x + WIDTH} ${start.y + HEIGHT / 2}`;
  let x = start.x + WIDTH;
  let y = start.y + HEIGHT / 2;
  rest.forEach((place, at) => {
    const isLast = at === rest.length - 1;
    const toX = place.x - (isLast ? 7 : 0);
    const toY = place.y + HEIGHT / 2;
    const middle = (x + toX) / 2;
    d += `C${middle} ${y} ${middle} ${toY} ${toX} ${toY}`;
    x = toX;
    y = toY;
    if (!isLast) {
      x = place.x + WIDTH;
      d += `H${x}`;
    }
  });
  const word = condition.toLowerCase();
  // In the middle of the last gap, where neither paths that begin together nor those that end
  // together are close.
  const last = points.at(-1);
  const labelX = last.x - GAP_X / 2;
  const labelY = (points.at(-2).y + last.y + HEIGHT) / 2 + 4;
  const state = taken == null ? "" : taken ? " is-taken" : " is-ruled-out";
  const note = taken == null ? "" : taken ? ": taken" : ": not taken";
  return svg("g", { class: `edge is-${word}${state}` },
    svg("title", null, `${points[0].vessel.name} leads to ${last.vessel.name} when ${word}${note}`),
    svg("path", { d }),
    svg("path", { class: "head", d: `M${x} ${y - 4}l7 4-7 4z` }),
    svg("text", { x: labelX, y: labelY }, word));
}

function node({ vessel, x, y }, { status, href, note }) {
  const icon = status ? statusIcon(status) : null;
  if (icon) {
    for (const [key, value] of Object.entries({ x: x + 12, y: y + 14, width: 16, height: 16 })) icon.setAttribute(key, value);
  }
  const textX = x + (icon ? 36 : 14);
  const room = x + WIDTH - PADDING - textX;
  const content = [
    svg("title", null, status ? `${vessel.name}: ${statusWord(status)}` : vessel.name),
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 6 }),
    icon,
    svg("text", { x: textX, y: y + (note ? 20 : 27) }, fit(vessel.name, room, 13)),
    note ? svg("text", { class: "note", x: textX, y: y + 35 }, fit(note, room, 11)) : null,
  ];
  const props = { class: `node is-${status || "none"}` };
  return href ? svg("a", { href, ...props }, content) : svg("g", props, content);
}

const pen = h("canvas").getContext("2d");

// `text`, cut to fit into so many pixels at that size.
function fit(text, pixels, size) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  const isFit = (candidate) => pen.measureText(candidate).width <= pixels;
  if (isFit(text)) return text;
  const letters = [...text];
  while (letters.length && !isFit(`${letters.join("")}…`)) letters.pop();
  return `${letters.join("")}…`;
}
