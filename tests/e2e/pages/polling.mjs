// Where the server serves no more event streams, the pages ask instead: a shopper waits, is offered a
// unit and pays, and the console sees the sale close.

import { ask, DESKTOP, expect, meantToFail, open, operator, PHONE, run } from "./browser.mjs";

// What requests for event streams are answered from here on.
function streamsOf(page) {
  const statuses = [];
  page.on("response", (r) => /\/(events|decisions)$/.test(new URL(r.url()).pathname) && statuses.push(r.status()));
  return statuses;
}

run(() => meantToFail(async () => {
  const { sku } = await ask("sale");
  const heading = (page, text) => page.getByRole("heading", { name: text }).waitFor();

  const ben = await open(`/s/${sku}`, PHONE);
  const ofBen = streamsOf(ben);
  await ben.reload();
  await ben.locator("#buy").click();
  await heading(ben, "You are in line");
  await ask("the other gives up");
  await heading(ben, "It is your turn");
  await ben.locator("#pay").click();
  await heading(ben, "It is yours");
  await ben.locator("#sold").getByText("1", { exact: true }).waitFor();
  expect((await ben.locator("#link").innerText()) === "Live", "asking is as good as being told");

  const console_ = await open(`/console#token=${operator}`, DESKTOP);
  const ofConsole = streamsOf(console_);
  await console_.getByRole("link", { name: sku }).click();
  await console_.locator("#figure-sold").getByText("1", { exact: true }).waitFor();
  await console_.locator("#sale-state").getByText("Open").waitFor();
  await ask("the sale is closed");
  await console_.locator("#sale-state").getByText("Closed").waitFor();

  for (const statuses of [ofBen, ofConsole]) {
    expect(statuses.length >= 2 && statuses.every((s) => s === 503), `streams are refused, and not ${statuses}`);
  }
}));
