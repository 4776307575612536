// Dialogs that change a sale. What can be known here is checked here; what only the server knows
// comes back and is shown at the field that it names.

import { h, setText } from "../lib/dom.js";
import { Lost } from "../lib/api.js";
import { api } from "./session.js";

const ACTOR = "fairsale.actor";

let numbers = 0;

// {name, label, hint, type, value, check(text) -> problem or "", wide}
function fieldOf(spec) {
  const id = `f${++numbers}`;
  const control = spec.choices
    ? h("select", { id, name: spec.name }, spec.choices.map(([value, text]) => h("option", { value, selected: value === spec.value }, text)))
    : h("input", { id, name: spec.name, type: spec.type ?? "text", value: spec.value ?? "", step: spec.step, inputmode: spec.inputmode, maxlength: spec.maxlength, autocomplete: "off", "aria-required": spec.required ? "true" : null });
  const wrong = h("span", { class: "wrong", id: `${id}w`, role: "alert" });
  const hint = spec.hint && h("span", { class: "hint", id: `${id}h` }, spec.hint);
  control.setAttribute("aria-describedby", `${id}w${hint ? ` ${id}h` : ""}`);
  if (spec.disabled) control.disabled = true;
  return {
    spec,
    control,
    element: h("div", { class: spec.wide ? "field wide" : "field" }, h("label", { for: id }, spec.label), control, hint, wrong),
    blame(text) {
      setText(wrong, text);
      if (text) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
      return text === "";
    },
  };
}

const whole = (low, high) => (text) => {
  const n = Number(text);
  return /^\d+$/.test(text) && n >= low && n <= high ? "" : `Must be a whole number from ${low} to ${high}.`;
};
const number = (low, high) => (text) => {
  const n = Number(text);
  return text !== "" && n >= low && n <= high ? "" : `Must be a number from ${low} to ${high}.`;
};
const words = (most) => (text) => (text.trim() === "" ? "Please fill this in." : text.length > most ? `At most ${most} characters.` : "");

// Opens a dialog; `send(values)` may throw a Problem, whose text goes to the field that it names.
function ask({ title, intro, fields, action, danger, send }) {
  const made = fields.map(fieldOf);
  const general = h("p", { class: "note bad", role: "alert", hidden: true });
  const submit = h("button", { class: danger ? "button danger" : "button main", type: "submit" }, action);
  const form = h("form", { class: "form", novalidate: true },
    made.map((f) => f.element), general,
    h("div", { class: "choices" }, h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel"), submit));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), intro && h("p", { class: "soft" }, intro), form);

  function blame(error) {
    // "ends_at must be later than starts_at" is about the field that is named first.
    const text = error instanceof Lost ? "The server cannot be reached. Nothing was lost; try again." : error.message;
    const [named] = made
      .map((f) => ({ ...f, at: text.search(new RegExp(`\\b${f.spec.name}\\b`)) }))
      .filter((f) => f.at >= 0).sort((a, b) => a.at - b.at);
    if (named) {
      named.blame(text);
      named.control.focus();
    } else {
      setText(general, text);
      general.hidden = false;
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    general.hidden = true;
    const good = made.map((f) => f.blame(f.control.disabled ? "" : f.spec.check?.(f.control.value.trim()) ?? "")).every(Boolean);
    if (!good) return made.find((f) => f.control.hasAttribute("aria-invalid")).control.focus();
    submit.disabled = true;
    try {
      await send(Object.fromEntries(made.map((f) => [f.spec.name, f.control.value.trim()])));
      dialog.close();
    } catch (error) {
      blame(error);
    }
    submit.disabled = false;
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  made.find((f) => !f.control.disabled)?.control.focus();
}

// As an <input type="datetime-local"> wants it, and back.
const localTime = (time) => {
  if (!time) return "";
  const d = new Date(time);
  return new Date(d - d.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
};
const utc = (text) => (text === "" ? undefined : new Date(text).toISOString());

const digitsOf = (currency) =>
  new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;

function termFields(sale) {
  const started = sale && sale.state !== "scheduled";
  const price = sale ? (sale.price.amount / 10 ** digitsOf(sale.price.currency)).toFixed(digitsOf(sale.price.currency)) : "49.00";
  return [
    { name: "stock", label: "Stock", value: sale?.stock ?? "100", inputmode: "numeric", check: whole(0, 100000000), disabled: started, hint: started ? "Changed by “Adjust stock”" : "Units in all" },
    { name: "price", label: "Price of a unit", value: price, inputmode: "decimal", check: number(0, 1e10), disabled: started },
    { name: "currency", label: "Currency", value: sale?.price.currency ?? "EUR", maxlength: 3, check: (t) => (/^[A-Z]{3}$/.test(t) ? "" : "Three capital letters, such as EUR."), disabled: started },
    { name: "hold_seconds", label: "Hold, in seconds", value: sale?.hold_seconds ?? "120", inputmode: "decimal", check: number(0.001, 2592000), hint: "How long there is to pay", disabled: started },
    { name: "starts_at", label: "Starts", type: "datetime-local", step: 1, value: localTime(sale?.starts_at), hint: "Empty: now", disabled: started },
    { name: "ends_at", label: "Ends", type: "datetime-local", step: 1, value: localTime(sale?.ends_at), hint: "Empty: when it is closed" },
    { name: "limit_per_customer", label: "Limit per customer", value: sale?.limit_per_customer ?? "2", inputmode: "numeric", check: whole(1, 1000000), hint: started ? "May only be raised" : "Units" },
    { name: "units_per_purchase", label: "Units per purchase", value: sale?.units_per_purchase ?? "2", inputmode: "numeric", check: whole(1, 100), disabled: started },
    { name: "grace_seconds", label: "Grace, in seconds", value: sale?.grace_seconds ?? "5", inputmode: "decimal", check: number(0, 86400), hint: "For payments in flight", disabled: started },
    { name: "line_limit", label: "Longest line", value: sale?.line_limit ?? "100000", inputmode: "numeric", check: whole(0, 10000000), hint: "Purchases that may wait" },
    { name: "line_policy", label: "Order of the line", value: sale?.line_policy ?? "strict", choices: [["strict", "Strict: nobody is passed over"], ["skip_if_unfit", "Pass over who wants more than is free"]], wide: true, disabled: started },
  ];
}

function termsOf(v, sale) {
  const terms = {
    stock: Number(v.stock),
    price: { amount: Math.round(Number(v.price) * 10 ** digitsOf(v.currency)), currency: v.currency },
    hold_seconds: Number(v.hold_seconds),
    grace_seconds: Number(v.grace_seconds),
    limit_per_customer: Number(v.limit_per_customer),
    units_per_purchase: Number(v.units_per_purchase),
    line_limit: Number(v.line_limit),
    line_policy: v.line_policy,
    ends_at: utc(v.ends_at) ?? null,
  };
  const starts = utc(v.starts_at);
  // The field knows seconds; a time that was not touched is sent as it was.
  if (sale && localTime(sale.starts_at) === v.starts_at) terms.starts_at = sale.starts_at;
  else if (starts) terms.starts_at = starts;
  return terms;
}

export function createSale() {
  ask({
    title: "Create a sale",
    action: "Create",
    fields: [
      { name: "sku", label: "SKU", wide: true, hint: "Letters, digits, dot, hyphen, underscore; the address of its page", check: (t) => (/^[A-Za-z0-9._-]{1,64}$/.test(t) ? "" : "1 to 64 letters, digits, dots, hyphens and underscores.") },
      ...termFields(null),
    ],
    async send(v) {
      const path = `/v1/sales/${encodeURIComponent(v.sku)}`;
      const taken = await api("GET", path).then(() => true, (e) => { if (e.status === 404) return false; throw e; });
      if (taken) throw new Error("sku: there is a sale of this name already");
      await api("PUT", path, termsOf(v, null));
      location.hash = `#/sales/${encodeURIComponent(v.sku)}`;
    },
  });
}

export function editSale(sale, done) {
  ask({
    title: `Change ${sale.sku}`,
    intro: sale.state === "scheduled" ? null : "It has started, so only its end, the line's limit and a higher limit per customer may change.",
    action: "Save",
    fields: termFields(sale),
    async send(v) {
      done(await api("PUT", `/v1/sales/${encodeURIComponent(sale.sku)}`, termsOf(v, sale)));
    },
  });
}

const remembered = () => {
  try {
    return sessionStorage.getItem(ACTOR) ?? "";
  } catch {
    return "";
  }
};

// Who did it and why stays in the log.
const accountable = () => [
  { name: "actor", label: "Your name", value: remembered(), check: words(64), required: true },
  { name: "reason", label: "Reason", check: words(160), required: true, hint: "Both stay in the log" },
];

function patch(sale, { title, intro, action, danger, fields = [], body, done }) {
  ask({
    title, intro, action, danger,
    fields: [...fields, ...accountable()],
    async send(v) {
      try {
        sessionStorage.setItem(ACTOR, v.actor);
      } catch { /* It is asked for again. */ }
      done(await api("PATCH", `/v1/sales/${encodeURIComponent(sale.sku)}`, { ...body(v), actor: v.actor, reason: v.reason }));
    },
  });
}

export const pauseSale = (sale, done) => patch(sale, {
  title: `Pause ${sale.sku}`, intro: "New attempts are refused. Holds, offers and the line stay as they are.",
  action: "Pause", body: () => ({ action: "pause" }), done,
});

export const resumeSale = (sale, done) => patch(sale, {
  title: `Resume ${sale.sku}`, action: "Resume", body: () => ({ action: "resume" }), done,
});

export async function closeSale(sale, done) {
  patch(sale, {
    title: `Close ${sale.sku} for good`, intro: "Nobody can buy any more and the line is let go. This cannot be undone.",
    action: "Close the sale", danger: true, body: () => ({ action: "close" }), done,
  });
}

export const adjustStock = (sale, done) => patch(sale, {
  title: `Stock of ${sale.sku}`, action: "Set stock",
  fields: [{ name: "stock", label: "New total", value: String(sale.stock), inputmode: "numeric", wide: true, check: whole(0, 100000000), hint: `${sale.held + sale.sold} are held or sold; it cannot be less` }],
  body: (v) => ({ stock: Number(v.stock) }), done,
});


