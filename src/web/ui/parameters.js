// What a run was sent: headers and body, as text, as JSON laid out, or as bytes.

import { h } from "./dom.js";
import { download, found, get, request } from "./api.js";
import { bytes, number } from "./format.js";
import { button, copy, empty, fact, notice, pressed, section } from "./parts.js";
import { TextView } from "./text-view.js";
import { indentJson } from "./json.js";
import { hexDump } from "./hex.js";

// More than this is for an editor, not for a page.
const SHOWN_BYTES_MAX = 1 << 20;
const HEX_BYTES_MAX = 1 << 16;
// What a command line can carry.
const CURL_BYTES_MAX = 100_000;
// A client that repeats the request sends these anew.
const OWN_HEADERS = new Set(["Host", "Content-Length", "Connection", "Accept-Encoding", "Transfer-Encoding", "Expect"]);

export async function parameters(context, run) {
  const given = await found(get(`/runs/${run.id}/webhook-parameters`, context.signal));
  return given ? parts(context, { path: `/runs/${run.id}`, id: run.id, fleet: run.fleet_id, headers: given.headers })
    : empty("No webhook parameters", "This run was not started by a webhook, so nothing was sent along.");
}

// Headers and body of the request at `path`. With `fleet`, the command to copy has the URL of its webhook.
export async function parts(context, { path, id, fleet, headers }) {
  const { body, size } = await readBody(path, context.signal);
  const shown = present(body, size);
  const type = headers["Content-Type"]?.[0];
  const bodyView = new TextView({ label: "Body" });
  bodyView.setText(shown.text);
  return [
    h("dl.facts", fact("Size of the body", size < 1024 ? `${number(size)} bytes` : `${bytes(size)} (${number(size)} bytes)`),
      fact("Content type", type || "not given"), fact("Shown as", shown.kind)),
    h("p.actions",
      button("Copy as curl", pressed(async () => copy(await asCurl({ id, fleet, headers, body, size }), "the curl command"))),
      button("Download body", pressed(() => download(`${path}/body`, `${id}.body`)), { disabled: !size })),
    headersOf(headers),
    section("Body",
      shown.isCut ? notice("info", `The beginning of ${bytes(size)}; download it to see all.`) : null,
      size ? bodyView.element : h("p.hint", "The body was empty.")),
  ];
}

export function headersOf(headers) {
  const view = new TextView({ label: "Headers" });
  view.setText(JSON.stringify(headers, null, 2));
  return section("Headers", view.element);
}

// The bytes of the body, as many as are shown, and how many there are.
async function readBody(path, signal) {
  const response = await request("GET", `${path}/body`, { signal });
  const size = Number(response.headers.get("Content-Length"));
  const parts = [];
  let length = 0;
  const reader = response.body.getReader();
  while (length < SHOWN_BYTES_MAX) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
  }
  reader.cancel();
  return { body: new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, SHOWN_BYTES_MAX), size };
}

export function present(body, size) {
  const isCut = body.length < size;
  const text = asText(body, isCut);
  if (text === null) {
    return { kind: "bytes", text: hexDump(body.subarray(0, HEX_BYTES_MAX)), isCut: size > HEX_BYTES_MAX };
  }
  if (!isCut) {
    try {
      JSON.parse(text);
      return { kind: "JSON", text: indentJson(text), isCut };
    } catch { /* text, then */ }
  }
  return { kind: "text", text, isCut };
}

// The bytes as text; null when they are none. Zero bytes are in no text.
function asText(body, isCut) {
  if (body.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body, { stream: isCut });
  } catch {
    return null;
  }
}

const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

async function asCurl({ id, fleet, headers, body, size }) {
  const webhook = fleet && await found(get(`/fleets/${fleet}/webhook`));
  const lines = [`curl -X POST ${quoted(webhook?.url ?? "<the webhook's URL>")}`];
  for (const [name, values] of Object.entries(headers)) {
    if (!OWN_HEADERS.has(name)) for (const value of values) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  const text = size <= CURL_BYTES_MAX ? asText(body, body.length < size) : null;
  // A body that begins with @ would be taken for the name of a file by --data-binary.
  if (size) lines.push(text === null ? `--data-binary @${id}.body` : `--data-raw ${quoted(text)}`);
  return lines.join(" \\\n  ");
}
