// What most specs begin with: a server, a browser, and a reader who has just arrived.
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { Reader, startBrowser, startServer, type Server } from './harness';

export interface Stage<S extends Server = Server> {
  server: S;
  browser: Browser;
  reader: Reader;
}

/** One server for all tests of a file, and a new reader for each of them; `take` is given them before each test. */
export function serverForAll(take: (stage: Stage) => void): void {
  let server: Server | undefined;
  let browser: Browser | undefined;
  let reader: Reader | undefined;
  beforeAll(async () => {
    [server, browser] = await Promise.all([startServer(), startBrowser()]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });
  beforeEach(async () => {
    if (!server || !browser) return;
    reader = await Reader.arrive(browser, server);
    take({ server, browser, reader });
  });
  afterEach(() => reader?.leave());
}

/** A server and a reader for each test; `take` is given them before it. */
export function serverForEach<S extends Server>(
  start: () => Promise<S>,
  take: (stage: Stage<S>) => void,
): void {
  let server: S | undefined;
  let browser: Browser | undefined;
  let reader: Reader | undefined;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.close());
  beforeEach(async () => {
    if (!browser) return;
    server = await start();
    reader = await Reader.arrive(browser, server);
    take({ server, browser, reader });
  });
  afterEach(async () => {
    await reader?.leave();
    await server?.close();
  });
}
