// The keyboard's focus in a real browser: where it is after windows close and after what was pressed has gone. Always against the mock.
import type { Browser, Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { ask, finished, Reader, startMock, type MockServer } from './harness';
import { serverForEach } from './stage';

let server: MockServer;
let browser: Browser;
let reader: Reader;

serverForEach(startMock, (stage) => ({ server, browser, reader } = stage));

/** What has the focus: its id, the name that it has, or its element's. */
const focus = (page: Page) =>
  page.evaluate(() => {
    const { activeElement: one } = document;
    return one?.id || one?.getAttribute('aria-label') || one?.textContent?.trim() || one?.tagName || '';
  });
const focused = (page: Page, wanted: string | RegExp) =>
  expect.poll(() => focus(page)).toEqual(expect.stringMatching(wanted));

async function press(page: Page, name: string | RegExp) {
  await page.getByRole('button', { name }).last().focus();
  await page.keyboard.press('Enter');
}

test('every window gives the focus back to its opener, closed by Esc or by its button', async () => {
  const page = await reader.open();
  for (const opener of [
    /^Model: /,
    /^Chat settings/,
    'Trash',
    'Improvements from feedback',
    'Keyboard shortcuts',
  ]) {
    for (const close of ['Escape', 'Enter']) {
      await press(page, opener);
      await page.getByRole('dialog').waitFor();
      if (close === 'Enter') await page.getByRole('dialog').getByRole('button', { name: 'Close' }).focus();
      await page.keyboard.press(close);
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await focused(page, opener);
    }
  }
  // By its keys: back to the message box.
  await page.locator('#composer').focus();
  await page.keyboard.press('Control+m');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await focused(page, 'composer');
});

test('in a chat, what takes the place of what was pressed has the focus', async () => {
  const page = await reader.open();
  await ask(page, 'Name one metal.');
  await press(page, 'Answer again');
  await focused(page, /^message-/);
  await finished(page);
  await press(page, 'Previous version');
  await focused(page, 'Next version');
  await press(page, 'Another answer beside this one');
  await page.getByRole('menuitem').first().focus();
  await page.keyboard.press('Enter');
  await page.getByText('Two answers to your question').waitFor();
  await focused(page, /^message-/);
  await finished(page);
  await press(page, 'Do not choose');
  await page.getByText('Two answers to your question').waitFor({ state: 'detached' });

  await page.getByRole('button', { name: 'Edit', exact: true }).first().focus();
  await page.keyboard.press('Enter');
  await page.getByRole('textbox', { name: 'Edit your question' }).fill('Name two metals.');
  await page.keyboard.press('Enter');
  await focused(page, /^message-/);
  await finished(page);

  await page.getByRole('button', { name: 'Options for' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('menuitem', { name: 'Delete' }).focus();
  await page.keyboard.press('Enter');
  await press(page, 'Undo');
  await focused(page, /^chat-/);
  expect(await page.locator('.toast').count()).toBe(0);
});

test('a server that cannot be reached is said above the page, not over it, and no longer than it is so', async () => {
  for (const width of [390, 1280]) {
    const other = await Reader.arrive(browser, server, { viewport: { width, height: 844 } });
    const page = await other.open();
    await page.route('**/api/**', (route) => route.abort());
    await page.locator('#composer').fill('A draft.');
    await page.evaluate(() => window.dispatchEvent(new Event('offline')));
    const banner = page.locator('.banner');
    await banner.waitFor();
    // All that is in the header can be pressed.
    await page.getByRole('button', { name: /^Model: / }).click({ trial: true });
    await page.getByRole('button', { name: /^Chat settings/ }).click({ trial: true });
    const bottom = await banner.evaluate((one) => one.getBoundingClientRect().bottom);
    const top = await page
      .locator('main header')
      .first()
      .evaluate((one) => one.getBoundingClientRect().top);
    expect(top).toBeGreaterThanOrEqual(bottom);
    expect(await page.evaluate(() => document.documentElement.scrollHeight - innerHeight)).toBe(0);
    await page.unroute('**/api/**');
    // Measured anew, which reaches the server.
    await page.locator('#composer').fill('A longer draft.');
    await banner.waitFor({ state: 'detached', timeout: 3_000 });
    await other.leave();
  }
});
