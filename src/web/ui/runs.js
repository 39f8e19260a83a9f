// All runs, with every filter in the address.

import { h } from "./dom.js";
import { page } from "./parts.js";
import { logbook } from "./logbook.js";
import { queue } from "./queue.js";

export const runs = (context) => ({ title: "Runs", content: page(h("h1", "Runs"), queue(context), logbook({ context })) });
