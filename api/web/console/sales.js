// The list of sales.

import { Lost } from "../lib/api.js";
import { h, show } from "../lib/dom.js";
import { count, dayAndTime, money } from "../lib/format.js";
import { createSale } from "./forms.js";
import { api, every } from "./session.js";

const NAMES = { scheduled: "Scheduled", open: "Open", paused: "Paused", ended: "Ended", closed: "Closed" };

export const stateBadge = (state) => h("span", { class: "badge", "data-state": state }, NAMES[state] ?? state);

function row(sale) {
  const number = (n) => h("td", { class: "right" }, count(n));
  return h("tr", {},
    h("td", {}, h("a", { href: `#/sales/${encodeURIComponent(sale.sku)}` }, sale.sku)),
    h("td", {}, stateBadge(sale.state)),
    number(sale.available), number(sale.held), number(sale.sold), number(sale.waiting),
    h("td", { class: "right" }, money(sale.price)),
    h("td", {}, dayAndTime(sale.starts_at)));
}

export function salesView(view, { link }) {
  const rows = h("tbody", { id: "sales" });
  const empty = h("p", { class: "soft", hidden: true }, "No sale yet. Create the first one.");
  show(view, h("div", { class: "stack" },
    h("div", { class: "row apart" },
      h("h1", {}, "Sales"),
      h("button", { class: "button main", type: "button", id: "create", onclick: () => createSale() }, "Create a sale")),
    h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "All sales" },
      h("table", {},
        h("thead", {}, h("tr", {},
          h("th", { scope: "col" }, "SKU"), h("th", { scope: "col" }, "State"),
          ...["Available", "Held", "Sold", "In line", "Price"].map((t) => h("th", { scope: "col", class: "right" }, t)),
          h("th", { scope: "col" }, "Starts"))),
        rows),
      empty)));
  let drawn = "";
  return every(1500, async () => {
    try {
      const { sales } = await api("GET", "/v1/sales?limit=1000");
      link("live");
      const text = JSON.stringify(sales);
      if (text === drawn) return;
      drawn = text;
      empty.hidden = sales.length > 0;
      // The focus stays on the same link when the rows are made anew.
      const focused = rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      show(rows, sales.map(row));
      if (focused) rows.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    } catch (error) {
      if (error instanceof Lost) link("lost");
    }
  });
}
