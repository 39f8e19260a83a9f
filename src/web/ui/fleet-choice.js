// A field for one of the fleets, which the server finds by any part of their names.

import { h } from "./dom.js";
import { found, get } from "./api.js";

const OFFERED = 8;
const nameOf = ({ project_name, name }) => `${project_name}/${name}`;

// Calls `choose` with the id of the fleet that is typed or picked, and with "" when the field is empty. `value`:
// the id of the one to begin with.
export function fleetChoice(choose, { value: id, ...props } = {}) {
  const offered = h("datalist", { id: "offered-fleets" });
  const input = h("input", { type: "search", list: offered.id, ...props });
  input.oninput = async () => {
    const typed = input.value;
    const fleets = typed ? await get(`/fleets?limit=${OFFERED}&name=${encodeURIComponent(typed)}`).catch(() => []) : [];
    // Meanwhile more may have been typed.
    if (typed !== input.value) return;
    offered.replaceChildren(...fleets.map((fleet) => h("option", { value: nameOf(fleet) })));
    const chosen = fleets.find((fleet) => nameOf(fleet) === typed)?.id ?? "";
    input.setCustomValidity(typed && !chosen ? "Choose one of the fleets that are offered." : "");
    if (chosen || !typed) choose(chosen);
  };
  if (id) found(get(`/fleets/${id}`)).then((fleet) => { input.value = fleet ? nameOf(fleet) : id; });
  return h("span", input, offered);
}
