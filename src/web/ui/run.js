// One run: what became of it, live; what it was sent; stopping and repeating it.

import { address, h, update } from "./dom.js";
import { found, get, pollWhileMoving, post, sendYaml } from "./api.js";
import { duration, elapsed, plural, shortId, time } from "./format.js";
import { ask, asking, button, copyButton, crumbs, fact, field, fleetPlace, given, isOver, link, notice, page, pressed, runLink, section, select, sentence, start, status, statusWord, tabs, trigger } from "./parts.js";
import { LastLines } from "./last-lines.js";
import { Attempts, gantt } from "./gantt.js";
import { graph } from "./graph.js";
import { parameters } from "./parameters.js";

export async function run(context) {
  const [named, tab = "overview"] = context.params;
  const first = await get(`/runs/${encodeURIComponent(named)}`, context.signal);
  // A part of an id has led here.
  if (named !== first.id) history.replaceState(history.state, "", address(`/runs/${first.id}`));
  const head = h("div");
  const isOverview = tab !== "parameters";
  const body = isOverview ? h("div.stack") : h("div.stack", await parameters(context, first));
  const version = isOverview ? await versionOf(first, context.signal) : null;
  const logs = new LastLines(context);
  const attempts = new Attempts(context.signal);
  const draw = async (view) => {
    context.mark(view.status);
    update(head, heading(context, view, isOverview ? "overview" : "parameters"));
    if (isOverview) {
      await Promise.all([attempts.learn(view), logs.load(view.vessels)]);
      update(body, details(view, version, attempts, logs));
    }
    return !isOver(view.status);
  };
  if (await draw(first)) pollWhileMoving(async () => draw(await get(`/runs/${first.id}`, context.signal)), context.signal);
  return { title: `${first.fleet_name} · Run ${shortId(first.id)}`, content: page(head, body) };
}

// The paths of the version that the run holds; null when the fleet has been deleted since.
async function versionOf(view, signal) {
  try {
    const { yaml } = await get(`/fleets/${view.fleet_id}/versions/${view.fleet_version}`, signal);
    return await sendYaml("POST", "/fleets/check", yaml);
  } catch (error) {
    if (error.status === 404 || error.status === 403) return null;
    throw error;
  }
}

function heading(context, view, tab) {
  const stop = asking(context, {
    title: "Stop this run?",
    text: ["Vessels that run are told to end (SIGTERM, and SIGKILL if they do not); those that wait never start. The run ends as Terminated."],
    action: "Stop the run",
  }, () => post(`/runs/${view.id}/stop`));
  return [
    crumbs(fleetPlace(view)),
    h("div.heading",
      h("h1", "Run ", h("span.id", shortId(view.id))),
      h("p.hint", h("code", view.id), " ", copyButton(view.id, "the id")),
      isOver(view.status)
        ? button("Replay", pressed(() => replay(context, view)), { needs: "operator" })
        : button("Stop", stop, { kind: "danger", needs: "operator" })),
    h("dl.facts",
      fact("Status", status(view.status)),
      fact("Trigger", trigger(view.trigger)),
      fact("Version", link(view.fleet_version, fleetPlace(view, "/versions")[1])),
      fact("Vessels", view.vessels.length),
      fact("Queued", time(view.queued_at)),
      fact("Started", time(view.started_at)),
      fact("Ended", time(view.ended_at)),
      fact("Duration", duration(elapsed(view))),
      given("Key", view.concurrency_key, (it) => h("code", it)),
      given("Waits until", view.waits_until, time),
      given("Event", view.event?.type || view.event?.id),
      given("Event id", view.event?.type && view.event.id),
      given("First run of the event", view.first_run, runLink),
      given("Delivery", view.delivery_id, (id) => runLink(id, "deliveries")),
      given("Replay of", view.replay_of, runLink)),
    view.note ? notice("info", [view.note.reason, view.note.detail].filter(Boolean).join(": ")) : null,
    view.reason ? notice(view.status === "Errored" ? "error" : "info", `${statusWord(view.status)}: ${view.reason}`) : null,
    (view.notifications || []).map(untold),
    tabs("Parts of the run", tab, [["overview", "Overview", `/runs/${view.id}`],
      ["parameters", "Webhook Parameters", `/runs/${view.id}/parameters`]]),
  ];
}

async function replay(context, view) {
  const now = (await found(get(`/fleets/${view.fleet_id}`)))?.version;
  const version = now == null ? `The fleet has been deleted: the new run takes version ${view.fleet_version}, as this one did.`
    : now === view.fleet_version ? `The new run takes version ${now} of the fleet, as this one did.`
    : `The new run takes version ${now} of the fleet, which is the current one; this run took version ${view.fleet_version}.`;
  const values = await ask({
    title: "Replay this run?",
    text: ["A new run starts, with the request that this one was started with. This one stays as it is.", version],
    fields: [field("Begin", select("from", [["", "at the first vessel"],
      ...view.vessels.map(({ vessel_name }) => [vessel_name, `at ${vessel_name}, skipping what is before it`])], ""))],
    action: "Replay",
    isDanger: false,
  });
  if (!values) return;
  const from = values.get("from");
  await start(context, `/runs/${view.id}/replay`, from ? { from } : {});
}

function details(view, version, attempts, logs) {
  const hrefOf = ({ id }) => `/runs/${view.id}/vessels/${id}`;
  const byName = new Map(view.vessels.map((vessel) => [vessel.vessel_name, vessel]));
  return [
    h("section", { "aria-label": "What went wrong" }, logs.shown(view, hrefOf)),
    h("section", { "aria-label": "When each vessel ran" }, h("h2", plural(view.vessels.length, "vessel")),
      gantt(view, attempts, version?.definition?.connections, hrefOf)),
    reasons(view),
    version?.definition ? section("Graph",
      graph(version.definition.vessels, version.definition.connections, ({ name }) => {
        const vessel = byName.get(name);
        return vessel ? { status: vessel.status, href: hrefOf(vessel), note: noteOn(vessel) } : {};
      })) : null,
  ];
}

function reasons(view) {
  // Of those that failed, the reason stands with their output.
  const vessels = view.vessels.filter(({ reason, status: name }) => reason && name !== "Errored");
  return vessels.length ? h("ul.reasons", vessels.map((vessel) =>
    h("li", { "data-key": vessel.id }, h("strong", vessel.vessel_name), ": ", sentence(vessel.reason)))) : null;
}

// Whom a notification is for, by its place in the fleet's file.
function recipientName(recipient) {
  if ("entry" in recipient) return `entry ${recipient.entry + 1} of notify`;
  if ("fleet_email" in recipient) return `e-mail address ${recipient.fleet_email + 1} of the fleet`;
  return `e-mail address ${recipient.vessel_email.email + 1} of vessel ${recipient.vessel_email.vessel + 1}`;
}

// A notification of the run's end that has not arrived.
function untold({ recipient, attempts, problem, next_attempt_at }) {
  const tries = attempts ? `${plural(attempts, "try", "tries")} so far. ` : "";
  return notice(next_attempt_at ? "warn" : "error",
    h("strong", next_attempt_at ? "Not told yet" : "Not told, and given up"), `: ${recipientName(recipient)}. `, tries,
    next_attempt_at && attempts ? ["Next try ", time(next_attempt_at), ". "] : "", problem ? sentence(problem) : "");
}

function noteOn(vessel) {
  const parts = [statusWord(vessel.status)];
  if (vessel.attempt > 1) parts.push(`attempt ${vessel.attempt}`);
  const took = elapsed(vessel);
  if (took != null) parts.push(duration(took));
  return parts.join(" · ");
}
