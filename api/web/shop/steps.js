// What the shopper sees and can do at each step, as elements. Each step is built once; what ticks in
// it is returned beside it.

import { serverNow, until } from "../lib/clock.js";
import { confirmed, h, setText, svg } from "../lib/dom.js";
import { about, count, countdown, dayAndTime, money, people, spell, units } from "../lib/format.js";
import { wordsFor } from "../lib/words.js";

const button = (text, onclick, kind = "") =>
  h("button", { class: `button ${kind}`, type: "button", onclick }, text);

const step = (...children) => h("div", { class: "step" }, ...children);

const total = (sale, quantity) => money({ ...sale.price, amount: sale.price.amount * quantity });

// A countdown to a time. `tick` is to be called often; it changes only the text.
function clock(time, label) {
  const shown = h("time", { class: "figure", role: "timer", "aria-label": label, datetime: time });
  return { shown, tick: () => setText(shown, countdown(until(time))) };
}

export function scheduled({ sale }) {
  const { shown, tick } = clock(sale.starts_at, "Time to the start");
  return {
    said: `The sale opens ${dayAndTime(sale.starts_at)}.`,
    element: step(
      h("h2", {}, "Opens in"),
      shown,
      h("p", { class: "soft" }, `${dayAndTime(sale.starts_at)}, by the shop's clock. The button comes up here by itself; reloading gains nothing and loses nothing.`)),
    tick,
  };
}

export function buying(shopper, choice) {
  const { sale } = shopper;
  const most = Math.max(1, Math.min(sale.units_per_purchase, sale.limit_per_customer));
  const line = h("p", { class: "soft" });
  const buy = button("", () => shopper.buy(choice.quantity), "main large");
  buy.id = "buy";
  const amount = h("output", { "aria-live": "polite" });
  const less = h("button", { type: "button", "aria-label": "One less" }, "−");
  const more = h("button", { type: "button", "aria-label": "One more" }, "+");
  const set = (n) => {
    choice.quantity = Math.min(most, Math.max(1, n));
    draw();
  };
  less.addEventListener("click", () => set(choice.quantity - 1));
  more.addEventListener("click", () => set(choice.quantity + 1));

  function draw() {
    const now = shopper.sale;
    choice.quantity = Math.min(most, choice.quantity);
    setText(amount, String(choice.quantity));
    less.disabled = choice.quantity <= 1;
    more.disabled = choice.quantity >= most;
    const free = now.available >= choice.quantity && now.waiting === 0;
    setText(buy, free ? `Buy for ${total(now, choice.quantity)}` : "Join the line");
    setText(line, free
      ? `Your request gets the next number in the sale's log. Then you have ${spell(now.hold_seconds)} to pay.`
      : `Nothing is free this moment, but ${units(now.held)} held by others could still come back. ${people(now.waiting)} ${now.waiting === 1 ? "waits" : "wait"} in line.`);
  }
  draw();
  return {
    said: "The sale is open.",
    element: step(
      h("h2", {}, "It is open"),
      line,
      most > 1 && h("div", { class: "quantity" },
        h("span", { id: "how-many" }, "How many? ", h("span", { class: "soft small" }, `up to ${most}`)),
        h("div", { class: "stepper", role: "group", "aria-labelledby": "how-many" }, less, amount, more)),
      buy),
    tick: draw,
  };
}

const OVER = {
  sold_out: ["Sold out", "Every unit is sold and paid for. Nobody is kept waiting for units that cannot come."],
  ended: ["The sale is over", "Its time is up. Thank you for coming."],
  closed: ["The sale is closed", "The shop has closed it."],
  paused: ["Paused for a moment", "The shop has paused the sale. Holds and places in line are kept, and the page goes on by itself."],
};

export function over({ sale }, why) {
  const [title, text] = OVER[why];
  return {
    said: `${title}. ${text}`,
    element: step(h("div", { class: "mark", "aria-hidden": "true" }, why === "paused" ? "‖" : "–"), h("h2", {}, title), h("p", { class: "soft" }, text)),
  };
}

export function sending() {
  return {
    said: "Your request is on its way.",
    element: step(
      h("h2", {}, "On its way …"),
      h("p", { class: "soft" }, "Your request has a key of its own and counts once, however often it has to be sent. You may reload; you lose nothing."),
      h("button", { class: "button main large", type: "button", disabled: true }, "One moment")),
  };
}

export function waiting(shopper) {
  const ahead = h("p", { class: "figure" });
  const hope = h("p", {});
  const eta = h("p", { class: "soft" });
  function draw() {
    const { purchase, sale } = shopper;
    const place = purchase.line?.place ?? purchase.place ?? 1;
    const before = place - 1;
    const mayReturn = purchase.line?.units_may_return ?? sale.held;
    ahead.replaceChildren(before === 0 ? "You are next" : count(before), before === 0 ? "" : h("small", {}, " ahead of you"));
    setText(hope, `${units(mayReturn)} could still come back.`);
    const seconds = purchase.line?.eta_seconds;
    setText(eta, seconds === null || seconds === undefined
      ? "How long that takes cannot be told yet. Your turn comes by itself; this page will show it."
      : `At the present pace your turn comes in ${about(seconds)}. It may also not come at all: others may all pay.`);
  }
  let drawn = "";
  const tick = () => {
    const now = JSON.stringify([shopper.purchase.line, shopper.purchase.place, shopper.sale.held]);
    if (now !== drawn) draw();
    drawn = now;
  };
  tick();
  const place = shopper.purchase.place ?? shopper.purchase.line?.place ?? 1;
  return {
    said: `You are in line, at place ${place}.`,
    element: step(
      h("h2", {}, "You are in line"),
      ahead, hope, eta,
      h("div", { class: "pair" }, button("Give up my place", async () => {
        const yes = await confirmed({
          title: "Give up your place?",
          text: "It goes to those behind you at once. Coming back means the end of the line.",
          yes: "Give it up", no: "Keep waiting",
        });
        if (yes) shopper.giveUp();
      }, "quiet"))),
    tick,
  };
}

function ring() {
  const around = 2 * Math.PI * 44;
  const left = svg("circle", { class: "left", cx: 50, cy: 50, r: 44, "stroke-dasharray": around });
  const shown = h("time", { role: "timer", "aria-label": "Time left to pay" });
  const element = h("div", { class: "ring" },
    svg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" },
      svg("circle", { class: "track", cx: 50, cy: 50, r: 44 }), left),
    shown);
  return {
    element,
    set(ms, of) {
      setText(shown, countdown(ms));
      left.setAttribute("stroke-dashoffset", String(around * (1 - Math.min(1, ms / of))));
      element.toggleAttribute("data-hurry", ms < Math.min(20000, of / 4));
    },
  };
}

function troubleOf(notice) {
  if (!notice) return null;
  if (notice.kind === "declined") {
    return h("p", { class: "note warn" }, "The payment was declined. Your hold stands: another card may work.");
  }
  const words = wordsFor(notice.name, notice.detail);
  return h("p", { class: "note warn" }, h("strong", {}, `${words.title}. `), words.text);
}

export function holding(shopper, { demo, payUrl, say }) {
  const { purchase, sale } = shopper;
  const offered = purchase.status === "offered";
  const dial = ring();
  const end = purchase.until;
  const hold = h("p", { class: "soft" });
  let warned = Infinity;
  function tick() {
    const left = until(end);
    dial.set(left, sale.hold_seconds * 1000);
    setText(hold, left > 0
      ? "Pay before the time is up; then it goes to the next in line."
      : "The time is up. Asking the shop what became of it …");
    for (const seconds of [60, 30, 10]) {
      if (left / 1000 <= seconds && warned > seconds && left > 0) {
        if (warned !== Infinity || left / 1000 > seconds - 2) say(`${seconds} seconds left to pay.`);
        warned = seconds;
      }
    }
  }
  tick();
  const amount = money(purchase.amount);
  const trouble = troubleOf(shopper.notice);
  let pay;
  const other = [];
  if (demo) {
    pay = [
      button(shopper.paying ? "Paying …" : `Pay ${amount}`, () => shopper.pay("paid"), "main large"),
    ];
    other.push(button("Try a card that is declined", () => shopper.pay("declined"), "quiet"));
    pay[0].id = "pay";
    pay[0].disabled = shopper.paying;
  } else if (payUrl) {
    pay = [h("a", { class: "button main large", id: "pay", href: payUrl.replaceAll("{purchase}", encodeURIComponent(purchase.purchase)) }, `Pay ${amount}`)];
  } else {
    pay = [h("p", { class: "note" }, "Pay ", h("strong", {}, amount), " in the shop that brought you here. Your purchase is ", h("code", {}, purchase.purchase), ".")];
  }
  return {
    said: `${offered ? "It is your turn" : "Reserved for you"}: ${units(purchase.quantity)}. ${countdown(until(end))} left to pay.`,
    element: step(
      h("div", { class: "hold" }, dial.element,
        h("div", { class: "step" },
          h("h2", {}, offered ? "It is your turn" : "Held for you"),
          h("p", {}, `${units(purchase.quantity)}, ${amount}`),
          hold)),
      trouble,
      pay,
      h("div", { class: "pair" }, other, button(offered ? "Let it go" : "Give it up", async () => {
        const yes = await confirmed({
          title: "Let it go?",
          text: "It is offered to the next in line at once.",
          yes: "Let it go", no: "Keep it",
        });
        if (yes) shopper.giveUp();
      }, "quiet"))),
    tick,
  };
}

export const mayBuyMore = ({ purchase, sale }) =>
  sale.state === "open" && sale.available + sale.held > 0 && purchase.quantity < sale.limit_per_customer;

export function receipt(shopper) {
  const { purchase, attempt, sale } = shopper;
  const refunded = purchase.status === "refunded";
  const reference = purchase.reference ?? attempt?.reference;
  const seq = purchase.purchase.split(":").at(-1);
  const at = purchase.ordered_at ?? attempt?.ordered;
  const row = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const more = mayBuyMore(shopper);
  return {
    said: refunded ? "This purchase was refunded." : "Paid. It is yours.",
    element: step(
      h("div", { class: refunded ? "mark" : "mark good", "aria-hidden": "true" }, refunded ? "↺" : "✓"),
      h("h2", {}, refunded ? "Refunded" : "It is yours"),
      h("dl", { class: "facts" },
        row("Purchase", h("code", {}, purchase.purchase)),
        row("Quantity", units(purchase.quantity)),
        row(refunded ? "Given back" : "Paid", money(purchase.amount)),
        reference && row("Payment", h("code", {}, reference)),
        row("Place in the log", h("span", { class: "number" }, at ? `${count(Number(seq))}, paid at ${count(at)}` : count(Number(seq))))),
      h("details", { class: "small" },
        h("summary", {}, "How can I know that it was fair?"),
        h("p", { class: "soft" }, `Your request is number ${count(Number(seq))} of this sale's log. Who gets a unit follows from those numbers by fixed rules, and each part of the log seals the one before it, so that nobody can change it unseen. With a copy of the log anybody gets the same answer:`),
        h("pre", { class: "mono" }, `fairsale explain LOG ${purchase.purchase}\nfairsale audit LOG --fairness`)),
      more && h("div", { class: "pair" }, button("Buy another", () => shopper.startOver(), "quiet"))),
  };
}

const ENDS = {
  expired: ["The time to pay is over", "The hold ended without a payment, and the unit went to the next in line."],
  cancelled: ["You gave it up", "The unit went to the next in line."],
  declined: ["You let the offer go", "The unit went to the next in line."],
};

export const mayTryAgain = ({ sale }) => sale.state === "open" && sale.available + sale.held > 0;

export function ended(shopper) {
  const { purchase } = shopper;
  const reason = purchase.reason && wordsFor(purchase.reason);
  const [title, text] = ENDS[purchase.status] ?? [reason?.title ?? "It came to nothing", reason?.text ?? "The sale could not serve you."];
  const open = mayTryAgain(shopper);
  return {
    said: `${title}. ${text}`,
    element: step(
      h("div", { class: "mark bad", "aria-hidden": "true" }, "×"),
      h("h2", {}, title),
      h("p", { class: "soft" }, text),
      shopper.notice && troubleOf(shopper.notice),
      open && button("Try again", () => shopper.startOver(), "main large"),
      h("p", { class: "soft small" }, "Purchase ", h("code", {}, purchase.purchase))),
  };
}

export function refused(shopper) {
  const { refusal, sale } = shopper;
  const words = wordsFor(refusal.name, refusal.detail);
  const open = sale && ["open", "scheduled", "paused"].includes(sale.state);
  return {
    said: `${words.title}. ${words.text}`,
    element: step(
      h("div", { class: "mark bad", "aria-hidden": "true" }, "×"),
      h("h2", {}, words.title),
      h("p", { class: "soft" }, words.text),
      words.again && open && button("Try again", () => shopper.startOver(), "main large"),
      refusal.purchase && h("p", { class: "soft small" }, "Request ", h("code", {}, refusal.purchase))),
  };
}

export const hasStarted = (sale) => serverNow() >= Date.parse(sale.starts_at);
