// All runs, with every filter in the address.

import { h } from "./dom.js";
import { list } from "./api.js";
import { empty, page } from "./parts.js";
import { logbook } from "./logbook.js";

export async function runs(context) {
  const fleets = await list("/fleets", context.signal);
  return {
    title: "Runs",
    content: page(h("h1", null, "Runs"), logbook({ context, fleets, whenEmpty: empty("No runs yet",
      "Runs appear here as soon as a webhook is called, a schedule is due, or a person presses Run now on a fleet.") })),
  };
}
