// What keeps the rest going: stored projections and their rebuild, what leaves through the outbox and
// the webhooks, audits.

import { Lost } from "../lib/api.js";
import { h, show } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { auditCard } from "./audit.js";
import { api, every } from "./session.js";

const POLL_MS = 1000;

const cell = (value) => {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return count(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
};

// Any list of objects as a table, by the names that its members have.
function table(label, rows) {
  if (rows.length === 0) return h("p", { class: "soft" }, "None.");
  const names = [...new Set(rows.flatMap((r) => Object.keys(r)))];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {},
      h("thead", {}, h("tr", {}, names.map((n) => h("th", { scope: "col" }, n.replaceAll("_", " "))))),
      h("tbody", {}, rows.map((r) => h("tr", {}, names.map((n) => h("td", {}, cell(r[n]))))))));
}

// Keeps a part of the page up to date; a route that this server does not have says so, once.
function watch(path, box, draw) {
  let drawn = "";
  return every(POLL_MS, async () => {
    let text;
    let made;
    try {
      const data = await api("GET", path);
      text = JSON.stringify(data);
      made = () => draw(data);
    } catch (error) {
      if (error instanceof Lost) return;
      text = error.name;
      made = () => h("p", { class: "soft" }, error.status === 404 ? "Not available on this server." : error.message);
    }
    if (text === drawn) return;
    drawn = text;
    const focused = box.contains(document.activeElement) ? document.activeElement.id : "";
    show(box, made());
    if (focused) document.getElementById(focused)?.focus();
  });
}

function projections({ projections: list, error }, rebuild) {
  return [
    error && h("p", { class: "note bad" }, error),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Stored projections" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Projection", "State", "Behind", "Rows", "Generation", "Rebuild"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, list.map((p) => h("tr", {},
        h("td", {}, h("strong", {}, p.projection), p.mismatch && h("p", { class: "small kind bad" }, `The last one built differs at position ${count(p.mismatch.position)}`)),
        h("td", {}, h("span", { class: "badge", "data-state": p.state }, p.state)),
        h("td", {}, count(p.lag)), h("td", {}, count(p.rows)), h("td", {}, count(p.generation)),
        h("td", {}, p.state === "rebuilding"
          ? h("progress", { max: 1, value: p.progress, "aria-label": `Rebuild of ${p.projection}` })
          : h("button", { class: "button compact", type: "button", id: `rebuild-${p.projection}`, onclick: () => rebuild(p.projection) }, "Rebuild", h("span", { class: "only-heard" }, ` ${p.projection}`)))))))),
  ];
}

const lists = (data) => Object.entries(data).map(([name, value]) => (Array.isArray(value)
  ? [h("h3", {}, name.replaceAll("_", " ")), table(name, value)]
  : h("p", { class: "small" }, `${name.replaceAll("_", " ")}: ${cell(value)}`)));

export function healthView(view, { link }) {
  const wrong = h("p", { class: "note bad", role: "alert", hidden: true });
  const boxes = Object.fromEntries(["projections", "outbox", "webhooks"].map((n) => [n, h("div", { id: n }, h("p", { class: "soft" }, "Loading …"))]));
  const audit = auditCard();
  const part = (title, box) => h("section", { class: "card stack" }, h("h2", {}, title), box);
  show(view, h("div", { class: "stack" },
    h("h1", {}, "Health"), wrong,
    part("Stored projections", boxes.projections),
    audit.element,
    h("div", { class: "grid" }, part("Outbox", boxes.outbox), part("Webhooks", boxes.webhooks))));

  async function rebuild(name) {
    wrong.hidden = true;
    try {
      await api("POST", `/v1/projections/${name}/rebuild`, {});
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
  }
  link("live");
  const ends = [
    watch("/v1/projections", boxes.projections, (data) => projections(data, rebuild)),
    watch("/v1/outbox", boxes.outbox, lists),
    watch("/v1/webhooks", boxes.webhooks, lists),
  ];
  return () => [...ends, audit.end].forEach((end) => end());
}
