// Projects: groups of fleets, each with a time zone.

import { h } from "./dom.js";
import { del, list, post, put } from "./api.js";
import { plural } from "./format.js";
import { asking, button, field, page } from "./parts.js";

export async function projects(context) {
  const all = await list("/projects", context.signal);
  const add = saving(context, "Make a project", { name: "", time_zone: "UTC" }, (values) => post("/projects", values), "made");
  return {
    title: "Projects",
    content: page(
      h("div.heading", h("h1", "Projects"), h("span.spring"),
        button("Make a project", add, { kind: "primary", needs: "server.author" })),
      h("p.hint", "A project groups fleets. Their vessels and their schedules go by its time zone."),
      h("ul.fleet-list", { "aria-label": "Projects" }, all.map((project) => row(context, project)))),
  };
}

function row(context, project) {
  const change = saving(context, `Change ${project.name}`, project, (values) => put(`/projects/${project.id}`, values), "saved");
  const remove = asking(context, { title: `Delete ${project.name}?`, text: ["It has no fleets. The history of its former fleets stays."], action: "Delete" },
    () => del(`/projects/${project.id}`), `${project.name} is gone`);
  return h("li",
    h("a.name", { href: `/?project=${project.id}` }, project.name),
    h("span.hint", project.time_zone),
    h("span.spring"),
    h("span.hint", plural(project.fleets, "fleet")),
    button("Change", change, { of: project.name, needs: "server.author" }),
    project.fleets ? null : button("Delete", remove, { kind: "danger", of: project.name, needs: "server.author" }));
}

// Asks for what a project has, and sends it.
function saving(context, title, project, send, done) {
  const input = (name, props) => h("input", { name, value: project[name], required: true, ...props });
  const given = (values, name) => values.get(name).trim();
  return asking(context, () => ({
    title,
    fields: [
      field("Name", input("name", { maxlength: 200 })),
      field("Time zone", input("time_zone", { placeholder: "Europe/Berlin" }), "An IANA name. A changed one counts from the next start and the next due time on."),
    ],
    action: "Save",
    isDanger: false,
  }), (values) => send({ name: given(values, "name"), time_zone: given(values, "time_zone") }), (values) => `${given(values, "name")} is ${done}`);
}
