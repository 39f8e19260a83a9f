// The secrets that the server keeps: names and uses; a value is shown once, when it was generated here.

import { h } from "./dom.js";
import { del, get, list, request } from "./api.js";
import { time } from "./format.js";
import { asking, button, empty, field, notice, page, showOnce } from "./parts.js";

export const NAME = "[A-Za-z0-9_.\\-]{1,64}";

export async function secrets(context) {
  const [kept, missing] = await Promise.all([
    list("/secrets", context.signal),
    get("/secrets?missing=true&limit=1000", context.signal),
  ]);
  const tools = [
    button("Set a secret", set(context), { kind: "primary", needs: "server.author" }),
    button("Generate one", generate(context), { needs: "server.author" }),
  ];
  const hint = "Vessels get them as variables, webhooks verify their senders with them. Fleet files name them and hold no value. Nothing shows a value again.";
  return {
    title: "Secrets",
    content: page(
      h("div.heading", h("h1", "Secrets"), h("span.spring"), kept.length ? tools : null),
      h("p.hint", hint),
      missing.map((secret) => notice("warn", h("strong", secret.name), " is missing: ", users(secret), " needs it. ",
        button("Set it", set(context, secret.name), { needs: "server.author" }))),
      kept.length
        ? h("ul.fleet-list.secrets", { "aria-label": "Secrets" }, kept.map((secret) => row(context, secret)))
        : empty("No secrets yet", "Set what a vessel needs to sign in elsewhere, or generate what a sender signs its requests with.", tools)),
  };
}

function row(context, secret) {
  const { name } = secret;
  const actions = secret.read_only ? h("span.tag", "read-only") : [
    button("Replace", set(context, name, "Replace"), { of: name, needs: "server.author" }),
    button("Generate", generate(context, name), { of: name, needs: "server.author" }),
    button("Remove", remove(context, secret), { kind: "danger", of: name, needs: "server.author" }),
  ];
  return h("li",
    h("span.name.mono", name),
    h("span.hint", isUsed(secret) ? ["used by ", users(secret)] : "not in use"),
    h("span.spring"),
    h("span.hint", "set ", time(secret.set_at)),
    h("span.tools", actions));
}

const isUsed = ({ fleets, settings }) => fleets.length + settings.length > 0;

// What names the secret, with links to fleets.
function users({ fleets, settings }) {
  const named = [
    ...fleets.map(({ id, name }) => h("a", { href: `/fleets/${id}` }, name)),
    ...settings.map((setting) => h("code", setting)),
  ];
  return named.flatMap((node, index) => (index ? [", ", node] : [node]));
}

const nameInput = (name) =>
  h("input", { name: "name", value: name ?? "", required: true, pattern: NAME, readonly: name != null,
    placeholder: "GITHUB_HOOK", title: "Letters, digits, _, . and -, at most 64" });

export const putSecret = (name, body) =>
  request("PUT", `/secrets/${encodeURIComponent(name)}`, { body, type: "application/octet-stream" });

function set(context, name, action = "Set") {
  const question = () => {
    // Hidden like a password, but with lines: keys have several.
    const value = h("textarea.mono.veiled", { name: "value", rows: 3, required: true, autofocus: name != null,
      "data-1p-ignore": "" });
    return {
      title: `${action} ${name ?? "a secret"}`,
      text: ["The value counts from the next request and the next start of a vessel on."],
      fields: [field("Name", nameInput(name)), field("Value", value, "Not shown, now or later. A line end at its end is no part of it.")],
      action,
      isDanger: false,
      perform: (given) => putSecret(given.get("name"), value.value),
    };
  };
  return asking(context, question, null, (values) => `${values.get("name")} is set`);
}

function generate(context, name) {
  return asking(context, () => ({
    title: name ? `Generate a new ${name}?` : "Generate a secret",
    text: [name
      ? "The value that it has is replaced. A sender that signs with it is refused until it has the new one."
      : "A random value of 256 bits. It is shown once, so that you can copy it to where a sender asks for its secret."],
    fields: [field("Name", nameInput(name))],
    action: "Generate",
    isDanger: name != null,
  }), async (values) => {
    const value = random();
    await putSecret(values.get("name"), value);
    await showOnce(`${values.get("name")} is set`, "the sender asks for its secret", value, "the secret");
  });
}

// 256 random bits in URL-safe Base64.
export function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function remove(context, secret) {
  const needed = isUsed(secret)
    ? [h("strong", "It is in use by "), users(secret), h("strong", ": what needs it fails from now on.")]
    : "No fleet names it.";
  return asking(context, {
    title: `Remove ${secret.name}?`,
    text: ["Its value is gone for good.", needed],
    action: isUsed(secret) ? "Remove it all the same" : "Remove",
  }, () => del(`/secrets/${encodeURIComponent(secret.name)}${isUsed(secret) ? "?force=true" : ""}`), `${secret.name} is gone`);
}
