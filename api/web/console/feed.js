// The feed of a sale's decisions, as they are made. Bounded; in a rush it shows the newest and how
// many went by.

import { h, setText, show } from "../lib/dom.js";
import { clockTime, count, money, units } from "../lib/format.js";
import { follow, whileVisible } from "../lib/follow.js";
import { operator } from "./session.js";

const MOST = 60;
const DRAW_MS = 300;

const LOOK = {
  ordered: "good", reserved: "good", offered: "good", opened: "good",
  waiting: "warn", expired: "warn", declined: "warn", cancelled: "warn", paused: "warn", payment_failure_noted: "warn",
  refused: "bad", refund_due: "bad", released: "bad", closed: "bad", sold_out: "bad",
};

function entry(m, explain) {
  const parts = [
    m.customer, m.quantity && units(m.quantity), m.place && `place ${count(m.place)}`,
    m.reason && m.reason.replaceAll("_", " "), m.payment?.currency && money(m.payment), m.until && `until ${clockTime(m.until)}`,
  ].filter(Boolean).join(", ");
  return h("li", {},
    h("time", { class: "soft", datetime: m.time }, clockTime(m.time)),
    h("span", { class: `kind ${LOOK[m.type] ?? ""}` }, m.type.replaceAll("_", " ")),
    h("span", {},
      m.purchase && h("button", { class: "button compact quiet", type: "button", onclick: () => explain(m.purchase), "aria-label": `Explain ${m.purchase}` }, m.purchase),
      " ", parts));
}

export function feed(sku, explain) {
  const list = h("ol");
  const box = h("div", { class: "feed", id: "feed", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Decisions, newest first" }, list);
  const note = h("span", { class: "soft small number", id: "feed-note" }, "Nothing yet");
  const pause = h("button", { class: "button compact", type: "button", "aria-pressed": "false" }, "Hold still");
  let newest = [];
  let seen = 0;
  let still = false;
  let asked = null;

  function draw() {
    asked = null;
    setText(note, `${count(seen)} since you came`);
    if (!still) show(list, newest.map((m) => entry(m, explain)));
  }
  pause.addEventListener("click", () => {
    still = !still;
    pause.setAttribute("aria-pressed", String(still));
    draw();
  });

  const end = whileVisible(() => follow({
    stream: `/v1/sales/${encodeURIComponent(sku)}/decisions`,
    token: operator,
    on: (type, data) => {
      newest = [{ type, ...data }, ...newest].slice(0, MOST);
      seen += 1;
      asked ??= setTimeout(draw, DRAW_MS);
    },
    state: (s) => s === "unavailable" && setText(note, "Not available on this server"),
  }));
  return {
    element: h("section", { class: "card" }, h("header", {}, h("h2", {}, "Decisions"), h("span", { class: "row" }, note, pause)), box),
    end() {
      end();
      clearTimeout(asked);
    },
  };
}
