// How a sale stood, second by second: from the stored timeline as far as the server keeps one, with
// what the live sale says in between. Bounded to the last minutes.

import { serverNow } from "../lib/clock.js";
import { api } from "./session.js";

export const SPAN = 300;  // seconds that are shown
const PAGE = 100;

const FIELDS = ["available", "held", "sold", "waiting", "purchases"];

export class History {
  constructor(sku) {
    this.path = `/v1/sales/${encodeURIComponent(sku)}/timeline`;
    this.seconds = new Map();  // second -> {available, held, sold, waiting, purchases?}
    this.latency = new Map();  // second -> {p50, p99} in ms
    this.measured = null;
    this.stored = true;
    this.from = null;
  }

  // The live document, as of now.
  add(sale) {
    const second = Math.floor(serverNow() / 1000);
    const { available, held, sold, waiting } = sale;
    this.seconds.set(second, { ...this.seconds.get(second), available, held, sold, waiting });
  }

  // Of the time since the last call, which may have been more than a second ago.
  addLatency(quantiles) {
    const now = Math.floor(serverNow() / 1000);
    const first = now - (this.measured ?? now) <= 3 ? (this.measured ?? now) + 1 : now;
    for (let second = Math.min(first, now); second <= now; ++second) {
      this.latency.set(second, quantiles);
    }
    this.measured = now;
  }

  // Reads what is new of the timeline. A second may still change while it lasts, so the last is read
  // again.
  async read() {
    if (!this.stored) return;
    let after = this.from ?? Math.floor(serverNow() / 1000) - SPAN;
    try {
      for (let page = 0; page < 4; ++page) {
        const time = new Date((after - 1) * 1000).toISOString();
        const { timeline } = await api("GET", `${this.path}?limit=${PAGE}&after=${time}`);
        for (const row of timeline) {
          const second = Math.floor(Date.parse(row.time) / 1000);
          this.seconds.set(second, Object.fromEntries(FIELDS.map((f) => [f, row[f]])));
          after = second;
        }
        this.from = after;
        if (timeline.length < PAGE) break;
      }
    } catch (error) {
      // A server without a store has no timeline; the live document is enough for three charts.
      if (error.name === "projection_unavailable") this.stored = false;
      else throw error;
    }
    const oldest = Math.floor(serverNow() / 1000) - SPAN - 60;
    for (const map of [this.seconds, this.latency]) {
      for (const second of map.keys()) if (second < oldest) map.delete(second);
    }
  }

  // Columns for the charts. A second in which nothing happened stands as the one before.
  columns() {
    const now = Math.floor(serverNow() / 1000);
    const out = { x: [], stock: [], committed: [], sold: [], waiting: [], attempts: [], p50: [], p99: [] };
    // As much as is known, but a minute at least and the span at most.
    const from = Math.max(now - SPAN, Math.min(now - 60, Math.min(...this.seconds.keys()) - 1));
    let last = null;
    const before = [...this.seconds.keys()].filter((s) => s < from);
    if (before.length > 0) last = this.seconds.get(Math.max(...before));
    for (let second = from; second <= now; ++second) {
      const at = this.seconds.get(second);
      const purchases = at?.purchases ?? last?.purchases;
      const attempts = last?.purchases !== undefined && purchases !== undefined ? purchases - last.purchases : null;
      if (at) last = { ...at, purchases };
      const latency = this.latency.get(second);
      out.x.push(second);
      out.stock.push(last ? last.available + last.held + last.sold : null);
      out.committed.push(last ? last.held + last.sold : null);
      out.sold.push(last ? last.sold : null);
      out.waiting.push(last ? last.waiting : null);
      // The present second is not over.
      out.attempts.push(second < now ? attempts : null);
      out.p50.push(latency?.p50 ?? null);
      out.p99.push(latency?.p99 ?? null);
    }
    return out;
  }

  // Attempts in the last whole second.
  rate() {
    const { attempts } = this.columns();
    return attempts.at(-2) ?? null;
  }
}

// The quantiles of turns between two answers of /v1/stats, in milliseconds; null when there was none.
export function quantiles(before, now) {
  const total = now.turns.count - before.turns.count;
  if (total <= 0) return null;
  const counts = now.turns.buckets.map((b, i) => b.count - before.turns.buckets[i].count);
  const bounds = now.turns.buckets.map((b) => b.up_to);
  const at = (q) => {
    const i = counts.findIndex((c) => c >= q * total);
    const low = i > 0 ? bounds[i - 1] : 0;
    const high = bounds[i] ?? low;
    const below = i > 0 ? counts[i - 1] : 0;
    const share = counts[i] > below ? (q * total - below) / (counts[i] - below) : 1;
    return (low + share * (high - low)) * 1000;
  };
  return { p50: at(0.5), p99: at(0.99) };
}
