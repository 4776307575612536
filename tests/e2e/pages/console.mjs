// The operator's day: signs in, creates a sale, watches a rush, pauses, resumes, sets stock, explains a
// purchase, rebuilds a projection, closes.

import { accessible, ask, DARK, DESKTOP, expect, open, operator, PHONE, picture, run, meantToFail } from "./browser.mjs";

const WIDE = { viewport: { width: 1360, height: 1020 } };

async function account(page, reason, action) {
  await page.getByLabel("Your name").fill("olga");
  await page.getByLabel("Reason").fill(reason);
  await page.getByRole("dialog").getByRole("button", { name: action, exact: true }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

run(async () => {
  const page = await open("/console", WIDE);
  await accessible(page, "the sign-in");
  await meantToFail(async () => {
    await page.getByLabel("Operator token").fill("not-the-operators-token");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("does not know this token").waitFor();
  });
  await page.getByLabel("Operator token").fill(operator);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Sales" }).waitFor();
  expect((await page.evaluate(() => localStorage.length)) === 0, "the token stays in the tab");

  await page.getByRole("button", { name: "Create a sale" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  await page.getByText("1 to 64 letters").waitFor();  // at its field
  await page.getByLabel("SKU").fill("autumn-tour");
  await page.getByLabel("Stock").fill("400");
  await page.getByLabel("Hold, in seconds").fill("1.5");
  await page.getByLabel("Ends").fill("2020-01-01T00:00");
  await accessible(page, "the form");
  await meantToFail(async () => {
    // What only the server knows is told at the field that it names.
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await page.getByLabel("Ends").and(page.locator("[aria-invalid=true]")).waitFor();
    await page.getByLabel("Ends").fill("");
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await page.getByRole("heading", { name: "autumn-tour" }).waitFor();
  });
  await page.locator("#sale-state").getByText("Open").waitFor();
  expect((await page.locator(".chart canvas").count()) === 4, "four charts");

  await ask("rush");
  await page.locator("#feed li").first().waitFor();
  await page.waitForFunction(() => Number(document.querySelector("#figure-sold").textContent.replace(/\D/g, "")) > 0);
  await page.waitForFunction(() => document.querySelector("#figure-p99").textContent.endsWith("ms"));
  await ask("rush is over");
  await page.waitForFunction(() => document.querySelector("#chart-attempts").getAttribute("aria-label").includes("Now"));
  await page.waitForTimeout(1500);  // another point in the charts, for the picture only
  await picture(page, "console-desktop-light");
  await accessible(page, "the sale");

  await page.locator("#feed button").first().click();
  await page.locator("#explanation .told").first().waitFor();
  await page.getByLabel("Customer, or purchase such as").fill("mia");
  await page.getByRole("button", { name: "Explain", exact: true }).click();
  await page.locator("#explanation").getByText(/autumn-tour:\d+/).first().waitFor();

  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
  await page.getByText("Please fill this in.").first().waitFor();
  await account(page, "the payment provider is down", "Pause");
  await page.locator("#sale-state").getByText("Paused").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await account(page, "it is back", "Resume");
  await page.locator("#sale-state").getByText("Open").waitFor();

  await page.getByRole("button", { name: "Adjust stock" }).click();
  await page.getByLabel("New total").fill("0");
  await page.getByLabel("Your name").fill("olga");
  await page.getByLabel("Reason").fill("a pallet is lost");
  await meantToFail(async () => {
    await page.getByRole("dialog").getByRole("button", { name: "Set stock" }).click();
    await page.getByRole("dialog").getByText("cannot be set below").waitFor();
  });
  await page.getByLabel("New total").fill("450");
  await account(page, "a pallet was found", "Set stock");
  await page.getByText("450 in all").waitFor();

  const phone = await open(`/console#token=${operator}`, { ...PHONE, ...DARK });
  expect(!phone.url().includes(operator), "the token leaves the address");
  await phone.getByRole("link", { name: "autumn-tour" }).click();
  await phone.locator("#figure-sold").filter({ hasText: /\d/ }).waitFor();
  await phone.locator("#feed li").first().waitFor();
  await accessible(phone, "the sale on a phone in the dark");
  await picture(phone, "console-phone-dark");

  await ask("webhooks");
  await page.getByRole("button", { name: "Close" }).click();
  await account(page, "it was only a trial", "Close the sale");
  await page.locator("#sale-state").getByText("Closed").waitFor();

  await meantToFail(async () => {
    await page.getByRole("link", { name: "Health" }).click();
    await page.locator("#rebuild-orders").click();
    await page.waitForFunction(() => {
      const row = [...document.querySelectorAll("#projections tr")].find((r) => r.textContent.startsWith("orders"));
      return row && row.cells[4].textContent === "2" && row.querySelector("button");
    });
    await page.locator("#audit-fairness").click();
    await page.getByText("✓ Sound").waitFor();
    await page.getByText("✓ Fair").waitFor();
    await page.locator("#outbox").getByText("not an address of the public Internet").first().waitFor();
    await page.locator("#webhooks").getByText("http://127.0.0.1:9/").first().waitFor();
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing sticks out of the page");
    await accessible(page, "health");
    await picture(page, "console-health-desktop-light");
  });

  const index = await open("/", DESKTOP);
  await index.getByRole("link", { name: "Demo" }).waitFor();
  await accessible(index, "the index");
});
