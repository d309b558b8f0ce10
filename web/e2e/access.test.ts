// Access: keys, the model's limits, and accessibility.
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  answers,
  ask,
  askBriefly,
  questions,
  Reader,
  startBrowser,
  startServer,
  violations,
  type Server,
} from './harness';

let server: Server;
let locked: Server;
let browser: Browser;
let reader: Reader;

beforeAll(async () => {
  [server, locked, browser] = await Promise.all([
    startServer(),
    startServer({ needsKey: true }),
    startBrowser(),
  ]);
});
afterAll(async () => {
  await browser?.close();
  await Promise.all([server?.close(), locked?.close()]);
});
beforeEach(async () => {
  reader = await Reader.arrive(browser, server);
});
afterEach(() => reader.leave());

test('a server with a key lets in who has it, and nobody else', async () => {
  const stranger = await Reader.arrive(browser, locked);
  const page = await stranger.context.newPage();
  await page.goto(locked.url);
  const field = page.getByLabel('API key');
  await field.fill('not the key');
  await page.keyboard.press('Enter');
  await page.getByText('This key is not known to the server.').waitFor();
  await field.fill(locked.key ?? '');
  await page.keyboard.press('Enter');
  await page.locator('#composer').waitFor();
  // The key is not kept where scripts could read it.
  expect(await page.evaluate(() => document.cookie + JSON.stringify(localStorage))).not.toContain(locked.key);
  await askBriefly(page, 'Say hello.');
  await page.reload();
  await page.locator('#composer').waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await field.waitFor();
  await page.reload();
  await field.waitFor();
  await stranger.leave();
});

test('a full context is said before anything is sent, with ways out; nothing is cut', async () => {
  const page = await reader.open();
  await ask(page, 'Say hello.');
  const long = 'word '.repeat(12_000).trim();
  await page.locator('#composer').fill(long);
  await page.getByText('This chat does not fit into the model’s context any more.').waitFor();
  expect(await page.getByRole('button', { name: 'Send' }).isDisabled()).toBe(true);
  await page.getByRole('button', { name: 'Edit an earlier question' }).click();
  await page.getByRole('textbox', { name: 'Edit your question' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Start a new chat with this message' }).click();
  await page.getByText('What shall we talk about?').waitFor();
  expect(await page.locator('#composer').inputValue()).toBe(long);
  // In a new chat nothing was measured yet: the server refuses, with the numbers, and the question stays in the composer.
  await page.locator('#composer').press('Enter');
  await page.getByRole('alert').filter({ hasText: 'does not fit' }).waitFor();
  expect(await page.locator('#composer').inputValue()).toBe(long);
  expect(await questions(page).count()).toBe(0);
});

describe.each([
  ['en-US', 'light'],
  ['zh-CN', 'dark'],
] as const)('accessible to all: %s, %s', (locale, colorScheme) => {
  test('welcome, talk, windows', async () => {
    const other = await Reader.arrive(browser, server, { locale, colorScheme, reducedMotion: 'reduce' });
    const page = await other.open();
    await page.locator('.welcome li').first().waitFor();
    expect(await violations(page)).toEqual([]);
    await askBriefly(page, 'Show a table, code and a list: transformer');
    await answers(page).first().hover();
    expect(await violations(page)).toEqual([]);
    for (const key of ['m', ',', '/']) {
      await page.keyboard.press(`Control+${key}`);
      await page.getByRole('dialog').waitFor();
      // Moving windows are half transparent, and half as legible.
      await page.waitForFunction(() => document.getAnimations().every((one) => one.playState === 'finished'));
      expect(await violations(page)).toEqual([]);
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    }
    await other.leave();
  });
});
