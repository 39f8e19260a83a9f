// The frame around the pages, and which page an address means.

import { append, h, svg } from "./dom.js";
import { closeSession, identify, may, watchSession } from "./api.js";
import { keepTimesTrue } from "./format.js";
import { ask, button, notice, pressed, say } from "./parts.js";
import { signIn } from "./sign-in.js";
import { overview } from "./overview.js";
import { projects } from "./projects.js";
import { starter } from "./starter.js";
import { tokens } from "./tokens.js";
import { fleet } from "./fleet.js";
import { newFleet } from "./new-fleet.js";
import { delivery } from "./delivery.js";
import { run } from "./run.js";
import { secrets } from "./secrets.js";
import { vesselLog } from "./vessel-log.js";

// A page takes a context and returns its title and its content, loaded. The context: `params` of
// the path, `query`, `signal` (aborted when the page is left), `go`, `reload`, and `guard`, which a
// page sets to a function that says whether leaving would lose something.
const ROUTES = [
  [/^\/$/, (context) => (may("reader") ? overview(context) : starter(context))],
  [/^\/new$/, newFleet],
  [/^\/projects$/, projects],
  [/^\/secrets$/, secrets],
  [/^\/tokens$/, tokens],
  [/^\/fleets\/([^/]+)(?:\/([a-z]+))?$/, fleet],
  [/^\/deliveries\/([^/]+)$/, delivery],
  [/^\/runs\/([^/]+)\/vessels\/([^/]+)$/, vesselLog],
  [/^\/runs\/([^/]+)(?:\/([a-z]+))?$/, run],
];

// What the bar leads to besides the overview, and the role that it takes.
const NAVIGATION = [
  ["/new", "New fleet", "author"],
  ["/projects", "Projects", "reader"],
  ["/secrets", "Secrets", "reader"],
  ["/tokens", "Tokens", "admin"],
];

const main = h("main", { id: "main", tabindex: "-1" });
let leave = new AbortController();
let guard = null;

function frame() {
  const logo = svg("svg", { viewBox: "0 0 32 32", class: "logo", "aria-hidden": "true" },
    svg("path", { d: "M12 27V11a5 5 0 0 1 10 0v2M12 15 8 10" }));
  const search = h("form", { class: "search", role: "search", onsubmit: find },
    h("input", { type: "search", name: "id", placeholder: "Find a run by its id",
      "aria-label": "Find a run by its id", autocomplete: "off", spellcheck: "false" }));
  return [
    h("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } },
      "Skip to the content"),
    h("header", { class: "bar" },
      h("a", { href: "/", class: "brand" }, logo, "Boathook"),
      h("nav", { "aria-label": "Pages" },
        h("a", { href: "/", "data-page": "/" }, "Overview"),
        NAVIGATION.map(([href, text, needs]) => h("a", { href, "data-page": href, "data-needs": needs }, text))),
      search,
      h("span", { class: "hint", "data-me": "" }),
      button("Theme", () => dispatchEvent(new Event("boathook:toggle-theme")),
        { kind: "quiet", title: "Switch between light and dark" }),
      button("Sign out", pressed(signOut), { kind: "quiet" })),
    h("div", { class: "progress", hidden: true }),
    main,
  ];
}

async function find(event) {
  event.preventDefault();
  const id = new FormData(event.target).get("id").trim();
  if (!id) return;
  event.target.reset();
  await go(`/runs/${encodeURIComponent(id)}`);
}

async function signOut() {
  await closeSession();
  showSignIn();
}

function showSignIn() {
  leave.abort();
  guard = null;
  document.title = "Sign in · Boathook";
  document.body.classList.add("signed-out");
  main.replaceChildren(signIn(showSignedIn));
}

function showSignedIn() {
  document.body.classList.remove("signed-out");
  if (location.pathname === "/sign-in") history.replaceState(null, "", "/");
  return show();
}

// Leaves for another page, unless that would lose something that is not meant to be lost.
async function go(path, { replace = false } = {}) {
  if (guard?.() && !await ask({
    title: "Leave without saving?",
    text: ["Your changes on this page have not been saved and would be lost."],
    action: "Leave",
  })) return;
  history[replace ? "replaceState" : "pushState"](null, "", path);
  await show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

async function show() {
  if (location.pathname === "/sign-in") return showSignIn();
  leave.abort();
  leave = new AbortController();
  guard = null;
  const { signal } = leave;
  for (const link of document.querySelectorAll("[data-page]")) {
    const isCurrent = link.dataset.page === location.pathname;
    isCurrent ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const progress = document.querySelector(".progress");
  const slow = setTimeout(() => { progress.hidden = false; }, 200);
  try {
    const me = await identify(signal);
    for (const link of document.querySelectorAll("[data-needs]")) link.hidden = !may(link.dataset.needs);
    document.querySelector("[data-me]").textContent = me.name === "admin.token" ? "" : `${me.name} · ${me.role}`;
    const { title, content } = await load(signal);
    if (signal.aborted) return;
    document.title = `${title} · Boathook`;
    main.replaceChildren(content);
  } catch (error) {
    if (signal.aborted || error.status === 401) return;
    document.title = "Boathook";
    main.replaceChildren(failure(error));
  } finally {
    clearTimeout(slow);
    progress.hidden = true;
  }
}

function load(signal) {
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(location.pathname);
    if (match) {
      const params = match.slice(1).map((part) => part && decodeURIComponent(part));
      return page({
        params,
        query: new URLSearchParams(location.search),
        signal,
        go,
        reload: show,
        set guard(losesSomething) { guard = losesSomething; },
      });
    }
  }
  throw Object.assign(new Error("There is no page at this address."), { status: 404 });
}

function failure(error) {
  const title = error.status === 404 ? "Not found" : "This page could not be loaded";
  return h("div", { class: "page" }, h("h1", null, title), notice("error", error.message),
    h("p", { class: "actions" }, button("Try again", show),
      h("a", { href: "/", class: "button" }, "Overview")));
}

function followLinks(event) {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.target) return;
  event.preventDefault();
  go(link.pathname + link.search);
}

append(document.body, frame());
document.addEventListener("click", followLinks);
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.querySelector(".search input").focus();
  }
});
addEventListener("popstate", show);
addEventListener("beforeunload", (event) => { if (guard?.()) event.preventDefault(); });
addEventListener("boathook:signed-out", showSignIn);
watchSession((isOpen) => {
  const isSignedOut = document.body.classList.contains("signed-out");
  if (isOpen && isSignedOut) showSignedIn();
  else if (!isOpen && !isSignedOut) showSignIn();
});
addEventListener("boathook:trouble", ({ detail }) => { if (detail.status !== 401) say(detail.message, "error"); });
keepTimesTrue();
show();
