// The versions of a fleet: what each changed, and going back to one.

import { h } from "./dom.js";
import { get, ifAt, may, post } from "./api.js";
import { time } from "./format.js";
import { asking, button, pressed } from "./parts.js";
import { difference } from "./diff.js";

const PAGE = 50;

export async function versions(context, view) {
  const shown = h("ol.versions", { reversed: true });
  const more = h("p.actions");
  const load = async (before = "") => {
    // One more than is shown: the last of a page is compared with it.
    const list = await get(`/fleets/${view.id}/versions?limit=${PAGE + 1}${before}`, context.signal);
    const page = list.slice(0, PAGE);
    shown.append(...page.map((version, at) => entry(context, view, version, list[at + 1])));
    const last = page.at(-1)?.version;
    const older = button("Older versions", pressed(() => load(`&before=${last}`)));
    more.replaceChildren(...(list.length > PAGE ? [older] : []));
  };
  await load();
  return [
    h("p.hint", "Every save makes a version. Runs keep the version they were accepted with."),
    shown,
    more,
  ];
}

function entry(context, view, version, before) {
  const revert = asking(context, {
    title: `Go back to version ${version.version}?`,
    text: [`The fleet gets a new version with the content of version ${version.version}. No version is lost; runs under way keep theirs.`],
    action: "Go back",
    isDanger: false,
  }, () => post(`/fleets/${view.id}/versions/${version.version}/revert`, undefined, ifAt(view.version)), `The fleet is as it was in version ${version.version}`);
  return h("li", h("details", { open: version.current },
    h("summary", h("strong", `Version ${version.version}`), " ", time(version.created_at),
      version.current ? h("span.tag", "current") : null),
    h("div.tools",
      h("span.hint", before ? `What changed since version ${before.version}` : "The oldest version, as a whole"),
      h("span.spring"),
      may("author") ? h("a.button", { href: `/new?from=${view.id}&version=${version.version}` }, "New fleet from this version") : null,
      version.current ? null : button("Go back to this version", revert, { needs: "author" })),
    before ? difference(before.yaml, version.yaml) : h("pre.code", { tabindex: "0" }, version.yaml)));
}
