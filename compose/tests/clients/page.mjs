// Drives the live page in Chromium: logs in, follows a device, sees an alert, takes a picture. Prints
// what it sees as lines of JSON. A message on the console, or of the content security policy, is an error.
//
//   node page.mjs URL USER PASSWORD DEVICE PICTURE
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import readline from "node:readline";

const require = createRequire(pathToFileURL(process.env.CLIENTS + "/"));
const { chromium } = require("playwright-core");
const [url, user, password, device, picture] = process.argv.slice(2);
const print = (event, value) => console.log(JSON.stringify({ event, value }));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) print("console", message.text());
});
page.on("pageerror", (error) => print("console", String(error)));
await page.addInitScript(() => {
  document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
});

await page.goto(url);
await page.fill("#username", user);
await page.fill("#password", password);
await page.click("#login button");
await page.waitForFunction(() => document.getElementById("connection").textContent === "Live");
await page.click(`[data-device="${device}"]`);
await page.waitForSelector("#readings td.number");
print("ready", await page.textContent("#readings td.number"));

// Reads from stdin what to wait for.
const waits = {
  reading: (value) => page.waitForFunction((value) =>
    document.querySelector("#readings td.number")?.textContent === value, value),
  alert: (text) => page.waitForFunction((text) =>
    document.getElementById("alerts").textContent.includes(text), text),
  gone: (text) => page.waitForFunction((text) =>
    !document.getElementById("alerts").textContent.includes(text), text),
  live: (text) => page.waitForFunction((text) =>
    document.getElementById("connection").textContent.startsWith(text), text),
};
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [what, ...rest] = line.split(" ");
  if (what === "end") break;
  await waits[what](rest.join(" "));
  print("seen", line);
}
const chart = await page.getAttribute("#chart polyline", "points");
print("chart", chart?.split(" ").length ?? 0);
await page.screenshot({ path: picture });
await browser.close();
print("done", null);
process.exit(0);
