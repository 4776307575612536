// The shopper's side of one sale: who they are, the attempt under way, and what became of it. Knows
// nothing of the page; calls `changed` after every change and leaves drawing to the view.

import { Lost, persist, Problem, request } from "../lib/api.js";
import { serverNow } from "../lib/clock.js";
import { follow, whileVisible } from "../lib/follow.js";
import { keepGuest, loadAttempt, newKey, saveAttempt, visitor } from "./journal.js";

const HIDDEN_POLL_MS = 5000;

// What each message about a purchase makes of it.
const STATUS_OF = {
  reserved: "reserved",
  waiting: "waiting",
  offered: "offered",
  ordered: "ordered",
  expired: "expired",
  cancelled: "cancelled",
  declined: "declined",
  released: "released",
  sold_out: "released",
  line_released: "released",
  refunded: "refunded",
};

export const isOpenEnded = (status) => ["waiting", "reserved", "offered"].includes(status);

export class Shopper {
  constructor({ sku, demo, changed }) {
    this.sku = sku;
    this.demo = demo;
    this.changed = changed;
    this.sale = null;
    this.missing = false;       // there is no such sale
    this.purchase = null;
    this.attempt = null;        // as in the journal
    this.refusal = null;        // {name, detail, purchase?}
    this.sending = false;       // an attempt is on its way
    this.paying = false;
    this.notice = null;         // {kind, name}: what went wrong with a payment
    this.links = { sale: "live", purchase: "live" };
    this.visitor = null;
    this.endFollowing = null;
  }

  get path() {
    return `/v1/sales/${encodeURIComponent(this.sku)}`;
  }
  get connection() {
    const all = Object.values(this.links);
    return all.includes("lost") ? "lost" : "live";
  }

  async start() {
    this.visitor = visitor(serverNow());
    whileVisible(() => follow({
      stream: `${this.path}/events`,
      on: (event, sale) => event === "sale" && this.take({ sale }),
      poll: async () => this.readSale(),
      pollMs: 1000,
      state: (s, error) => this.link("sale", s, error),
    }));
    try {
      await persist(() => this.readSale(), () => this.link("sale", "lost"));
    } catch (error) {
      this.missing = true;
      this.refusal = { name: error.name, detail: error.message };
      return this.changed();
    }
    if (this.visitor) await this.resume();
    this.changed();
  }

  async readSale() {
    const tag = this.sale ? { "If-None-Match": `"${this.sale.position}"` } : {};
    const answer = await request("GET", this.path, { headers: tag });
    if (answer.status === 200) this.take({ sale: answer.data });
  }

  take(news) {
    if (news.sale && this.sale && news.sale.position < this.sale.position) return;
    Object.assign(this, news);
    this.changed();
  }

  link(which, state, error) {
    if (error instanceof Problem && error.name === "unauthorized") this.refusal = { name: error.name };
    this.links[which] = state === "lost" ? "lost" : "live";
    this.changed();
  }

  // Takes up what was under way when the page was last open, here or on another device.
  async resume() {
    this.attempt = loadAttempt(this.sku, this.visitor.customer);
    if (this.attempt?.purchase) return this.followPurchase(this.attempt.purchase);
    if (this.attempt) return this.send();
    try {
      const { data } = await request("GET", `${this.path}/purchases`, { token: this.visitor.token });
      const current = data.purchases.findLast((p) => isOpenEnded(p.status));
      if (current) {
        this.purchase = current;
        this.followPurchase(current.purchase);
      }
    } catch (error) {
      if (error instanceof Problem && error.name === "unauthorized") this.refusal = { name: error.name };
    }
  }

  async buy(quantity) {
    if (this.sending) return;
    this.sending = true;
    this.refusal = this.notice = null;
    this.changed();
    if (!this.visitor && this.demo) {
      const { data } = await persist(() => request("POST", "/v1/guests"), () => this.link("purchase", "lost"));
      this.visitor = keepGuest(data.token);
    }
    if (!this.visitor) {
      this.sending = false;
      this.refusal = { name: "unauthorized" };
      return this.changed();
    }
    this.attempt = { key: newKey(), quantity };
    this.remember();
    await this.send();
  }

  async send() {
    this.sending = true;
    this.changed();
    const { key, quantity } = this.attempt;
    try {
      const { data } = await persist(
        () => request("POST", `${this.path}/purchases`, {
          token: this.visitor.token,
          body: { quantity },
          headers: { "Idempotency-Key": key },
        }),
        () => this.link("purchase", "lost"));
      this.attempt.purchase = data.purchase;
      this.remember();
      this.purchase = data;
      this.followPurchase(data.purchase);
    } catch (error) {
      this.refusal = { name: error.name, detail: error.message, purchase: error.body?.purchase };
      // Who has to log in again first gets the same answer afterwards; a refusal is final.
      if (error.name !== "unauthorized") this.forget();
    }
    this.sending = false;
    this.link("purchase", "live");
  }

  remember() {
    saveAttempt(this.sku, this.visitor.customer, this.attempt);
  }

  forget() {
    this.attempt = null;
    saveAttempt(this.sku, this.visitor.customer, null);
  }

  followPurchase(id) {
    this.endFollowing?.();
    const path = `/v1/purchases/${encodeURIComponent(id)}`;
    const poll = async () => {
      const { data } = await request("GET", path, { token: this.visitor.token });
      this.takePurchase(data);
    };
    const endStream = whileVisible(() => follow({
      stream: `${path}/events`,
      token: () => this.visitor.token,
      on: (event, data) => this.takeMessage(event, data),
      poll,
      pollMs: 1500,
      state: (s, error) => this.purchaseLink(s, error),
    }));
    // In the background the title still tells when it is the shopper's turn.
    const hidden = setInterval(() => document.hidden && poll().catch(() => {}), HIDDEN_POLL_MS);
    this.endFollowing = () => {
      endStream();
      clearInterval(hidden);
    };
  }

  purchaseLink(state, error) {
    // The journal names a purchase that this server does not have (its data was deleted, say).
    if (error instanceof Problem && error.name === "unknown_purchase") {
      this.endFollowing?.();
      this.forget();
      this.purchase = null;
    }
    this.link("purchase", state, error);
  }

  takePurchase(document) {
    if (this.purchase && document.position < this.purchase.position) return;
    if (document.status !== this.purchase?.status) this.notice = null;
    this.take({ purchase: document });
  }

  takeMessage(event, data) {
    if (event === "purchase") return this.takePurchase(data);
    if (!this.purchase) return;
    if (event === "place") return this.take({ purchase: { ...this.purchase, place: data.place, line: data } });
    if (event === "refund_due") this.notice = { kind: "refund", name: data.reason };
    const status = STATUS_OF[event];
    if (!status) return this.changed();
    if (status !== this.purchase.status) this.paying = false;
    const { line, place, ...rest } = this.purchase;
    this.take({
      purchase: {
        ...rest,
        status,
        ...(data.place ? { place: data.place } : {}),
        ...(data.until ? { until: data.until } : {}),
        ...(data.reason ? { reason: data.reason } : {}),
        ...(data.payment?.reference ? { reference: data.payment.reference } : {}),
        ...(event === "ordered" ? { ordered_at: positionOf(data.id) } : {}),
      },
    });
  }

  async pay(outcome) {
    if (this.paying) return;
    this.paying = true;
    this.notice = null;
    this.changed();
    const id = this.purchase.purchase;
    try {
      const { data } = await persist(
        () => request("POST", `/v1/purchases/${encodeURIComponent(id)}/demo-payment`, {
          token: this.visitor.token,
          body: { outcome },
        }),
        () => this.link("purchase", "lost"));
      if (data.status === "ordered") {
        this.attempt = { ...(this.attempt ?? { key: null, quantity: this.purchase.quantity }), purchase: id, reference: data.reference, ordered: data.position };
        this.remember();
        this.purchase = { ...this.purchase, status: "ordered", reference: data.reference, ordered_at: data.position };
      } else {
        this.notice = data.status === "refund_due" ? { kind: "refund", name: data.reason } : { kind: "declined" };
      }
    } catch (error) {
      this.notice = { kind: "problem", name: error.name, detail: error.message };
    }
    this.paying = false;
    this.link("purchase", "live");
  }

  async giveUp() {
    const id = this.purchase.purchase;
    try {
      const { data } = await persist(
        () => request("DELETE", `/v1/purchases/${encodeURIComponent(id)}`, { token: this.visitor.token }));
      this.takePurchase(data);
    } catch (error) {
      if (error instanceof Lost) return;
      this.notice = { kind: "problem", name: error.name, detail: error.message };
      this.changed();
    }
  }

  // From the end of one purchase to the beginning of another.
  startOver() {
    this.endFollowing?.();
    this.endFollowing = null;
    if (this.visitor) this.forget();
    this.purchase = this.refusal = this.notice = null;
    this.changed();
  }
}

// "sku:position:number"
const positionOf = (id) => Number(String(id ?? "").split(":").at(-2)) || undefined;
