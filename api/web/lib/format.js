// How figures look to people.

const whole = new Intl.NumberFormat("en");

export const count = (n) => whole.format(n);

export const units = (n) => `${count(n)} ${n === 1 ? "unit" : "units"}`;

export const people = (n) => `${count(n)} ${n === 1 ? "person" : "people"}`;

export function money({ amount, currency }) {
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

// "1:05", "2:03:09", or "3 d 04:00:00": a countdown, always rounded up so that 0:00 means over.
export function countdown(ms) {
  const total = Math.ceil(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  const days = Math.floor(total / 86400);
  const hours = Math.floor(total / 3600) % 24;
  const minutes = Math.floor(total / 60) % 60;
  const clock = `${two(minutes)}:${two(total % 60)}`;
  if (days > 0) return `${days} d ${two(hours)}:${clock}`;
  if (hours > 0) return `${hours}:${clock}`;
  return `${minutes}:${two(total % 60)}`;
}

// "2 minutes", "90 seconds": how long something is given.
export function spell(seconds) {
  if (seconds >= 120 && seconds % 60 === 0) return `${count(seconds / 60)} minutes`;
  return seconds === 1 ? "1 second" : `${count(seconds)} seconds`;
}

// "about 3 minutes"
export function about(seconds) {
  if (seconds < 45) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `about ${minutes} ${minutes === 1 ? "minute" : "minutes"}`;
  const hours = Math.round(minutes / 60);
  return `about ${hours} ${hours === 1 ? "hour" : "hours"}`;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const clockTime = (time) =>
  new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const dayAndTime = (time) =>
  new Date(time).toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });

// A SKU as a heading: "tour-2027" is "Tour 2027".
export const titled = (sku) =>
  sku.split(/[-_.]+/).filter(Boolean)
    .map((word) => word[0].toUpperCase() + word.slice(1)).join(" ");
