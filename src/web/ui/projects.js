// Projects: groups of fleets, each with a time zone.

import { h } from "./dom.js";
import { del, list, post, put } from "./api.js";
import { plural } from "./format.js";
import { ask, asking, button, field, page, pressed, say } from "./parts.js";

export async function projects(context) {
  const all = await list("/projects", context.signal);
  const add = pressed(async () => {
    const values = await form("Make a project", { name: "", time_zone: "UTC" });
    if (!values) return;
    await post("/projects", values);
    await context.reload();
    say(`${values.name} is made`);
  });
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
  const change = pressed(async () => {
    const values = await form(`Change ${project.name}`, project);
    if (!values) return;
    await put(`/projects/${project.id}`, values);
    await context.reload();
    say(`${values.name} is saved`);
  });
  const remove = asking(context, { title: `Delete ${project.name}?`, text: ["It has no fleets. The history of its former fleets stays."], action: "Delete" },
    () => del(`/projects/${project.id}`), `${project.name} is gone`);
  return h("li", null,
    h("a.name", { href: `/?project=${project.id}` }, project.name),
    h("span.hint", project.time_zone),
    h("span.spring"),
    h("span.hint", plural(project.fleets, "fleet")),
    button("Change", change, { "aria-label": `Change ${project.name}`, needs: "server.author" }),
    project.fleets ? null : button("Delete", remove, { kind: "danger", "aria-label": `Delete ${project.name}`, needs: "server.author" }));
}

// The values of a form for a project; null when it is called off.
async function form(title, project) {
  const input = (name, value, props) => h("input", { name, value, required: true, ...props });
  const values = await ask({
    title,
    text: [],
    fields: [
      field("Name", input("name", project.name, { maxlength: 200 })),
      field("Time zone", input("time_zone", project.time_zone, { placeholder: "Europe/Berlin" }), "An IANA name. A changed one counts from the next start and the next due time on."),
    ],
    action: "Save",
    isDanger: false,
  });
  return values && { name: values.get("name").trim(), time_zone: values.get("time_zone").trim() };
}
