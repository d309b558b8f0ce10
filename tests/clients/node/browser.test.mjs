// The official JavaScript client in a real browser, on a page of another origin: what it sends needs the browser's questions answered.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { startServer } from "./server.mjs";

const library = join(dirname(fileURLToPath(import.meta.url)), "node_modules", "openai");
let pages;
let origin;
let server;
let browser;

before(async () => {
  pages = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://page").pathname);
    if (path === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>page</title>");
    try {
      const text = await readFile(join(library, path));
      response.setHeader("content-type", extname(path) === ".mjs" ? "text/javascript" : "text/plain").end(text);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${pages.address().port}`;
  server = await startServer("--context", "1024", "--cors-origin", origin, "--cors-origin", "null");
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  assert.ok(existsSync(executablePath), `no browser at ${executablePath}: install chromium or set CHROMIUM`);
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  pages?.close();
  assert.equal(await server?.stop(), 0, "the server must end cleanly");
});

/** Asks with the client in a page, plainly and streamed. */
async function ask(page, client, base) {
  return page.evaluate(async ([client, base]) => {
    const { default: OpenAI } = await import(client);
    const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", dangerouslyAllowBrowser: true, maxRetries: 0 });
    const model = (await openai.models.list()).data[0].id;
    const question = { model, messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 24 };
    const whole = await openai.chat.completions.create(question);
    let streamed = "";
    for await (const chunk of await openai.chat.completions.create({ ...question, stream: true })) {
      streamed += chunk.choices[0]?.delta?.content ?? "";
    }
    const refused = await openai.chat.completions.create({ ...question, model: "none" }).catch((error) => error);
    return { whole: whole.choices[0].message.content, streamed, status: refused.status, code: refused.code };
  }, [client, base]);
}

test("the client works in a page whose origin is allowed", async () => {
  const page = await browser.newPage();
  await page.goto(origin);
  const said = await ask(page, `${origin}/index.mjs`, server.url);
  assert.ok(said.whole);
  assert.equal(said.streamed, said.whole);
  assert.deepEqual([said.status, said.code], [404, "model_not_found"]);
});

test("a page of another origin gets nothing", async () => {
  const page = await browser.newPage();
  await page.goto(origin.replace("127.0.0.1", "localhost"));
  const failed = await page.evaluate((base) => fetch(`${base}/v1/models`).then(() => "an answer", (error) => error.name), server.url);
  assert.equal(failed, "TypeError");
});

test("a sandboxed frame's origin `null` is allowed where the operator says so", async () => {
  const page = await browser.newPage();
  await page.goto(origin);
  const status = await page.evaluate((base) => new Promise((resolve) => {
    addEventListener("message", (event) => resolve(event.data));
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>fetch("${base}/v1/models").then((a) => a.status, (e) => e.name).then((s) => parent.postMessage(s, "*"))</scr` + `ipt>`;
    document.body.append(frame);
  }), server.url);
  assert.equal(status, 200);
});
