// The output of one vessel of one run, live while it runs, and how its attempts ended.

import { h, update } from "./dom.js";
import { download, get, pollWhileMoving, post, request } from "./api.js";
import { duration, elapsed, shortId, time } from "./format.js";
import { asking, button, crumbs, fact, field, fleetPlace, isOver, notice, page, pressed, select, sentence, status, statusWord } from "./parts.js";
import { TextView } from "./text-view.js";

export async function vesselLog(context) {
  const [runId, id] = context.params;
  const path = `/vessel-runs/${encodeURIComponent(id)}`;
  const [run, first] = await Promise.all([
    get(`/runs/${encodeURIComponent(runId)}`, context.signal),
    get(path, context.signal),
  ]);
  const chosen = Number(context.query.get("attempt")) || null;
  const head = h("div");
  const output = new Output(context, path, id, !isOver(first.status));
  let shownAttempt = 0;
  const draw = async (view) => {
    const attempt = chosen || view.attempt;
    if (attempt !== shownAttempt) output.begin(attempt);
    shownAttempt = attempt;
    const shown = view.attempts.find((entry) => entry.attempt === attempt) || view;
    context.mark(shown.status);
    update(head, heading(context, run, view, shown, attempt));
    await output.more(isOver(shown.status));
    // Done is when nothing more can come: the vessel has ended, and its output is here.
    return !(isOver(view.status) && output.hasEnded);
  };
  await draw(first);
  pollWhileMoving(async () => draw(await get(path, context.signal)), context.signal);
  return { title: `${first.vessel_name} · ${run.fleet_name}`, content: page(head, output.element) };
}

// What an attempt has written, fetched piece by piece.
class Output {
  constructor(context, path, id, isLive) {
    this.context = context;
    this.path = `${path}/output`;
    this.nothing = h("p.hint.nothing");
    this.view = new TextView({
      label: "Output",
      isTerminal: true,
      follows: isLive,
      line: Number(/^#L(\d+)$/.exec(location.hash)?.[1]) || 0,
      tools: [button("Download", pressed(() => download(`${this.path}?attempt=${this.attempt}`, `${id}.${this.attempt}.log`)))],
    });
    this.element = h("div", this.nothing, this.view.element);
  }

  begin(attempt) {
    this.attempt = attempt;
    this.offset = 0;
    this.hasEnded = false;
    this.view.clear();
  }

  // Fetches what is there by now. Only what `isOver` can end.
  async more(isOver) {
    this.hasEnded &&= isOver;
    // A vessel that has not started has no attempt to ask for.
    while (this.attempt && !this.hasEnded) {
      const address = `${this.path}?part=true&attempt=${this.attempt}&offset=${this.offset}`;
      const response = await request("GET", address, { signal: this.context.signal });
      const begins = Number(response.headers.get("X-Output-Offset"));
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (begins > this.offset) this.leftOut(begins - this.offset);
      this.offset = Number(response.headers.get("X-Output-Next"));
      this.hasEnded = response.headers.get("X-Output-Ended") === "true";
      if (bytes.length) this.view.append(bytes);
      else break;
    }
    this.hasEnded ||= !this.attempt;
    const isEmpty = !this.view.index.length;
    this.view.element.hidden = isEmpty;
    this.nothing.hidden = !isEmpty;
    this.nothing.textContent = !this.attempt ? "This vessel has not started, so it has written nothing."
      : this.hasEnded ? "This attempt wrote nothing." : "Nothing written yet. Output appears here as it comes.";
  }

  leftOut(count) {
    this.view.append(new TextEncoder().encode(`\n\x1b[0;7m ${count} bytes were left out here: the vessel wrote more than is kept \x1b[0m\n`));
  }
}

function heading(context, run, view, shown, attempt) {
  const stop = asking(context, {
    title: `Stop ${view.vessel_name}?`,
    text: ["It is told to end (SIGTERM, and SIGKILL if it does not). Whatever comes after it in this run never starts, and the run ends as Terminated."],
    action: "Stop the vessel",
  }, () => post(`/vessel-runs/${view.id}/stop`));
  const attempts = view.attempts.map((entry) => [String(entry.attempt), `${entry.attempt}: ${statusWord(entry.status)}`]);
  return [
    crumbs(fleetPlace(run), [`Run ${shortId(run.id)}`, `/runs/${run.id}`]),
    h("div.heading",
      h("h1", view.vessel_name),
      h("p.hint", h("code", view.id)),
      neighbours(run, view),
      isOver(view.status) ? null : button("Stop", stop, { kind: "danger", needs: "operator" })),
    h("dl.facts",
      fact("Status", status(shown.status)),
      fact("Exit code", shown.exit_code ?? "–"),
      shown.signal == null ? null : fact("Signal", shown.signal),
      fact("Started", time(shown.started_at)),
      fact("Ended", time(shown.ended_at)),
      fact("Duration", duration(elapsed(shown))),
      attempts.length > 1
        ? h("div.fact", field("Attempt", select("attempt", attempts, String(attempt), (event) =>
          context.go(`?attempt=${event.target.value}`))))
        : fact("Attempt", attempt || "–")),
    shown.reason ? notice(shown.status === "Errored" ? "error" : "info", sentence(shown.reason),
      shown.meaning ? ` ${shown.meaning}` : "") : null,
  ];
}

// Links to the vessels before and after this one, in the order of the run.
function neighbours(run, view) {
  const at = run.vessels.findIndex(({ id }) => id === view.id);
  const link = (vessel, name, arrow) => vessel && h("a.button", { rel: name,
    href: `/runs/${run.id}/vessels/${vessel.id}`, "aria-label": `The ${name} vessel, ${vessel.vessel_name}`,
    title: vessel.vessel_name }, arrow);
  return h("p.tools",
    link(run.vessels[at - 1], "previous", "←"), link(run.vessels[at + 1], "next", "→"));
}
