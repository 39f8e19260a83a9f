// Signing in: with a token, or by a one-time link, whose secret is in the fragment.

import { h } from "./dom.js";
import { openSession } from "./api.js";
import { notice } from "./parts.js";

export function signIn(signedIn) {
  const problem = h("div");
  const token = h("input", { type: "password", name: "token", autocomplete: "current-password",
    required: true, "aria-describedby": "token-hint" });
  const submit = h("button.button.primary", "Sign in");

  const enter = async (proof) => {
    submit.disabled = true;
    try {
      await openSession(proof);
      await signedIn();
    } catch (error) {
      problem.replaceChildren(notice("error", error.message));
      token.select();
    } finally {
      submit.disabled = false;
    }
  };

  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  if (link) {
    history.replaceState(history.state, "", location.pathname);
    enter({ link });
  }

  return h("div.page.sign-in",
    h("h1", "Sign in to Boathook"),
    h("form.card", { onsubmit: (event) => { event.preventDefault(); enter({ token: token.value }); } },
    // Password managers want a name to go with a password.
    h("input", { type: "text", name: "username", value: "admin", autocomplete: "username", hidden: true }),
    h("label.field", h("span", "Token"), token),
    h("p.hint", { id: "token-hint" }, "Your own, or the one in the file ", h("code", "admin.token"),
      " of the server’s data directory. Or run ", h("code", "boathook open"),
      " on the server and follow the link it prints."),
    problem,
    submit));
}
