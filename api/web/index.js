// The index: the sales that can be bought from, soonest first.

import { persist, request } from "./lib/api.js";
import { $, h, show } from "./lib/dom.js";
import { count, dayAndTime, money, titled } from "./lib/format.js";

const STATES = { open: "Open", scheduled: "Not open yet", paused: "Paused" };

function entry(sale) {
  const left = sale.state === "scheduled"
    ? `opens ${dayAndTime(sale.starts_at)}`
    : `${count(sale.available)} of ${count(sale.stock)} available`;
  return h("li", {}, h("a", { href: `/s/${encodeURIComponent(sale.sku)}` },
    h("strong", {}, titled(sale.sku)),
    h("span", { class: "badge", "data-state": sale.state }, STATES[sale.state]),
    h("span", { class: "soft number" }, `${money(sale.price)}, ${left}`)));
}

const { data } = await persist(() => request("GET", "/v1/sales?limit=200"));
const shown = data.sales.filter((s) => s.state in STATES);
show($("sales"), shown.length > 0 ? shown.map(entry) : h("li", { class: "soft" }, "Nothing is on sale right now."));
