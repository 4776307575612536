// Why a customer's purchase went as it did, told from the log by the server.

import { h, show } from "../lib/dom.js";
import { clockTime, count, units } from "../lib/format.js";
import { wordsFor } from "../lib/words.js";
import { api } from "./session.js";

const said = (word) => word.replaceAll("_", " ");

function story(e) {
  const tally = (t) => `${count(t.purchases)} of ${units(t.units)}`;
  return h("div", { class: "told" },
    h("p", { class: "found" }, e.outcome),
    h("p", { class: "soft small" }, h("code", {}, e.purchase), `, ${units(e.quantity)}, ${said(e.status)}. The sale then: ${count(e.before.available)} available, ${count(e.before.held)} held, ${count(e.before.sold)} sold, ${count(e.before.waiting)} in line.`),
    h("ol", {}, e.steps.map((s) => h("li", {},
      h("strong", {}, `${clockTime(s.time)} `, said(s.decision ?? s.event)),
      h("span", { class: "soft small" }, ` at ${count(s.position)}${s.place ? `, place ${count(s.place)}` : ""}${s.reason ? `, ${said(s.reason)}` : ""}`),
      s.rule && h("p", { class: "small" }, s.rule)))),
    e.ahead && h("p", { class: "small" }, `Ahead of it: waiting ${tally(e.ahead.waiting)}, holding ${tally(e.ahead.holding)}, ordered ${tally(e.ahead.ordered)}.`),
    e.afterwards && h("p", { class: "small" }, `Afterwards ${units(e.afterwards.came_back.units)} came back. `,
      e.afterwards.chance ? `The same attempt would have been reserved at ${clockTime(e.afterwards.chance.time)}.` : "At no moment would another attempt have been reserved."));
}

export function explainer(sku) {
  const field = h("input", { id: "who", autocomplete: "off", spellcheck: "false", "aria-describedby": "who-wrong" });
  const wrong = h("p", { class: "note bad", id: "who-wrong", role: "alert", hidden: true });
  const answer = h("div", { id: "explanation", "aria-live": "polite" });
  const form = h("form", { class: "ask", novalidate: true },
    h("div", { class: "field" }, h("label", { for: "who" }, "Customer, or purchase such as ", h("code", {}, `${sku}:17`)), field),
    h("button", { class: "button", type: "submit" }, "Explain"));

  function fail(text) {
    wrong.textContent = text;
    wrong.hidden = false;
  }

  async function purchase(id) {
    field.value = id;
    wrong.hidden = true;
    show(answer, h("p", { class: "soft" }, "Reading the log …"));
    try {
      const { purchases } = await api("GET", `/v1/purchases/${encodeURIComponent(id)}/explanation`);
      show(answer, purchases.map(story));
    } catch (error) {
      show(answer);
      fail(wordsFor(error.name, error.message).text);
    }
  }

  async function customer(name) {
    const { purchases } = await api("GET", `/v1/sales/${encodeURIComponent(sku)}/purchases?customer=${encodeURIComponent(name)}`);
    if (purchases.length === 0) return fail(`${name} has no purchase in this sale. (A refused attempt is found by its id.)`);
    if (purchases.length === 1) return purchase(purchases[0].purchase);
    show(answer, h("p", {}, `${name} has ${count(purchases.length)} purchases:`),
      h("ul", {}, purchases.map((p) => h("li", {}, h("button", { class: "button compact", type: "button", onclick: () => purchase(p.purchase) }, `${p.purchase}, ${said(p.status)}`)))));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.hidden = true;
    show(answer);
    const text = field.value.trim();
    if (text === "") return fail("Name a customer or a purchase.");
    if (/^[A-Za-z0-9._-]+:\d+$/.test(text)) return purchase(text);
    try {
      await customer(text);
    } catch (error) {
      fail(error.message);
    }
  });
  return {
    element: h("section", { class: "card", id: "explain" }, h("header", {}, h("h2", {}, "Explain")), form, wrong, answer),
    purchase(id) {
      purchase(id);
      document.getElementById("explain").scrollIntoView({ block: "nearest" });
    },
  };
}
