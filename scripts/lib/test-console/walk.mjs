// Walks through the console in Chromium, and says what is wrong. See scripts/test-console.
import { strict as assert } from "node:assert";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as stack from "./stack.mjs";

const { WORK, CHROMIUM, ROWS } = process.env;
const require = createRequire(join(WORK, "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = join(WORK, "pictures");
const PATIENCE = 180_000;

const say = (text) => console.log(`test-console: ${text}`);
let checks = 0;
const check = (condition, what) => {
  assert.ok(condition, what);
  checks += 1;
};

// What a browser complains about anywhere, and what axe finds.
const complaints = [];
const violations = [];

// Requests to other hosts than the console.
const foreign = new Set();

async function context(browser, base, who, settings = {}) {
  const made = await browser.newContext({
    ...(who ? { httpCredentials: { username: who.name, password: who.token } } : {}),
    reducedMotion: "reduce",
    viewport: { width: 1280, height: 900 },
    ...settings,
  });
  made.setDefaultTimeout(PATIENCE);
  made.on("page", (page) => {
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(`${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith("http") && url.origin !== base) foreign.add(url.origin);
    });
  });
  return made;
}

// The policy of the pages forbids other scripts, so axe is evaluated by the browser's own protocol.
async function accessible(page, view) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of found.violations) {
    violations.push({ view, id, impact, first: nodes[0].html.slice(0, 160), count: nodes.length });
  }
  checks += 1;
}

async function picture(page, name) {
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

// The README's picture: what became of the rows, and how fast.
async function readme(page) {
  const [law, speed] = await Promise.all(["law-title", "speed-title"].map((id) => page.locator(`section[aria-labelledby=${id}]`).boundingBox()));
  const clip = { x: 0, y: law.y - 8, width: 1100, height: speed.y + speed.height - law.y + 16 };
  await page.screenshot({ path: join(PICTURES, "readme.png"), fullPage: true, clip });
}

async function main() {
  const users = [stack.user("ada", "operator"), stack.user("vic", "viewer"), stack.user("aud", "auditor")];
  const [ada, vic, aud] = users;
  const [api, port] = [await stack.freePort(), await stack.freePort()];
  const base = `http://127.0.0.1:${port}`;
  const settings = { ML_API_URL: `http://127.0.0.1:${api}`, ID_NAMESPACE: "bank" };
  stack.mustRun("assay", ["migrate"]);
  stack.start("ml-api", "ml-api", ["--port", String(api), "--delay", "20ms"]);
  stack.start("predictor", "predictor", [], { ...settings, API_MAX_WORKERS: "8" });
  stack.start("writer", "writer", [], settings);
  stack.start("console", "assay", ["console"], {
    CONSOLE_ADDR: `127.0.0.1:${port}`,
    CONSOLE_USERS_FILE: stack.write("users", users.map((user) => user.line).join("\n")),
    CONSOLE_ACTIONS: "on",
    ML_API_URL: settings.ML_API_URL,
  });
  const bearer = (user) => ({ authorization: `Bearer ${user.token}` });
  await stack.untilReady(`http://127.0.0.1:${api}/health`);
  await stack.untilReady(`${base}/`, bearer(vic));

  say("loading a file, and one whose ids conflict with it");
  const first = join(stack.folder, "first.csv");
  stack.mustRun("assay", ["generate", "--rows", "20000", "--invalid", "0.01", "--duplicates", "0.005", "--delimiter", "comma", "--decimal-mark", "point", "--output", first]);
  const load = (path) => stack.run("loader", ["--wait", path], settings);
  assert.equal(load(first).status, 0);
  const [head, ...lines] = readFileSync(first, "utf8").split("\n").filter((line) => line);
  const amount = head.split(",").indexOf("amount");
  const changed = lines.slice(0, 400).map((line) => {
    const fields = line.split(",");
    if (/^-?\d+\.\d+$/.test(fields[amount] ?? "")) fields[amount] = "1.23";
    return fields.join(",");
  });
  assert.equal(load(stack.write("conflicts.csv", [head, ...changed, ""].join("\n"))).status, 1);
  const runs = JSON.parse(stack.mustRun("assay", ["runs", "--json"]));
  const [conflicts, loaded] = [runs[0].run_id, runs[1].run_id];

  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    await mayDo(base, users, bearer, loaded, conflicts);
    await live(browser, base, vic, settings);
    for (const colorScheme of ["light", "dark"]) await views(browser, base, vic, { colorScheme }, loaded, conflicts);
    await narrow(browser, base, vic, loaded);
    await keyboard(browser, base, vic);
    await withoutScript(browser, base, vic, loaded);
    await orders(browser, base, ada, conflicts, settings);
    await unmasks(browser, base, aud, loaded);
    await report(browser, base, loaded);
  } finally {
    await browser.close();
  }
  check(foreign.size === 0, `requests to ${[...foreign]}`);
  assert.deepEqual(complaints, [], "the browser complains");
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  for (const found of violations) say(`axe: ${found.impact}: ${found.id} in ${found.view}: ${found.first} (${found.count})`);
  assert.deepEqual(serious, [], "axe-core finds something serious");
  say(`${checks} checks passed; axe-core found ${violations.length} lesser things, nothing serious`);
}

async function mayDo(base, [ada, vic, aud], bearer, loaded, conflicts) {
  say("who may do what");
  const status = async (path, user, options = {}) =>
    (await fetch(base + path, { redirect: "manual", ...options, headers: { ...(user ? bearer(user) : {}), ...options.headers } })).status;
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const replay = { method: "POST", headers: form, body: "reason=x&count=1000000" };
  for (const [path, user, options, expected] of [
    ["/", null, {}, 401],
    ["/", { token: "wrong" }, {}, 401],
    ["/assets/console.css", null, {}, 401],
    ["/", vic, {}, 200],
    [`/runs/${conflicts}/actions/replay`, vic, {}, 403],
    [`/runs/${conflicts}/actions/replay`, vic, replay, 403],
    [`/runs/${conflicts}/actions/replay`, aud, replay, 403],
    [`/runs/${conflicts}/actions/replay`, ada, { ...replay, headers: { ...form, origin: "http://evil.example" } }, 403],
    [`/runs/${conflicts}/actions/replay`, ada, { ...replay, body: "count=1000000" }, 400],
    [`/runs/${conflicts}/actions/replay`, ada, { ...replay, body: "reason=x&count=1" }, 400],
    [`/runs/${conflicts}/actions/replay?class=king`, ada, {}, 400],
    [`/runs/${conflicts}/actions/explode`, ada, {}, 400],
    [`/runs/${loaded}/actions/cancel`, ada, {}, 400],
    [`/runs/${loaded}/invalid`, ada, { method: "POST", headers: form, body: "reason=x" }, 403],
    [`/runs/${loaded}/rejected.csv`, vic, { method: "POST", headers: form, body: "reason=x" }, 403],
    ["/runs/nothing", vic, {}, 404],
    ["/nothing", vic, {}, 404],
    [`/runs/${loaded}/rows/none`, vic, {}, 400],
    ["/search?q=", vic, {}, 400],
  ]) {
    assert.equal(await status(path, user, options), expected, `${options.method ?? "GET"} ${path} as ${user?.name}`);
    checks += 1;
  }
  const operations = JSON.parse(stack.mustRun("assay", ["operations", "--json"]));
  assert.deepEqual(operations, [], "a refused order is recorded or done");
}

async function live(browser, base, vic, settings) {
  say(`looking while ${ROWS} rows are loaded`);
  const path = join(stack.folder, "large.csv");
  stack.mustRun("assay", ["generate", "--rows", ROWS, "--seed", "7", "--invalid", "0.01", "--duplicates", "0.002", "--output", path]);
  const open = await context(browser, base, vic);
  const [list, one] = [await open.newPage(), await open.newPage()];
  await list.goto(`${base}/`);
  const loader = stack.start("loader", "loader", ["--wait", path], { ...settings, ID_NAMESPACE: "large" });
  // Neither page is loaded again from here on.
  const row = list.locator("table.runs tbody tr").filter({ hasText: "large.csv" });
  await row.filter({ hasText: /loading|sealed/ }).waitFor();
  checks += 1;
  const name = await row.locator("th a").innerText();
  await one.goto(`${base}/runs/${name}`);
  await one.locator("#chart .uplot").waitFor();
  checks += 1;
  await list.locator("progress").first().waitFor();
  const counted = async () => Number(await one.locator("#law-picture-name").count() ? await one.locator("#law tbody tr").first().locator("data").getAttribute("value") : 0);
  const before = await counted();
  await one.waitForFunction((before) => {
    const data = document.querySelector("#law tbody tr data");
    return data && Number(data.value) > before;
  }, before);
  checks += 1;
  await one.getByText("Slowest now: ").waitFor();
  checks += 1;
  await picture(list, "runs-live");
  await picture(one, "run-live");
  await readme(one);
  await accessible(list, "runs, live");
  await accessible(one, "run, live");
  // Somebody who stops the writer sees what holds it back.
  assert.equal(await stack.ended(loader), 0, stack.log("loader"));
  await one.locator("#head .state.good").filter({ hasText: "complete" }).waitFor();
  await row.filter({ hasText: "complete" }).waitFor();
  checks += 2;
  check(!(await one.locator("#actions").innerText()).includes("assay cancel"), "a finished run can be cancelled");
  await picture(one, "run-finished");
  await open.close();
}

async function views(browser, base, vic, scheme, loaded, conflicts) {
  say(`every view, ${scheme.colorScheme}`);
  const open = await context(browser, base, vic, scheme);
  const page = await open.newPage();
  const look = async (path, name, ...texts) => {
    await page.goto(base + path);
    for (const text of texts) check((await page.locator("main").innerText()).includes(text), `${path} lacks ${text}`);
    await accessible(page, `${name}, ${scheme.colorScheme}`);
    await picture(page, `${name}-${scheme.colorScheme}`);
  };
  await look("/", "runs", loaded, conflicts, "transactions.batch", "complete");
  await look("/?state=failures", "runs-filtered", conflicts);
  check(!(await page.locator("main").innerText()).includes(loaded), "the filter shows a run without failures");
  await look("/?source=no-such-source", "runs-none", "No run is like this");
  await look(`/runs/${loaded}`, "run", "20,000 read =", "predicted", "amount_format", "demo", "recognised", "Row");
  await look(`/runs/${conflicts}`, "run-failed", "id_conflict", "Another transaction with this id");
  await look(`/runs/${loaded}/invalid`, "invalid", "amount_format");
  const next = page.locator("nav.pages a[rel=next]");
  await next.click();
  check(page.url().includes("from="), "no further rows");
  await look(`/runs/${conflicts}/failed?class=id_conflict`, "failed", "id_conflict", "replayable");
  await look(`/runs/${loaded}/rows/1`, "row", "Row 1");
  await look(`/runs/${loaded}/rows/99999999`, "row-none", "never read");
  const external = JSON.parse(stack.mustRun("assay", ["row", loaded, "2", "--json"])).transaction?.external_id ?? "";
  if (external) await look(`/search?q=${encodeURIComponent(external)}`, "search", "Row 2 of");
  await look("/search?q=no-such-id", "search-none", "no transaction this id");
  await look("/operations", "operations", "Operations");
  await look("/runs/nothing", "missing", "There is no run nothing");
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("404")));
  await open.close();
}

async function narrow(browser, base, vic, loaded) {
  say("a narrow screen");
  const open = await context(browser, base, vic, { viewport: { width: 360, height: 740 } });
  const page = await open.newPage();
  for (const [path, name] of [["/", "runs"], [`/runs/${loaded}`, "run"], [`/runs/${loaded}/invalid`, "invalid"], [`/runs/${loaded}/rows/1`, "row"]]) {
    await page.goto(base + path);
    await picture(page, `${name}-narrow`);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    check(width <= 360, `${name} is ${width} pixels wide`);
  }
  await open.close();
}

async function keyboard(browser, base, vic) {
  say("by keyboard");
  const open = await context(browser, base, vic);
  const page = await open.newPage();
  await page.goto(`${base}/`);
  await page.keyboard.press("Tab");
  check((await page.evaluate(() => document.activeElement.textContent)) === "Skip to the content", "the first stop is not the skip link");
  await page.keyboard.press("Enter");
  check((await page.evaluate(() => document.activeElement.id)) === "content", "the skip link leads nowhere");
  await page.locator("input[name=source]").focus();
  await page.keyboard.type("first.csv");
  await page.keyboard.press("Enter");
  await page.waitForURL(/source=first\.csv/);
  await page.locator("table.runs th a").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/runs\//);
  await page.locator("figure summary").first().focus();
  await page.keyboard.press("Enter");
  check(await page.locator("figure details[open] table").first().isVisible(), "a table does not open by keyboard");
  await open.close();
}

async function withoutScript(browser, base, vic, loaded) {
  say("without a script, and in another locale");
  const plain = await context(browser, base, vic, { javaScriptEnabled: false });
  const page = await plain.newPage();
  await page.goto(`${base}/runs/${loaded}`);
  check((await page.locator("#law").innerText()).includes("20,000 read"), "nothing is shown without a script");
  await plain.close();
  const german = await context(browser, base, vic, { locale: "de-DE" });
  const other = await german.newPage();
  await other.goto(`${base}/`);
  check((await other.locator("table.runs").innerText()).includes("20.000"), "numbers are not in the reader's locale");
  await german.close();
}

async function orders(browser, base, ada, conflicts, settings) {
  say("what an operator orders");
  const open = await context(browser, base, ada);
  const page = await open.newPage();
  await page.goto(`${base}/runs/${conflicts}`);
  await page.getByRole("link", { name: "Replay failed transactions…" }).click();
  const selected = Number(await page.locator(".fate data").first().getAttribute("value"));
  check(selected > 100, `${selected} transactions are selected`);
  await accessible(page, "replay");
  await picture(page, "replay");
  await page.locator("form.confirm input[name=reason]").fill("the walk's reason");
  await page.locator("button.order").click();
  await page.getByText("It is done.").waitFor();
  await accessible(page, "replayed");
  await page.goto(`${base}/runs/${conflicts}/actions/audit`);
  await page.locator("button.order").click();
  await page.getByText("It is done.").waitFor();
  await picture(page, "audited");
  const path = join(stack.folder, "cancelled.csv");
  stack.mustRun("assay", ["generate", "--rows", "2000000", "--seed", "9", "--output", path]);
  const loader = stack.start("loader-cancelled", "loader", ["--wait", path], { ...settings, ID_NAMESPACE: "cancelled" });
  await page.goto(`${base}/?source=cancelled.csv`);
  await page.locator("table.runs th a").first().click();
  await page.getByRole("link", { name: "End the run early…" }).click();
  await page.locator("form.confirm input[name=reason]").fill("the wrong file");
  await page.locator("button.order").click();
  await page.getByText("It is done.").waitFor();
  await stack.ended(loader);
  const operations = JSON.parse(stack.mustRun("assay", ["operations", "--json"]));
  assert.deepEqual(
    operations.map(({ operator, action, reason }) => [operator, action, reason]).reverse(),
    [["ada", "replay", "the walk's reason"], ["ada", "audit", null], ["ada", "cancel", "the wrong file"]],
  );
  checks += 1;
  await page.goto(`${base}/operations`);
  check((await page.locator("main").innerText()).includes("the walk's reason"), "an order is not among the operations");
  await picture(page, "operations");
  await open.close();
}

async function unmasks(browser, base, aud, loaded) {
  say("what an auditor sees");
  const open = await context(browser, base, aud);
  const page = await open.newPage();
  await page.goto(`${base}/runs/${loaded}/invalid`);
  await page.locator("form.confirm input[name=reason]").fill("to check the masking");
  await page.getByRole("button", { name: "Show card numbers" }).click();
  await page.getByText("It is recorded that you saw them").waitFor();
  await accessible(page, "unmasked");
  const [last] = JSON.parse(stack.mustRun("assay", ["operations", "--json"]));
  assert.deepEqual([last.operator, last.action, last.reason], ["aud", "unmask", "to check the masking"]);
  checks += 1;
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Rejected rows as a file" }).click();
  const file = readFileSync(await (await download).path(), "utf8");
  check(file.split("\n").length > 100, "the file of rejected rows is short");
  await open.close();
}

async function report(browser, base, loaded) {
  say("a report");
  const path = join(stack.folder, "run.html");
  stack.mustRun("assay", ["report", loaded, "--output", path]);
  const open = await context(browser, base, null);
  const page = await open.newPage();
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`file://${path}`);
  check((await page.locator("main").innerText()).includes("20,000 read ="), "the report lacks the law");
  assert.deepEqual(requests, [`file://${path}`], "the report loads something");
  await accessible(page, "report");
  await picture(page, "report");
  await open.close();
}

try {
  await main();
} catch (error) {
  process.exitCode = 1;
  console.error(error);
  for (const name of ["console", "loader", "writer", "predictor"]) {
    try {
      console.error(`--- ${name}\n${stack.log(name).split("\n").slice(-15).join("\n")}`);
    } catch {
      // It was not started.
    }
  }
} finally {
  await stack.stop();
  stack.forget();
}
