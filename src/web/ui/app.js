// The frame around the pages, and which page an address means.

import { BASE, address, append, h, svg } from "./dom.js";
import { closeSession, identify, may, watchSession } from "./api.js";
import { keepTimesTrue } from "./format.js";
import { SIGNS, ask, button, notice, pressed, say, sentence } from "./parts.js";
import { signIn } from "./sign-in.js";
import { overview } from "./overview.js";
import { projects } from "./projects.js";
import { starter } from "./starter.js";
import { tokens } from "./tokens.js";
import { fleet } from "./fleet.js";
import { newFleet } from "./new-fleet.js";
import { delivery } from "./delivery.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { server } from "./server.js";
import { searchBox } from "./search.js";
import { secrets } from "./secrets.js";
import { vesselLog } from "./vessel-log.js";

// The links of the bar besides the overview: path, text, the role that it takes, page.
const NAVIGATION = [
  ["/runs", "Runs", "reader", runs],
  ["/new", "New fleet", "author", newFleet],
  ["/projects", "Projects", "reader", projects],
  ["/secrets", "Secrets", "reader", secrets],
  ["/tokens", "Tokens", "admin", tokens],
  ["/server", "Server", "server.reader", server],
];

// A page takes a context and returns its title and its content, loaded. The context: `params` of
// the path, `query`, `signal` (aborted when the page is left), `go`, `reload`, `mark`, which shows a status
// in title and icon, and `guard`, which a page sets to a function that says whether leaving would lose
// something. Forms are looked after here.
const ROUTES = [
  [/^\/$/, (context) => (may("reader") ? overview(context) : starter(context))],
  ...NAVIGATION.map(([path, , , page]) => [new RegExp(`^${path}$`), page]),
  [/^\/fleets\/([^/]+)(?:\/([a-z]+))?$/, fleet],
  [/^\/deliveries\/([^/]+)$/, delivery],
  [/^\/runs\/([^/]+)\/vessels\/([^/]+)$/, vesselLog],
  [/^\/runs\/([^/]+)(?:\/([a-z]+))?$/, run],
];

const main = h("main", { id: "main", tabindex: "-1" });
let leave = new AbortController();
let guard = null;

function frame() {
  const logo = svg("svg", { viewBox: "0 0 32 32", class: "logo", "aria-hidden": "true" },
    svg("path", { d: "M12 27V11a5 5 0 0 1 10 0v2M12 15 8 10" }));
  return [
    h("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } },
      "Skip to the content"),
    h("header.bar",
      h("a.brand", { href: "/" }, logo, "Boathook"),
      h("nav", { "aria-label": "Pages" },
        h("a", { href: "/", "data-page": "/" }, "Overview"),
        NAVIGATION.map(([href, text, needs]) => h("a", { href, "data-page": href, "data-needs": needs }, text))),
      searchBox(go),
      h("span.hint", { "data-me": "" }),
      button("Theme", () => dispatchEvent(new Event("boathook:toggle-theme")),
        { kind: "quiet", title: "Switch between light and dark" }),
      button("Sign out", pressed(signOut), { kind: "quiet" })),
    h("p.banner", { role: "alert", hidden: true }),
    h("div.progress", { hidden: true }),
    main,
  ];
}

async function signOut() {
  if (!await mayLeave()) return;
  await closeSession();
  showSignIn();
}

function showSignIn() {
  leave.abort();
  guard = null;
  kept = [];
  mark(null);
  document.title = "Sign in · Boathook";
  document.body.classList.add("signed-out");
  main.replaceChildren(signIn(showSignedIn));
}

function showSignedIn() {
  document.body.classList.remove("signed-out");
  if (here() === "/sign-in") history.replaceState(history.state, "", address("/"));
  return show();
}

// Lets a person sign in again over the page, which stays as it is. Whether that came about.
let signingIn = null;
function signInOver() {
  signingIn ??= new Promise((resolve) => {
    const dialog = h("dialog.over", { "aria-label": "Your session has ended" },
      h("p.hint", "Your session has ended. Nothing on this page is lost: sign in, and go on."),
      signIn(async () => { await identify(); dialog.returnValue = "in"; dialog.close(); }));
    dialog.onclose = () => {
      dialog.remove();
      signingIn = null;
      resolve(dialog.returnValue === "in");
    };
    document.body.append(dialog);
    dialog.showModal();
  });
  return signingIn;
}

// Fields of the page and what they had when it was shown.
let kept = [];
const keep = () => {
  const fields = main.querySelectorAll("form:not(.filters):not(.card) :is(input, textarea, select)");
  kept = [...fields].map((control) => [control, control.value]);
};
const edits = () => kept.filter(([control, value]) => control.isConnected && control.value !== value);
const hasEdits = () => Boolean(guard?.() || edits().length);

const mayLeave = async () => !hasEdits() || Boolean(await ask({
  title: "Leave without saving?",
  text: ["Your changes on this page have not been saved and would be lost."],
  action: "Leave",
}));

// The path of the page that is shown.
const here = () => location.pathname.slice(BASE.length) || "/";
// A browser that comes past the proxy goes on below BASE: the cookie of its session is for paths there.
if (!`${location.pathname}/`.startsWith(`${BASE}/`)) history.replaceState(history.state, "", BASE + location.pathname + location.search + location.hash);

// The place of the page in the history of the tab, so that a step back can be taken back.
let place = history.state?.place ?? 0;
history.replaceState({ place }, "");

// Leaves for another page, unless that would lose an edit.
async function go(path, { replace = false } = {}) {
  if (!await mayLeave()) return;
  if (!replace) place += 1;
  history[replace ? "replaceState" : "pushState"]({ place }, "", address(path));
  await show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// A step in the history. One that would lose an edit is taken back and asked about.
let isTakingBack = false;
async function stepped() {
  if (isTakingBack) {
    isTakingBack = false;
    return;
  }
  const step = (history.state?.place ?? 0) - place;
  const dialog = document.querySelector("dialog");
  if (!dialog && !hasEdits()) {
    place += step;
    return show();
  }
  const wanted = location.href;
  isTakingBack = true;
  history.go(-step);
  if (dialog) return;
  await new Promise((resume) => { addEventListener("popstate", resume, { once: true }); });
  if (!await mayLeave()) return;
  guard = null;
  kept = [];
  if (step) history.go(step);
  else location.assign(wanted);
}

async function show() {
  if (here() === "/sign-in") return showSignIn();
  leave.abort();
  leave = new AbortController();
  guard = null;
  const { signal } = leave;
  for (const link of document.querySelectorAll("[data-page]")) {
    link.ariaCurrent = link.dataset.page === here() ? "page" : null;
  }
  const progress = document.querySelector(".progress");
  const slow = setTimeout(() => { progress.hidden = false; }, 200);
  mark(null);
  try {
    const me = await identify(signal);
    for (const link of document.querySelectorAll("[data-needs]")) link.hidden = !may(link.dataset.needs);
    document.querySelector("[data-me]").textContent = me.name === "admin.token" ? "" : `${me.name} · ${me.role}`;
    const { title, content } = await load(signal);
    if (signal.aborted) return;
    pageTitle = title;
    mark(pageState);
    main.replaceChildren(content);
    keep();
  } catch (error) {
    if (signal.aborted || error.status === 401) return;
    pageTitle = "Not found";
    mark(null);
    main.replaceChildren(failure(error));
  } finally {
    clearTimeout(slow);
    progress.hidden = true;
  }
}

// Shows the page again, after something was saved. What is being edited elsewhere on it stays.
async function reload() {
  const own = document.activeElement?.form;
  const named = (control) => `${control.form?.dataset.name ?? ""} ${control.name}`;
  const others = edits().filter(([control]) => control.form !== own);
  kept = kept.filter(([control]) => control.form !== own);
  await show();
  for (const [former] of others) {
    const control = kept.map(([it]) => it).find((it) => named(it) === named(former));
    if (!control) continue;
    control.value = former.value;
    control.closest("details")?.setAttribute("open", "");
  }
}

let pageTitle = "Boathook";
let pageState = null;
// Shows the state of what the page is about in its title and its icon.
function mark(state) {
  pageState = state;
  const sign = state ? `${SIGNS[state]} ` : "";
  document.title = pageTitle === "Boathook" ? pageTitle : `${sign}${pageTitle} · Boathook`;
  const icon = document.querySelector("link[rel=icon]");
  plainIcon ??= icon.href;
  const tone = TONES[state];
  const drawn = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1d5fb4"/><path d="M12 27V11a5 5 0 0 1 10 0v2M12 15 8 10" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/><circle cx="23" cy="23" r="8" fill="${tone}" stroke="#fff" stroke-width="2"/></svg>`;
  const wanted = tone ? `data:image/svg+xml,${encodeURIComponent(drawn)}` : plainIcon;
  if (icon.href !== wanted) icon.href = wanted;
}
let plainIcon = null;
const TONES = { Success: "#1a7442", Errored: "#d3271c", Terminated: "#c47a00", Running: "#4d9bff", Retrying: "#4d9bff" };

// Pages that ask for nothing by themselves notice as well when the server is back.
let asking = 0;
async function askAgain() {
  try {
    await fetch(address("/healthz"), { cache: "no-store" });
    showReach(true);
  } catch {
    asking = setTimeout(askAgain, 3000);
  }
}

// One line at the top while the server cannot be reached.
function showReach(isReached) {
  document.body.classList.toggle("unreached", !isReached);
  const banner = document.querySelector(".banner");
  if (banner.hidden === isReached) return;
  banner.hidden = isReached;
  clearTimeout(asking);
  if (!isReached) asking = setTimeout(askAgain, 3000);
  banner.textContent = isReached ? "" : "The server does not answer. What you see is as it was; this page goes on by itself when the server is back.";
}

function load(signal) {
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(here());
    if (match) {
      const params = match.slice(1).map((part) => part && decodeURIComponent(part));
      return page({
        params,
        query: new URLSearchParams(location.search),
        signal,
        go,
        reload,
        mark,
        set guard(losesSomething) { guard = losesSomething; },
      });
    }
  }
  throw Object.assign(new Error("There is no page at this address."), { status: 404 });
}

function failure(error) {
  const title = error.status === 404 ? "Not found" : "This page could not be loaded";
  return h("div.page", h("h1", title), notice("error", sentence(error.message)),
    h("p.actions", button("Try again", show),
      h("a.button", { href: "/" }, "Overview")));
}

function followLinks(event) {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.target || !link.pathname.startsWith(`${BASE}/`)) return;
  event.preventDefault();
  go(link.pathname.slice(BASE.length) + link.search);
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
addEventListener("popstate", stepped);
addEventListener("beforeunload", (event) => { if (hasEdits()) event.preventDefault(); });
addEventListener("boathook:reach", ({ detail }) => showReach(detail));
addEventListener("boathook:signed-out", ({ detail }) => {
  // While nothing is shown yet there is nothing to keep.
  if (!main.firstChild || document.body.classList.contains("signed-out")) showSignIn();
  else detail.again = signInOver();
});
watchSession((isOpen) => {
  const isSignedOut = document.body.classList.contains("signed-out");
  if (isOpen && isSignedOut) showSignedIn();
  else if (!isOpen && !isSignedOut && !hasEdits()) showSignIn();
});
addEventListener("boathook:trouble", ({ detail }) => {
  // The banner says that the server does not answer.
  if (detail.status !== 401 && detail.status !== 0) say(sentence(detail.message), "error");
});
keepTimesTrue();
show();
