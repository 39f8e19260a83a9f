// Talks to the admin API, and asks it again in time.

import { BASE, address, h } from "./dom.js";

// Where the key of the session is kept. The cookie goes to every port of this host; the storage is this
// origin's, and the cookie opens nothing without the key. Other paths may have other servers.
const SESSION_KEY = `boathook.session${BASE}`;
// For browsers that give pages no storage: the session ends with the page then.
let unstoredKey = null;

function sessionKey() {
  try {
    return localStorage.getItem(SESSION_KEY) ?? unstoredKey;
  } catch {
    return unstoredKey;
  }
}

// Whose session it is: name, role and limit of the token that opened it; null before that is known.
let me = null;
const ROLES = ["trigger", "reader", "operator", "author", "admin"];

// Asks whose session it is, once.
export async function identify(signal) {
  me ??= await get("/session", signal);
  return me;
}

export const isLimited = () => Boolean(me?.project_id || me?.fleet_id);

// Whether the token may do what takes this role. `start`: any role but a reader's; `server.admin`: an admin
// without a limit.
export function may(needs) {
  const [role, whole] = needs.split(".").toReversed();
  if (whole && isLimited()) return false;
  if (role === "start") return me?.role !== "reader";
  return ROLES.indexOf(me?.role) >= ROLES.indexOf(role);
}

export async function openSession(proof) {
  const { key } = await post("/session", proof);
  me = null;
  unstoredKey = key;
  try { localStorage.setItem(SESSION_KEY, key); } catch { /* see unstoredKey */ }
}

export async function closeSession() {
  await del("/session");
  unstoredKey = me = null;
  try { localStorage.removeItem(SESSION_KEY); } catch { /* see unstoredKey */ }
}

// Calls `onChange` with whether there is a session, when another tab has opened or closed one.
export function watchSession(onChange) {
  addEventListener("storage", ({ key, newValue }) => {
    if (key !== SESSION_KEY) return;
    me = null;
    onChange(newValue !== null);
  });
}

// How far the server's clock is ahead of this one, in milliseconds.
let skew = 0;

// The time by the server's clock.
export const now = () => Date.now() + skew;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// One request. The answer; throws an ApiError for refusals and when there is none.
export async function request(method, path, { body, type, headers = {}, signal } = {}) {
  // Tells the server that one of its own pages asks.
  headers["X-Boathook-Page"] = "1";
  const key = sessionKey();
  if (key) headers["X-Boathook-Session"] = key;
  if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(address(`/api/v1${path}`), { method, headers, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new CustomEvent("boathook:reach", { detail: false }));
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
  dispatchEvent(new CustomEvent("boathook:reach", { detail: true }));
  const date = Date.parse(response.headers.get("Date"));
  // The header has whole seconds.
  if (date && Math.abs(date - now()) > 2000) skew = date - Date.now();
  if (response.ok) return response;
  if (response.status === 401) {
    me = null;
    // The frame may let a person sign in over the page; then the request goes on as if nothing had been.
    const detail = { again: null };
    dispatchEvent(new CustomEvent("boathook:signed-out", { detail }));
    if (detail.again && await detail.again) return request(method, path, { body, type, headers, signal });
  }
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch { /* not one of ours, then */ }
  throw new ApiError(response.status, message);
}

// What is in the answer, without what is around it.
export async function data(method, path, options) {
  return (await (await request(method, path, options)).json()).data;
}

export const get = (path, signal) => data("GET", path, { signal });
export const del = (path, headers) => data("DELETE", path, { headers });
export const post = (path, value, headers) => sendJson("POST", path, value, headers);
export const put = (path, value) => sendJson("PUT", path, value);
export const sendYaml = (method, path, text, headers) =>
  data(method, path, { body: text, type: "application/yaml", headers });

function sendJson(method, path, value, headers) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  return data(method, path, { body, type: body && "application/json", headers });
}

// What is found, or null when there is no such thing.
export const found = (promise) => promise.catch((error) => {
  if (error.status !== 404) throw error;
  return null;
});

// Every entry of the list at `path`, page by page.
export async function list(path, signal) {
  const entries = [];
  let before = "";
  do {
    const response = await request("GET", `${path}${path.includes("?") ? "&" : "?"}limit=1000${before}`, { signal });
    entries.push(...(await response.json()).data);
    const next = response.headers.get("X-Next-Before");
    before = next && `&before=${encodeURIComponent(next)}`;
  } while (before);
  return entries;
}

// Makes a change conditional: it is refused by 412 when the fleet is at another version.
export const ifAt = (version) => ({ "If-Match": `"${version}"` });

// Saves the body of a response as a file.
export async function saveAs(name, response) {
  const href = URL.createObjectURL(await response.blob());
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

export const download = async (path, name, headers) => saveAs(name, await request("GET", path, { headers }));

const BUSY_MS = 1000;
const IDLE_MS = 3000;
const IDLE_MAX_MS = 15_000;

// Calls `load` now, and again until `signal` aborts: every second while it returns true, for things
// that move, else less and less often, and not at all while the page is hidden. Returns a function that asks at once.
export function poll(load, signal) {
  let timer = 0;
  let idle = IDLE_MS;
  let underWay = false;
  const ask = async () => {
    clearTimeout(timer);
    if (signal.aborted || underWay || document.hidden) return;
    underWay = true;
    try {
      idle = (await load()) ? BUSY_MS : Math.max(IDLE_MS, Math.min(idle * 1.3, IDLE_MAX_MS));
    } catch (error) {
      idle = IDLE_MAX_MS / 3;
      if (error instanceof ApiError) dispatchEvent(new CustomEvent("boathook:trouble", { detail: error }));
      else if (error.name !== "AbortError") throw error;
    } finally {
      underWay = false;
      if (!signal.aborted) timer = setTimeout(ask, idle);
    }
  };
  const again = () => {
    idle = IDLE_MS;
    return ask();
  };
  document.addEventListener("visibilitychange", again, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return again;
}

// Asks like `poll`, until `load` says that nothing moves any more.
export function pollWhileMoving(load, signal) {
  const done = new AbortController();
  signal.addEventListener("abort", () => done.abort());
  poll(async () => {
    const isMoving = await load();
    if (!isMoving) done.abort();
    return isMoving;
  }, done.signal)();
}
