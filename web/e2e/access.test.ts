// Access: keys, the model's limits, and accessibility.
import type { Browser, Route } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answers, ask, askBriefly, questions, Reader, startServer, violations, type Server } from './harness';
import { serverForAll } from './stage';

let server: Server;
let locked: Server;
let browser: Browser;
let reader: Reader;

serverForAll((stage) => ({ server, browser, reader } = stage));
beforeAll(async () => {
  locked = await startServer({ needsKey: true });
});
afterAll(() => locked?.close());

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
  await page.locator('#composer').fill('half a thought');
  await page.getByRole('button', { name: 'Log out' }).click();
  await field.waitFor();
  // Whoever comes next finds neither the words nor the chat of the one before.
  expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain('half a thought');
  expect(new URL(page.url()).hash).toBe('#/');
  await page.reload();
  await field.waitFor();
  await stranger.leave();
});

test('a full context is said before anything is sent, with ways out; nothing is cut', async () => {
  const page = await reader.open();
  await ask(page, 'Say hello.');
  const chatIsFull = (route: Route) => {
    const { conversation_id } = route.request().postDataJSON() as { conversation_id?: string };
    if (!conversation_id) return route.continue();
    return route.fulfill({ json: { prompt_tokens: 2048, context_length: 2048 } });
  };
  await page.route('**/api/context', chatIsFull);
  await page.locator('#composer').fill('And more words.');
  await page.getByText('This chat does not fit into the model’s context any more.').waitFor();
  expect(await page.getByRole('button', { name: 'Send' }).isDisabled()).toBe(true);
  await page.getByRole('button', { name: 'Edit an earlier question' }).click();
  await page.getByRole('textbox', { name: 'Edit your question' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Continue in a new chat' }).waitFor();
  await page.getByRole('button', { name: 'Start a new chat with this message' }).click();
  await page.getByText('What shall we talk about?').waitFor();
  expect(await page.locator('#composer').inputValue()).toBe('And more words.');

  // What no chat could take is only to be shortened.
  await page.goBack();
  await questions(page).first().waitFor();
  const long = 'word '.repeat(12_000).trim();
  await page.locator('#composer').fill(long);
  await page.getByText('Shorten the message until it fits.').waitFor();
  await page.getByText('This message itself is longer than the model can read.').waitFor();
  for (const useless of ['Start a new chat', 'Continue in a new chat', 'Edit an earlier question']) {
    expect(await page.getByRole('button', { name: useless }).count()).toBe(0);
  }
  expect(await page.locator('#composer').inputValue()).toBe(long);
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
    await page.getByRole('button', { name: /^(Trash|回收站)$/ }).click();
    await page.getByRole('dialog').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.locator('aside li').first().hover();
    await page
      .getByRole('button', { name: /Options for|的选项/ })
      .first()
      .click();
    await page.getByRole('menu').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.getByRole('menu').waitFor({ state: 'detached' });
    await other.leave();
  });
});
