// What this browser remembers of a shopper: who they are, and of each sale the attempt under way.
// The attempt's key is written before the request leaves, so that whatever happens then (a reload,
// a lost answer, a restarted server) the same request can be sent again and gets the same answer.

const GUEST = "fairsale.guest";   // a demo's guest stays the same for a day
const TOKEN = "fairsale.token";   // a shop's customer: as long as the tab lives

function read(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

// A browser that keeps nothing can still buy; it only cannot survive a reload.
function write(storage, name, value) {
  try {
    if (value === null) storage.removeItem(name);
    else storage.setItem(name, value);
  } catch { /* see above */ }
}

// "ct1.<customer>.<expiry>.<signature>"
function parse(token) {
  const parts = (token ?? "").split(".");
  if (parts.length !== 4 || parts[0] !== "ct1") return null;
  try {
    const customer = atob(parts[1].replace(/-/g, "+").replace(/_/g, "/"));
    return { token, customer, expiresAt: Number(parts[2]) * 1000 };
  } catch {
    return null;
  }
}

// Takes a token out of the address, where it would be seen and copied.
function fromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  if (parse(token)) write(sessionStorage, TOKEN, token);
}

export function visitor(now) {
  fromAddress();
  const shops = parse(read(sessionStorage, TOKEN));
  if (shops) return shops;
  const guest = parse(read(localStorage, GUEST));
  return guest && guest.expiresAt > now ? guest : null;
}

export function keepGuest(token) {
  write(localStorage, GUEST, token);
  return parse(token);
}

const nameOf = (sku, customer) => `fairsale.attempt.${sku}.${customer}`;

// {key, quantity, purchase?, reference?}
export function loadAttempt(sku, customer) {
  try {
    return JSON.parse(read(localStorage, nameOf(sku, customer)));
  } catch {
    return null;
  }
}

export function saveAttempt(sku, customer, attempt) {
  write(localStorage, nameOf(sku, customer), attempt && JSON.stringify(attempt));
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
