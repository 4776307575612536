// The shopper's page: puts the model's state on the screen.

import { $, setText, show } from "../lib/dom.js";
import { count, money, spell, titled, units } from "../lib/format.js";
import { Shopper } from "./model.js";
import * as steps from "./steps.js";

const page = document.documentElement.dataset;
const demo = page.demo === "yes";
const payUrl = page.payUrl;
const sku = decodeURIComponent(location.pathname.split("/")[2]);
const choice = { quantity: 1 };

let drawn = null;      // the name of the step on the screen
let current = null;    // {element, said, tick}
let asked = false;     // for a redraw

const say = (text) => setText($("said"), text);

// The step, and a name that changes whenever it is to be built anew.
function stepOf(shopper) {
  const { sale, purchase, refusal, notice, paying } = shopper;
  if (refusal) return [`refused ${refusal.name}`, () => steps.refused(shopper)];
  if (!sale || (!purchase && shopper.attempt?.purchase)) return ["loading", null];
  if (shopper.sending) return ["sending", () => steps.sending()];
  if (purchase) {
    const { status } = purchase;
    const id = `${purchase.purchase} ${status}`;
    if (status === "waiting") return [id, () => steps.waiting(shopper)];
    if (status === "reserved" || status === "offered") {
      return [`${id} ${purchase.until} ${paying} ${JSON.stringify(notice)}`, () => steps.holding(shopper, { demo, payUrl, say })];
    }
    if (status === "ordered" || status === "refunded") {
      return [`${id} ${purchase.reference} ${purchase.ordered_at} ${steps.mayBuyMore(shopper)}`, () => steps.receipt(shopper)];
    }
    return [`${id} ${JSON.stringify(notice)} ${steps.mayTryAgain(shopper)}`, () => steps.ended(shopper)];
  }
  if (sale.state === "scheduled") return [`scheduled ${sale.starts_at}`, () => steps.scheduled(shopper)];
  if (sale.state !== "open") return [sale.state, () => steps.over(shopper, sale.state)];
  if (sale.available + sale.held === 0) return ["sold out", () => steps.over(shopper, "sold_out")];
  return ["buying", () => steps.buying(shopper, choice)];
}

const STATES = { scheduled: "Not open yet", open: "Open now", paused: "Paused", ended: "Over", closed: "Closed" };

function drawSale(sale) {
  setText($("name"), titled(sale.sku));
  setText($("art"), titled(sale.sku).split(" ").map((w) => w[0]).join("").slice(0, 3));
  const soldOut = sale.state === "open" && sale.available + sale.held === 0;
  setText($("state"), soldOut ? "Sold out" : STATES[sale.state]);
  $("state").dataset.state = soldOut ? "closed" : sale.state;
  setText($("price"), money(sale.price));
  const most = sale.limit_per_customer;
  setText($("terms"), `${units(sale.stock)} in all, ${count(most)} per customer, ${spell(sale.hold_seconds)} to pay.`);
  $("stock").hidden = sale.stock === 0;
  for (const what of ["available", "held", "sold", "waiting"]) setText($(what), count(sale[what]));
  const meter = $("meter");
  meter.setAttribute("aria-label", `${count(sale.available)} of ${units(sale.stock)} available, ${count(sale.held)} held, ${count(sale.sold)} sold`);
  if (!meter.firstChild) {
    for (const kind of ["free", "held", "sold"]) meter.append(Object.assign(document.createElement("i"), { className: kind }));
  }
  [sale.available, sale.held, sale.sold].forEach((n, i) => {
    meter.children[i].style.width = `${(100 * n) / sale.stock}%`;
    meter.children[i].hidden = n === 0;
  });
}

function titleOf(shopper) {
  const { purchase, sale } = shopper;
  const name = sale ? titled(sale.sku) : "Sale";
  if (purchase?.status === "offered") return `Your turn! · ${name}`;
  if (purchase?.status === "reserved") return `Pay now · ${name}`;
  if (purchase?.status === "waiting") return `In line · ${name}`;
  return `${name} · fairsale`;
}

function draw() {
  asked = false;
  if (shopper.sale) drawSale(shopper.sale);
  const state = shopper.connection;
  $("link").dataset.state = state;
  setText($("link"), state === "lost" ? "Reconnecting" : "Live");
  $("lost").hidden = state !== "lost";
  document.title = titleOf(shopper);
  const [name, build] = stepOf(shopper);
  if (name !== drawn) {
    drawn = name;
    current = build?.() ?? null;
    // A keyboard stays where the button was, not at the top of the page.
    const held = $("panel").contains(document.activeElement);
    if (current) {
      show($("panel"), current.element);
      if (held) $("panel").focus({ preventScroll: true });
      say(current.said);
    }
  }
  current?.tick?.();
}

const shopper = new Shopper({
  sku, demo,
  changed() {
    if (asked) return;
    asked = true;
    queueMicrotask(draw);
  },
});

setInterval(() => current?.tick?.(), 250);
// The sale opens by its log. Where no stream tells, asking at the start is quicker than polling.
setInterval(() => {
  const { sale } = shopper;
  if (sale?.state === "scheduled" && steps.hasStarted(sale)) shopper.readSale().catch(() => {});
}, 500);

shopper.start();
