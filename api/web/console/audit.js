// An audit of the server's log: begins one, shows how far it has come and what it found.

import { h, setText, show } from "../lib/dom.js";
import { count, dayAndTime } from "../lib/format.js";
import { api, every } from "./session.js";

const VERDICTS = {
  sound: ["good", "✓ Sound: the log is whole, and everything that is kept of it follows from it."],
  unsound: ["bad", "× Not sound: see what does not check out."],
  fair: ["good", "✓ Fair: everybody was served in the order of the log, by the terms of the sale."],
  unfair: ["bad", "× Not fair: a promise made to shoppers was not kept."],
};

function verdict(name) {
  const [kind, text] = VERDICTS[name];
  return h("p", { class: `note ${kind}` }, text);
}

function result(audit) {
  if (audit.state === "none") return h("p", { class: "soft" }, "None since the server was started.");
  if (audit.state === "running") {
    return h("div", { class: "row" },
      h("progress", { max: Math.max(1, audit.events_in_all), value: audit.events, "aria-label": "Progress of the audit" }),
      h("span", { class: "number" }, `${count(audit.events)} of ${count(audit.events_in_all)} events`));
  }
  if (audit.state === "failed") return h("p", { class: "note bad" }, `The audit could not be made: ${audit.error}`);
  return h("div", { class: "stack" },
    verdict(audit.sound ? "sound" : "unsound"),
    audit.fairness && verdict(audit.fair ? "fair" : "unfair"),
    h("p", { class: "soft small" }, `${count(audit.events)} events of ${count(audit.sales)} sales, as they stood ${dayAndTime(audit.began_at)}.`),
    audit.findings.length > 0 && h("ul", { class: "stack small" }, audit.findings.map((f) => h("li", {},
      h("strong", {}, `${f.sku} at ${count(f.position)}, ${f.check.replaceAll("_", " ")}: `), `expected ${f.expected || "to be readable"}, found ${f.found}`))),
    audit.findings_in_all > audit.findings.length && h("p", { class: "small" }, `and ${count(audit.findings_in_all - audit.findings.length)} more`));
}

export function auditCard() {
  const box = h("div", { id: "audit", "aria-live": "polite" }, h("p", { class: "soft" }, "Loading …"));
  const wrong = h("p", { class: "note bad", role: "alert", hidden: true });
  const begin = (text, id, fairness) => h("button", { class: "button compact", type: "button", id, onclick: () => start(fairness) }, text);
  const buttons = [begin("Audit the log", "audit-log", false), begin("… and its fairness", "audit-fairness", true)];
  let drawn = "";

  function draw(audit) {
    for (const b of buttons) b.disabled = audit.state === "running";
    const text = JSON.stringify(audit);
    if (text === drawn) return;
    drawn = text;
    show(box, result(audit));
  }

  async function start(fairness) {
    wrong.hidden = true;
    try {
      draw(await api("POST", "/v1/audits", { fairness }));
    } catch (error) {
      setText(wrong, error.message);
      wrong.hidden = false;
    }
  }

  const end = every(700, async () => {
    try {
      draw(await api("GET", "/v1/audits"));
    } catch (error) {
      if (error.status) show(box, h("p", { class: "soft" }, error.status === 404 ? "Not available on this server." : error.message));
    }
  });
  return {
    element: h("section", { class: "card stack" },
      h("div", { class: "row apart" }, h("h2", {}, "Audit"), h("div", { class: "row" }, buttons)), wrong, box),
    end,
  };
}
