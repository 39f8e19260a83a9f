// The page of the server: findings of `doctor`, a backup, open sessions, settings.

import { h } from "./dom.js";
import { del, get, may, request, saveAs } from "./api.js";
import { bytes, time } from "./format.js";
import { asking, button, notice, page, pressed, say, section } from "./parts.js";

export async function server(context) {
  const isAdmin = may("server.admin");
  const [findings, settings, sessions] = await Promise.all([
    // The server refuses a second examination at a time.
    get("/doctor", context.signal).catch(({ message }) => [{ check: "doctor", level: "warning", what: message }]),
    get("/settings", context.signal),
    isAdmin && get("/sessions", context.signal),
  ]);
  const [well, notable] = parted(findings, ({ level }) => level === "ok");
  const [usual, set] = parted(settings, ({ source }) => source === "default");
  return {
    title: "Server",
    content: page(h("h1", "Server"),
      notable.map(finding),
      closed(`Nothing wrong: ${well.length}`, well.map(({ check, what }) =>
        h("li", h("span.name", check), h("span.hint", coded(what))))),
      isAdmin && [
        section("Backup", backup()),
        section("Sessions", h("p.hint", "Browsers that are signed in, each with one of the ", h("a", { href: "/tokens" }, "tokens"), "."),
          h("ul.fleet-list", sessions.map((session) => signedIn(context, session))))],
      section("Settings", set.length ? h("ul.fleet-list", set.map(setting)) : null,
        closed(`At their defaults: ${usual.length}`, usual.map(setting)))),
  };
}

const parted = (entries, is) => [entries.filter(is), entries.filter((entry) => !is(entry))];

const closed = (text, rows) => h("details", h("summary", text), h("ul.fleet-list", rows));

const setting = ({ name, value, source }) =>
  h("li", h("span.name.mono", `${name} = ${value}`), h("span.spring"), h("span.hint", source));

// Text with code between backquotes.
const coded = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", part) : part));

// Lines of a remedy after the first are text to copy.
function finding({ check, level, what, remedy }) {
  const [advice, ...lines] = remedy?.split("\n") ?? [];
  return notice(level === "problem" ? "error" : "warn", h("strong", `${check}: `), coded(what),
    advice && h("div", "→ ", coded(advice)), lines.length ? h("pre.code", { tabindex: "0" }, lines.join("\n")) : null);
}

function signedIn(context, { id, name, role, opened_at, last_used_at, is_own }) {
  const end = asking(context, { title: "End this session?", text: ["Its pages ask for a token again."], action: "End it" },
    () => del(`/sessions/${id}`), "The session has ended");
  return h("li", h("span.name", name), h("span.tag", role), h("span.spring"),
    h("span.hint", "signed in ", time(opened_at), ", used ", time(last_used_at)),
    is_own ? h("span.tag", "this one") : button("End", end, { kind: "danger", of: `the session of ${name}` }));
}

// The backup goes on while other pages are shown.
function backup() {
  const state = h("span.hint", "Fleets, webhooks and runs with their output, in one file to keep like a password. Settings and secrets are not in it.");
  const progress = h("progress", { "aria-label": "Progress of the backup", hidden: true });
  const make = pressed(async () => {
    const response = await request("POST", "/backup");
    const most = response.headers.get("X-Estimated-Bytes");
    let size = 0;
    const counting = new TransformStream({
      transform(part, out) {
        size += part.length;
        Object.assign(progress, { hidden: false, max: most, value: size });
        state.textContent = `${bytes(size)} of ${bytes(most)} at most`;
        out.enqueue(part);
      },
    });
    try {
      await saveAs("boathook.backup", new Response(response.body.pipeThrough(counting)));
    } catch {
      throw new Error("The backup broke off. Make another one.");
    } finally {
      progress.hidden = true;
    }
    state.textContent = `Made, ${bytes(size)}`;
    say("The backup is made");
  });
  return h("p.actions", button("Make a backup", make), progress, state);
}
