// Tokens: who may do what, and who has done what.

import { h } from "./dom.js";
import { del, get, isLimited, list, may, post } from "./api.js";
import { time } from "./format.js";
import { ask, asking, button, empty, field, heads, page, pressed, section, select, showOnce } from "./parts.js";
import { fleetChoice } from "./fleet-choice.js";

const ROLES = [
  ["trigger", "Trigger: starts fleets, sees the status of their runs"],
  ["reader", "Reader: sees everything but the URLs of webhooks"],
  ["operator", "Operator: also starts, stops and replays runs"],
  ["author", "Author: also changes fleets, webhooks and secrets"],
  ["admin", "Admin: everything"],
];
const LIVES = [["", "Never"], ["30", "In 30 days"], ["90", "In 90 days"], ["365", "In a year"]];
const AUDIT_SHOWN = 50;

export async function tokens(context) {
  const all = await list("/tokens", context.signal);
  const tools = button("Make a token", pressed(() => create(context)), { kind: "primary" });
  return {
    title: "Tokens",
    content: page(
      h("div.heading", h("h1", "Tokens"), h("span.spring"), all.length ? tools : null),
      h("p.hint", "For other people and for programs: each has a role, and may have a limit and an end. Nothing shows a token again."),
      all.length
        ? h("ul.fleet-list", { "aria-label": "Tokens" }, all.map((token) => row(context, token)))
        : empty("No tokens yet", "Until there is one, the token in admin.token of the data directory is the only one.", tools),
      may("server.admin") ? await audit(context) : null),
  };
}

// What a token is limited to, in words.
function limit({ project_id, project_name, fleet_id, fleet_name }) {
  if (fleet_id) return fleet_name ? `${project_name}/${fleet_name}` : "a deleted fleet";
  if (project_id) return project_name ? `project ${project_name}` : "a deleted project";
  return "";
}

function row(context, token) {
  const revoke = asking(context, {
    title: `Revoke ${token.name}?`,
    text: ["It opens nothing any more, and its sessions and streams end at once. Runs that it has started go on."],
    action: "Revoke",
  }, () => del(`/tokens/${token.id}`), `${token.name} is revoked`);
  const end = token.is_expired ? h("span.tag", "expired") : token.expires_at ? ["expires ", time(token.expires_at)] : null;
  return h("li",
    h("span.name", token.name),
    h("span.tag", token.role),
    h("span.hint", limit(token)),
    h("span.spring"),
    h("span.hint", end),
    h("span.hint", token.last_used_at ? ["used ", time(token.last_used_at)] : "never used"),
    button("Revoke", revoke, { kind: "danger", of: token.name }));
}

async function create(context) {
  const projects = (await list("/projects", context.signal)).map(({ id, name }) => [id, `Project ${name}`]);
  const limits = isLimited() ? projects : [["", "Nothing"], ...projects];
  let fleet = "";
  const values = await ask({
    title: "Make a token",
    fields: [
      field("Name", h("input", { name: "name", required: true, maxlength: 200 }),
        "By which this list and the audit know its holder."),
      field("Role", select("role", ROLES, "reader"), "An author can have the server run any program."),
      field("Limited to", select("limit", limits, "")),
      field("Fleet", fleetChoice((id) => { fleet = id; }, { placeholder: "All of these" }), "Limits it to one fleet."),
      field("Expires", select("days", LIVES, "")),
    ],
    action: "Make",
    isDanger: false,
  });
  if (!values) return;
  const body = { name: values.get("name").trim(), role: values.get("role") };
  if (fleet) body.fleet_id = fleet;
  else if (values.get("limit")) body.project_id = values.get("limit");
  if (values.get("days")) body.expires_in_seconds = Number(values.get("days")) * 86400;
  const { token } = await post("/tokens", body);
  await showOnce(`The token of ${body.name}`, "only its holder can read it", token, "the token");
  await context.reload();
}

// What was done lately, the latest first.
async function audit(context) {
  const body = h("tbody");
  let last = "";
  const more = async () => {
    const entries = await get(`/audit?limit=${AUDIT_SHOWN}${last && `&before=${last}`}`, context.signal);
    last = entries.at(-1)?.id ?? last;
    older.hidden = entries.length < AUDIT_SHOWN;
    body.append(...entries.map((entry) => h("tr",
      h("td", time(entry.at)),
      h("td", entry.by, entry.session ? h("span.hint", " in a page") : null),
      h("td", entry.action, " ", h("strong", entry.object)),
      h("td.hint", entry.remote_addr))));
  };
  const older = button("Older", pressed(more));
  await more();
  return section("Audit",
    h("div.table", h("table", heads("When", "Token", "What", "From"), body)),
    h("p.actions", older));
}
