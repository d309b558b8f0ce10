// What every spec starts from: a server (the mock, or the real program when ZHENJIN_BIN is set) and a browser that
// fails the spec when the page asks anything of another origin, breaks its own policy or throws.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AxeResults } from 'axe-core';
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
} from 'playwright-core';
import { expect } from 'vitest';
import { startMockServer } from '../dev/mock-server.mjs';
import type { Message } from '../src/lib/api/types';

export const binary = process.env.ZHENJIN_BIN;
export const isReal = binary !== undefined && binary !== '';

export interface Server {
  url: string;
  key: string | null;
  /** The real program only: ended without warning, and started again on the same address and data. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  close(): Promise<void>;
}

function testModel(): string {
  const given = process.env.ZHENJIN_TEST_MODEL;
  if (given) return given;
  const home = process.env.ZHENJIN_HOME ?? join(process.env.HOME ?? '', '.local/share/zhenjin');
  const models = join(home, 'models');
  if (!existsSync(models)) {
    throw new Error(
      `no model for the browser tests: set ZHENJIN_TEST_MODEL to a GGUF file, or fetch one (${models})`,
    );
  }
  return 'smollm2:135m';
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

export async function startServer({ needsKey = false, model = '' } = {}): Promise<Server> {
  return isReal ? startProgram(needsKey, model || testModel()) : startMock(needsKey);
}

/** `tokenMilliseconds`: slow enough that a spec can act in the middle of an answer. */
export type MockServer = Server & Pick<Awaited<ReturnType<typeof startMockServer>>, 'chats' | 'feedback'>;

export async function startMock(needsKey = false, options = {}): Promise<MockServer> {
  const key = needsKey ? 'the key of the mock server' : null;
  const mock = await startMockServer({ tokenMilliseconds: 8, key, ...options });
  const never = () => Promise.reject(new Error('the mock server cannot be killed'));
  return {
    url: mock.url,
    chats: mock.chats,
    feedback: mock.feedback,
    key,
    kill: never,
    restart: never,
    close: mock.close,
  };
}

async function startProgram(needsKey: boolean, model: string): Promise<Server> {
  const data = mkdtempSync(join(tmpdir(), 'zhenjin-e2e-'));
  const url = `http://127.0.0.1:${await freePort()}`;
  const key = needsKey ? newKey(data) : null;
  let child: ChildProcess | null = null;

  async function start() {
    const started = spawn(
      binary ?? '',
      ['serve', model, '--addr', new URL(url).host, ...(needsKey ? ['--require-key'] : [])],
      {
        env: programEnvironment(data),
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    child = started;
    let log = '';
    started.stderr?.on('data', (text) => (log = (log + String(text)).slice(-4000)));
    for (let waited = 0; waited < 60_000; waited += 100) {
      if (started.exitCode !== null) throw new Error(`${binary} ended with ${started.exitCode}:\n${log}`);
      if (await fetch(`${url}/healthz`).then((answer) => answer.ok, () => false)) return; // prettier-ignore
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${binary} did not answer within a minute:\n${log}`);
  }

  async function end(signal: NodeJS.Signals) {
    const running = child;
    child = null;
    if (!running || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(signal);
    await ended;
  }

  await start();
  return {
    url,
    key,
    kill: () => end('SIGKILL'),
    restart: start,
    async close() {
      await end('SIGTERM');
      rmSync(data, { recursive: true, force: true });
    },
  };
}

function newKey(data: string): string {
  const printed = execFileSync(binary ?? '', ['key', 'new', 'browser-tests'], {
    env: programEnvironment(data),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return printed.trim();
}

/** A fresh data folder, except that a named model is looked up where it was fetched. */
function programEnvironment(data: string): NodeJS.ProcessEnv {
  return { ...process.env, ...(process.env.ZHENJIN_TEST_MODEL && { ZHENJIN_HOME: data }) };
}

export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath))
    throw new Error(`no browser at ${executablePath}: install chromium or set CHROMIUM`);
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', '--no-first-run', '--disable-dev-shm-usage',
    ], // prettier-ignore
  });
}

/** One reader with an own browser profile; several tabs share it. */
export class Reader {
  readonly faults: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly server: Server,
  ) {}

  static async arrive(
    browser: Browser,
    server: Server,
    options: BrowserContextOptions = {},
  ): Promise<Reader> {
    const context = await browser.newContext({
      locale: 'en-US',
      viewport: { width: 1280, height: 860 },
      ...options,
    });
    const reader = new Reader(context, server);
    const own = new URL(server.url).origin;
    context.on('request', (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== own && protocol !== 'blob:')
        reader.faults.push(`asked another origin: ${request.url()}`);
    });
    context.on('weberror', (error) => reader.faults.push(`threw: ${error.error().message}`));
    context.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) reader.faults.push(message.text());
    });
    context.setDefaultTimeout(20_000);
    // The likeliest words only, so that the real model answers the same at every run, and the long question at length.
    await context.addInitScript(() => {
      const settings = { temperature: 0, max_tokens: 1500 };
      // The empty page before the first address has no storage.
      if (location.protocol === 'http:' && localStorage.getItem('zhenjin.preferences') === null) {
        localStorage.setItem('zhenjin.preferences', JSON.stringify({ settings }));
      }
    });
    return reader;
  }

  async open(path = '/'): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(this.server.url + path);
    await page.locator('#composer').waitFor();
    return page;
  }

  /** Leaves, and fails the spec if the page did what it must not. */
  async leave(): Promise<void> {
    await this.context.close();
    expect(this.faults).toEqual([]);
  }
}

export const answers = (page: Page) => page.locator('article[data-role=assistant]');
export const questions = (page: Page) => page.locator('article[data-role=user] .bubble');
export const growing = (page: Page) => page.locator('article[data-status=generating]');

export async function write(page: Page, text: string): Promise<void> {
  await page.locator('#composer').fill(text);
  await page.locator('#composer').press('Enter');
}

export async function finished(page: Page, timeout = 60_000): Promise<void> {
  // Two at once, where two answers are asked for.
  await expect.poll(() => growing(page).count(), { timeout }).toBe(0);
}

/** Sends a question and waits for the whole answer. */
export async function ask(page: Page, text: string): Promise<string> {
  const before = await answers(page).count();
  await write(page, text);
  await answers(page).nth(before).waitFor();
  await finished(page);
  return (await answers(page).last().locator('.prose').innerText()).trim();
}

/** What the server itself has of the newest answer of the chat in this address. */
export async function storedAnswer(server: Server, hash: string): Promise<string> {
  const id = /^#\/c\/([^/]+)/.exec(hash)?.[1] ?? '';
  const answer = await fetch(`${server.url}/api/conversations/${id}`);
  const { messages } = (await answer.json()) as { messages: { role: string; content: string }[] };
  return messages.findLast(({ role }) => role === 'assistant')?.content ?? '';
}

/** Sends a question and stops its answer early: for what comes after, any answer will do. */
export async function askBriefly(page: Page, text: string): Promise<void> {
  const before = await answers(page).count();
  await write(page, text);
  const answer = answers(page).nth(before);
  await answer.locator('.prose .block').first().waitFor({ timeout: 60_000 });
  await stopIfGrowing(page);
}

/** Another answer of the same model beside the last one: from the menu or, where nothing else is to be had, by its button alone. */
export async function compareAgain(page: Page, press: 'click' | 'tap' = 'click'): Promise<void> {
  await page.getByRole('button', { name: 'Another answer beside this one' })[press]();
  const item = page.getByRole('menuitem', { name: /^Answer again/ });
  const pair = page.getByRole('region', { name: 'Two answers to your question' });
  await item.or(pair).first().waitFor();
  if (await item.count()) await item[press]();
  await pair.waitFor();
}

/** Esc stops an answer and, when it has just ended, does nothing. */
export async function stopIfGrowing(page: Page): Promise<void> {
  if (await growing(page).count()) await page.keyboard.press('Escape');
  await finished(page);
}

/** Sends a question whose answer takes a while and waits until some of it is there. */
export async function askSlowly(page: Page): Promise<void> {
  await write(page, 'Tell me a very long story about a slow river and its people, with many chapters.');
  await expect.poll(() => growing(page).locator('.prose').innerText().catch(() => ''), { timeout: 30_000 }).toMatch(/\w.{8,}/s); // prettier-ignore
}

/** Shows an answer with exactly this text, whatever the model would say. */
export async function openWithAnswer(
  owner: Reader,
  text: string,
  fields: Partial<Message> = {},
): Promise<Page> {
  const common = {
    conversation_id: 'x', error: null, model: null, created_at: 1, finish_reason: null, prompt_tokens: null, status: 'complete',
    completion_tokens: null, cached_tokens: null, time_to_first_token_ms: null, tokens_per_second: null, context_length: null, feedback: null,
  }; // prettier-ignore
  await owner.context.route('**/api/conversations/x', (route) =>
    route.fulfill({
      json: {
        id: 'x', title: text.slice(0, 40), model: null, created_at: 1, updated_at: 1, current_leaf: 'a', system_prompt: null,
        settings: {}, choices: [],
        messages: [
          { ...common, id: 'q', parent_id: null, role: 'user', content: text },
          { ...common, id: 'a', parent_id: 'q', role: 'assistant', content: text, ...fields },
        ],
      },
    }),
  ); // prettier-ignore
  await owner.context.route('**/api/context', (route) =>
    route.fulfill({ json: { prompt_tokens: 1, context_length: 2 } }),
  );
  const page = await owner.open('/#/c/x');
  await answers(page).first().waitFor();
  return page;
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds against WCAG 2.2 AA and good practice, once what fades in is there: half-way its contrast is another. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(async () => {
    const ending = document
      .getAnimations()
      .filter((animation) => animation.effect?.getComputedTiming().iterations !== Infinity);
    await Promise.allSettled(ending.map((animation) => animation.finished));
  });
  await page.evaluate(axeSource);
  const results = (await page.evaluate(
    'axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] })',
  )) as AxeResults;
  return results.violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`,
  );
}
