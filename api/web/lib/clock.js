// The server's clock. A shopper's own may be wrong by hours, and it is the server's that decides.
//
// Each answer carries a Date, cut off to the second, so the server's time when it was sent lies in
// [Date, Date + 1 s), and that moment between the request and the arrival here. Each answer thus
// bounds the difference between the clocks; together they narrow it down to some milliseconds.

const local = () => performance.timeOrigin + performance.now();

let low = -Infinity;
let high = Infinity;

export function learn(dateHeader, sentAt) {
  const date = Date.parse(dateHeader ?? "");
  if (Number.isNaN(date)) return;
  const least = date - local();
  const most = date + 1000 - sentAt;
  low = Math.max(low, least);
  high = Math.min(high, most);
  // A clock was set, or this machine slept.
  if (low > high) [low, high] = [least, most];
}

export const stamp = local;

// Milliseconds since the Unix epoch, as the server counts them.
export function serverNow() {
  return low === -Infinity ? Date.now() : local() + (low + high) / 2;
}

export const until = (time) => Math.max(0, Date.parse(time) - serverNow());
