// One sale, live: figures, charts, what can be done to it, decisions, explanations.

import { Lost, request } from "../lib/api.js";
import { $, h, setText, show } from "../lib/dom.js";
import { count, dayAndTime, duration, money } from "../lib/format.js";
import { follow, whileVisible } from "../lib/follow.js";
import { charts } from "./charts.js";
import { explainer } from "./explain.js";
import { feed } from "./feed.js";
import { adjustStock, closeSale, editSale, pauseSale, resumeSale } from "./forms.js";
import { History, quantiles } from "./history.js";
import { stateBadge } from "./sales.js";
import { api, every } from "./session.js";

const FIGURES = [["available", "Available"], ["held", "Held"], ["sold", "Sold"], ["waiting", "In line"], ["rate", "Attempts/s"], ["p99", "Commit, 99th percentile"]];

export function saleView(view, sku, { link }) {
  const path = `/v1/sales/${encodeURIComponent(sku)}`;
  const history = new History(sku);
  const figures = Object.fromEntries(FIGURES.map(([name]) => [name, h("dd", { id: `figure-${name}` }, "–")]));
  const badge = h("span", { id: "sale-state" });
  const terms = h("p", { class: "soft small" });
  const actions = h("div", { class: "row", role: "group", "aria-label": "What can be done" });
  const graphs = charts();
  const explain = explainer(sku);
  const decisions = feed(sku, explain.purchase);
  let sale = null;
  let drawnState = null;

  show(view, h("div", { class: "stack" },
    h("div", { class: "row apart" },
      h("div", {}, h("div", { class: "row" }, h("h1", {}, sku), badge), terms),
      actions),
    h("dl", { class: "figures" }, FIGURES.map(([name, title]) => h("div", {}, h("dt", {}, title), figures[name]))),
    graphs.element,
    h("div", { class: "grid" }, decisions.element, explain.element)));
  graphs.begin();

  const act = (text, call, kind = "") => h("button", { class: `button compact ${kind}`, type: "button", onclick: () => call(sale, take) }, text);

  function take(news) {
    if (sale && news.position < sale.position) return;
    sale = news;
    history.add(sale);
    for (const name of ["available", "held", "sold", "waiting"]) setText(figures[name], count(sale[name]));
    setText(terms, `${money(sale.price)} a unit, ${count(sale.stock)} in all, held ${duration(sale.hold_seconds)}, ${count(sale.limit_per_customer)} a customer; from ${dayAndTime(sale.starts_at)}${sale.ends_at ? ` to ${dayAndTime(sale.ends_at)}` : ""}`);
    if (sale.state === drawnState) return;
    const focused = actions.contains(document.activeElement) || document.activeElement === document.body;
    if (drawnState) setText($("said"), `${sku} is ${sale.state} now.`);
    drawnState = sale.state;
    show(badge, stateBadge(sale.state));
    const going = ["scheduled", "open", "paused"].includes(sale.state);
    show(actions,
      h("a", { class: "button compact", href: `/s/${encodeURIComponent(sku)}`, target: "_blank", rel: "noopener" }, "Shopper's page"),
      going && act("Edit", editSale),
      going && act("Adjust stock", adjustStock),
      sale.state === "paused" ? act("Resume", resumeSale, "main") : sale.state === "open" && act("Pause", pauseSale),
      going && act("Close", closeSale, "danger"));
    if (focused) actions.firstElementChild?.focus({ preventScroll: true });
  }

  const endSale = whileVisible(() => follow({
    stream: `${path}/events`,
    on: (event, data) => event === "sale" && take(data),
    poll: async () => {
      const answer = await request("GET", path, { headers: sale ? { "If-None-Match": `"${sale.position}"` } : {} });
      if (answer.status === 200) take(answer.data);
    },
    pollMs: 700,
    state: (s, error) => {
      link(s === "lost" ? "lost" : "live");
      if (error?.status === 404) show(view, h("p", { class: "note bad" }, `There is no sale named ${sku}.`));
    },
  }));

  let before = null;
  const endFigures = every(1000, async () => {
    try {
      const [stats] = await Promise.all([api("GET", "/v1/stats"), history.read()]);
      const latency = before && quantiles(before, stats);
      before = stats;
      history.addLatency(latency);
      if (sale) history.add(sale);
      graphs.draw(history.columns());
      const rate = history.rate();
      setText(figures.rate, rate === null ? "–" : count(rate));
      if (latency) setText(figures.p99, `${latency.p99.toFixed(latency.p99 < 10 ? 1 : 0)} ms`);
    } catch (error) {
      // A server that was started anew counts from zero.
      before = null;
      if (error instanceof Lost) link("lost");
    }
  });

  return () => {
    endSale();
    endFigures();
    decisions.end();
    graphs.end();
  };
}
