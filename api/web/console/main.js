// The console: who is signed in, and which view is shown. A view is a function that fills the page
// and returns what ends it.

import { Lost } from "../lib/api.js";
import { $, h, setText, show } from "../lib/dom.js";
import { healthView } from "./health.js";
import { saleView } from "./sale.js";
import { salesView } from "./sales.js";
import { api, operator, signIn, signOut, whenRefused } from "./session.js";

let end = () => {};

export function link(state) {
  $("link").dataset.state = state;
  setText($("link"), { live: "Connected", lost: "Connection lost, trying again", out: "Not signed in" }[state]);
}

function signInView(view, wrong = "") {
  const field = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-wrong token-hint", "aria-invalid": wrong !== "" ? "true" : null });
  const form = h("form", { class: "sign-in card", novalidate: true },
    h("h1", {}, "Operator's console"),
    h("div", { class: "field" },
      h("label", { for: "token" }, "Operator token"),
      field,
      h("span", { class: "wrong", id: "token-wrong", role: "alert" }, wrong),
      h("span", { class: "hint", id: "token-hint" }, "It stays in this tab and is forgotten when the tab is closed.")),
    h("button", { class: "button main", type: "submit" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    signIn(field.value.trim());
    try {
      await api("GET", "/v1/stats");
      route();
    } catch (error) {
      signOut();
      const why = error instanceof Lost ? "The server cannot be reached. Try again."
        : error.status === 401 ? "The server does not know this token." : error.message;
      signInView(view, why);
      $("token").focus();
    }
  });
  show(view, form);
  field.focus();
  return () => {};
}

// The SKU in an address that somebody may have typed; empty when it is none.
function named(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function route() {
  end();
  const view = $("view");
  const signedIn = operator() !== null;
  $("tabs").hidden = $("leave").hidden = !signedIn;
  link(signedIn ? "live" : "out");
  if (!signedIn) {
    end = signInView(view);
    return;
  }
  const [, where = "", sku = ""] = location.hash.split("/");
  for (const tab of $("tabs").children) {
    const health = tab.hash === "#/health";
    if (health === (where === "health")) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  show(view);
  if (where === "health") end = healthView(view, { link });
  else if (where === "sales" && named(sku)) end = saleView(view, named(sku), { link });
  else end = salesView(view, { link });
}

$("leave").addEventListener("click", () => {
  signOut();
  route();
});
whenRefused(() => {
  if (operator() === null) return;
  signOut();
  end();
  route();
});
addEventListener("hashchange", () => {
  route();
  $("view").focus({ preventScroll: true });
});
route();
