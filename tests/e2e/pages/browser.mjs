// A headless Chromium for the scenarios: its pages report what must not happen, and steps that only
// the test can take (killing the server, say) are asked of it over standard output.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { url, images, modules, operator } = JSON.parse(process.argv[2]);
export { operator, url };

const require = createRequire(join(modules, "node_modules", "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const PATIENCE = 40000;
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 1.5 };
export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const DARK = { colorScheme: "dark" };

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Asks the test to do something; returns once it has.
export async function ask(what) {
  console.log(JSON.stringify({ ask: what }));
  const { value } = await answers.next();
  return JSON.parse(value);
}

export function expect(truth, what) {
  if (!truth) throw new Error(`expected: ${what}`);
}

const troubles = [];
let excused = false;

// When requests are meant to fail (the server is down, say), the browser says so in the console.
export async function meantToFail(call) {
  excused = true;
  const result = await call();
  excused = false;
  return result;
}

let browser;

export async function open(path, options) {
  const context = await browser.newContext({ timezoneId: "UTC", locale: "en-GB", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const note = (text) => {
    if (excused && /Failed to load resource|ERR_/.test(text)) return;
    troubles.push(`${path}: ${text}`);
  };
  page.on("pageerror", (error) => note(`pageerror ${error.message}`));
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && note(`${m.text()} ${m.location().url}`));
  page.on("request", (r) => !r.url().startsWith(url) && !r.url().startsWith("data:") && note(`asks another server: ${r.url()}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) => console.error(`CSP ${e.violatedDirective} ${e.blockedURI}`));
  });
  await page.goto(url + path);
  return page;
}

// Nothing that keeps people out: WCAG A and AA as far as a program can tell.
export async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    await Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {})));
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.filter((v) => ["serious", "critical"].includes(v.impact))
      .map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}: ${v.nodes[0].failureSummary}`);
  });
  expect(found.length === 0, `${where} is accessible, but: ${found.join("; ")}`);
}

export async function picture(page, name) {
  await page.evaluate(() => Promise.all(document.getAnimations().map((a) => a.finished.catch(() => {}))));
  await page.screenshot({ path: join(images, `${name}.png`) });
}

export async function run(scenario) {
  mkdirSync(images, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  let failed = null;
  try {
    await scenario();
    expect(troubles.length === 0, `no trouble in the console, but: ${troubles.join("\n")}`);
  } catch (error) {
    failed = error;
    let n = 0;
    for (const context of browser.contexts()) {
      for (const page of context.pages()) {
        await page.screenshot({ path: join(images, `failed-${n++}.png`) }).catch(() => {});
      }
    }
  }
  await browser.close();
  if (failed) {
    console.error(failed.stack, "\n", troubles.join("\n"));
    process.exit(1);
  }
  process.exit(0);
}
