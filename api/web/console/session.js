// The operator's token, kept for as long as the tab lives, and the API called with it.

import { Problem, request } from "../lib/api.js";

const NAME = "fairsale.operator";
let token = null;
let onRefused = () => {};

try {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(NAME, given);
  }
  token = sessionStorage.getItem(NAME);
} catch { /* A browser that keeps nothing asks again after a reload. */ }

export const operator = () => token;

export function signIn(given) {
  token = given;
  try {
    sessionStorage.setItem(NAME, given);
  } catch { /* as above */ }
}

export function signOut() {
  token = null;
  try {
    sessionStorage.removeItem(NAME);
  } catch { /* as above */ }
}

export function whenRefused(call) {
  onRefused = call;
}

export async function api(method, path, body) {
  try {
    return (await request(method, path, { token, body })).data;
  } catch (error) {
    if (error instanceof Problem && error.status === 401) onRefused();
    throw error;
  }
}

// Calls again and again, the next time `ms` after the end of the last, while the page is seen.
// Returns the function that ends it.
export function every(ms, call) {
  let ended = false;
  (async () => {
    while (!ended) {
      if (!document.hidden) await call();
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  })();
  return () => {
    ended = true;
  };
}
