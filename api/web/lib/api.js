// The API as the pages use it. Every answer teaches the clock; every failure is one of two kinds:
// a Problem, which the server said, and Lost, when nobody knows whether the request arrived.

import { learn, stamp } from "./clock.js";

const PATIENCE_MS = 12000;

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.name = (body.type ?? "").replace("urn:fairsale:problem:", "") || `http_${status}`;
    this.body = body;
    this.retryAfter = retryAfter;
  }
  // The server recorded nothing: the same request may be sent again.
  get passing() {
    return this.status === 429 || this.status === 408 || this.status >= 500;
  }
}

export class Lost extends Error {}

async function bodyOf(response) {
  const text = await response.text();
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.slice(0, 200) };
  }
}

export async function request(method, path, { token, body, headers = {}, signal } = {}) {
  const sentAt = stamp();
  let response;
  let data;
  try {
    response = await fetch(path, {
      method,
      cache: "no-store",
      headers: {
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ?? AbortSignal.timeout(PATIENCE_MS),
    });
    learn(response.headers.get("Date"), sentAt);
    data = await bodyOf(response);
  } catch (error) {
    throw new Lost(String(error));
  }
  if (!response.ok && response.status !== 304) {
    throw new Problem(response.status, data ?? {}, Number(response.headers.get("Retry-After")) || 0);
  }
  return { status: response.status, headers: response.headers, data };
}

export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits a little longer each time, each client differently, so that a crowd does not come back at
// the same moment.
export function backoff() {
  let ms = 400;
  return {
    next(least = 0) {
      const chosen = Math.max(least, ms * (0.5 + Math.random()));
      ms = Math.min(ms * 2, 8000);
      return chosen;
    },
    reset() {
      ms = 400;
    },
  };
}

// Sends until there is an answer that stands. For what is safe to repeat: reads, and writes with an
// Idempotency-Key or a reference of their own.
export async function persist(send, onTrouble = () => {}) {
  const pause = backoff();
  for (;;) {
    try {
      return await send();
    } catch (error) {
      const again = error instanceof Lost || (error instanceof Problem && error.passing);
      if (!again) throw error;
      onTrouble(error);
      await wait(pause.next((error.retryAfter ?? 0) * 1000));
    }
  }
}
