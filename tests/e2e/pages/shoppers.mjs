// Two shoppers, one unit: one buys, the other waits; the first lets it expire, the second is offered
// it and pays. In the middle the server is killed and started again, and one page is reloaded.

import { accessible, ask, DARK, DESKTOP, expect, open, PHONE, picture, run, meantToFail } from "./browser.mjs";

const heading = (page, text) => page.getByRole("heading", { name: text }).waitFor();

run(async () => {
  const { sku, hold } = await ask("sale");

  const anna = await open(`/s/${sku}`, DESKTOP);
  const ben = await open(`/s/${sku}`, { ...PHONE, ...DARK });
  await heading(anna, "Opens in");
  expect(/^\d+:\d\d$/.test(await anna.getByRole("timer").innerText()), "a countdown to the start");
  await accessible(anna, "the countdown");

  await anna.locator("#buy").waitFor();  // by itself, when the sale opens
  await ben.locator("#buy").waitFor();
  await picture(anna, "shopper-open-desktop-light");
  await accessible(anna, "the open sale");
  await anna.locator("#buy").focus();
  await anna.keyboard.press("Enter");    // a keyboard is enough
  await heading(anna, "Held for you");
  expect(await anna.locator("#panel").evaluate((p) => p.contains(document.activeElement)), "the focus stays with the purchase");
  const purchase = await anna.evaluate(() => JSON.parse(Object.entries(localStorage).find(([k]) => k.startsWith("fairsale.attempt"))[1]));
  expect(purchase.purchase?.startsWith(`${sku}:`) && purchase.key, "the purchase and its key are kept");
  await accessible(anna, "the hold");

  await anna.getByRole("button", { name: "Try a card that is declined" }).click();
  await anna.getByText("The payment was declined").waitFor();

  await ben.getByText("Nothing is free this moment").waitFor();
  await ben.locator("#buy").click();
  await heading(ben, "You are in line");
  await ben.getByText("You are next").waitFor();
  await ben.getByText("1 unit could still come back").waitFor();
  await accessible(ben, "the line");
  await picture(ben, "shopper-line-phone-dark");
  await picture(anna, "shopper-hold-desktop-light");

  await meantToFail(async () => {
    await ask("kill");
    await anna.getByText("Connection lost").waitFor();
    await ben.getByText("Connection lost").waitFor();
    await accessible(ben, "a lost connection");
    await ask("start");
    await anna.locator("#lost").waitFor({ state: "hidden" });
    await ben.locator("#lost").waitFor({ state: "hidden" });
  });
  await ben.reload();
  await heading(ben, "You are in line");
  await anna.reload();
  await heading(anna, "Held for you");

  // Time goes on only now: the hold ends, and the line moves.
  const offered = ben.getByRole("heading", { name: "It is your turn" });
  await offered.waitFor({ timeout: hold * 1000 + 40000 });
  await heading(anna, "The time to pay is over");
  expect((await ben.title()).startsWith("Your turn!"), "the title tells whose turn it is");
  await accessible(ben, "the offer");
  await picture(ben, "shopper-offer-phone-dark");
  await ben.getByRole("button", { name: "Pay €49.00" }).click();
  await heading(ben, "It is yours");
  await ben.getByText("Place in the log").waitFor();
  await ben.getByText("How can I know that it was fair?").click();
  await ben.getByText(`fairsale explain LOG ${sku}:`).waitFor();
  await accessible(ben, "the receipt");
  await picture(ben, "shopper-receipt-phone-dark");

  await anna.getByText("Sold out").first().waitFor();
  await anna.getByRole("button", { name: "Try again" }).waitFor({ state: "detached" });  // it cannot help
  await picture(anna, "shopper-expired-desktop-light");
  await ben.reload();
  await heading(ben, "It is yours");
  await ben.getByText("demo-").waitFor();

  // A request whose answer is lost, and a reload before the next try: still one purchase.
  const two = await ask("second sale");
  const cara = await open(`/s/${two.sku}`, PHONE);
  await cara.locator("#buy").waitFor();
  await meantToFail(async () => {
    await cara.route("**/purchases", async (route) => {
      await route.fetch();
      await route.abort();
    }, { times: 1 });
    await cara.locator("#buy").click();
    await heading(cara, "On its way");
    await cara.reload();
    await heading(cara, "Held for you");
  });
  const left = await cara.locator("#available").innerText();
  expect(left === String(two.stock - 1), `one unit is held, and not two: ${left} of ${two.stock} left`);

  await meantToFail(async () => {
    const nobody = await open("/s/no-such-sale", PHONE);
    await heading(nobody, "No such sale");
  });
});
