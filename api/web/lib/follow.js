// Follows something that changes: by the server's event stream, and where there is none (refused,
// too many, an old server) by asking now and then. Comes back by itself after any loss, from the
// event that was seen last.

import { backoff, Lost, Problem, wait } from "./api.js";
import { learn, stamp } from "./clock.js";

const SILENCE_MS = 40000;  // heartbeats come every 10 s
const STREAM_AGAIN_MS = 30000;

// Reads text/event-stream from a response, calling `take({event, data, id})` for each event and
// `alive()` for anything that arrives. The last id moves also without data: heartbeats carry it.
async function read(response, take, alive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let event = "";
  let data = [];
  let id;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    buffer += value;
    const lines = buffer.split(/\r\n|\n|\r(?!$)/);
    buffer = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0 || id !== undefined) take({ event: event || "message", data: data.join("\n"), id });
        [event, data, id] = ["", [], undefined];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") event = text;
      else if (field === "data") data.push(text);
      else if (field === "id") id = text;
    }
  }
}

// stream: the path of the event stream. token(): the credentials, or nothing. on(event, document):
// what happened. poll(): what to do instead, every pollMs; may be left out. state("live" | "polling"
// | "lost" | "unavailable"): how it goes. Returns a function that ends it.
export function follow({ stream, token = () => null, on, poll, pollMs = 1500, state = () => {} }) {
  let ended = false;
  let lastId;
  let stop = new AbortController();
  const pause = backoff();

  async function streaming() {
    stop = new AbortController();
    let silent;
    const alive = () => {
      clearTimeout(silent);
      silent = setTimeout(() => stop.abort(), SILENCE_MS);
    };
    alive();
    const sentAt = stamp();
    try {
      const credentials = token();
      const response = await fetch(stream, {
        cache: "no-store",
        signal: stop.signal,
        headers: {
          Accept: "text/event-stream",
          ...(credentials ? { Authorization: `Bearer ${credentials}` } : {}),
          ...(lastId ? { "Last-Event-ID": lastId } : {}),
        },
      });
      learn(response.headers.get("Date"), sentAt);
      const streams = (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
      if (!response.ok || !streams) {
        stop.abort();
        return "refused";
      }
      state("live");
      pause.reset();
      await read(response, (e) => {
        if (e.id !== undefined) lastId = e.id;
        if (e.data !== "") on(e.event, JSON.parse(e.data));
      }, alive);
      return "ended";
    } catch {
      return "lost";
    } finally {
      clearTimeout(silent);
    }
  }

  async function polling() {
    const again = Date.now() + STREAM_AGAIN_MS;
    while (!ended && Date.now() < again) {
      let ms = pollMs * (0.8 + 0.4 * Math.random());
      try {
        await poll();
        state("polling");
        pause.reset();
      } catch (error) {
        if (!(error instanceof Lost) && !(error instanceof Problem && error.passing)) throw error;
        state("lost");
        ms = pause.next((error.retryAfter ?? 0) * 1000);
      }
      await wait(ms);
    }
  }

  (async () => {
    while (!ended) {
      const how = await streaming();
      if (ended) return;
      if (how === "refused") {
        if (!poll) {
          state("unavailable");
          await wait(STREAM_AGAIN_MS);
          continue;
        }
        try {
          await polling();
        } catch (error) {
          // What was followed is not there, or not ours to see: the caller's reads say so too.
          state("unavailable", error);
          return;
        }
        continue;
      }
      if (how === "lost") state("lost");
      await wait(pause.next());
    }
  })();

  return () => {
    ended = true;
    stop.abort();
  };
}

// Follows only while the page can be seen: a browser opens few connections to one server, and tabs
// in the background must not take them all. `start` returns the function that ends it.
export function whileVisible(start) {
  let end = null;
  const turn = () => {
    if (document.hidden && end) {
      end();
      end = null;
    } else if (!document.hidden && !end) {
      end = start();
    }
  };
  document.addEventListener("visibilitychange", turn);
  turn();
  return () => {
    document.removeEventListener("visibilitychange", turn);
    if (end) end();
  };
}
