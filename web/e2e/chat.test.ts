// Chatting: send, stop, regenerate, edit, branches, and answers that continue while the page is closed.
import { describe, expect, test } from 'vitest';
import { answers, ask, askBriefly, askSlowly, finished, growing, isReal, questions, Reader, storedAnswer, type Server } from './harness'; // prettier-ignore
import { serverForAll } from './stage';

let server: Server;
let reader: Reader;

serverForAll((stage) => ({ server, reader } = stage));

describe('an answer', () => {
  test('streams, and says what it took', async () => {
    const page = await reader.open();
    await askSlowly(page);
    const early = (await answers(page).last().locator('.prose').innerText()).length;
    await expect
      .poll(async () => (await answers(page).last().locator('.prose').innerText()).length)
      .toBeGreaterThan(early);
    await page.getByRole('button', { name: 'Stop the answer' }).click();
    await finished(page);
    // In a chat of its own: after a long story a small model goes on telling it.
    await page.keyboard.press('Control+Shift+O');
    await page.getByText('What shall we talk about?').waitFor();
    await ask(page, 'Say hello.');
    const stats = await answers(page).last().locator('.stats').innerText();
    expect(stats).toMatch(/\d+ tokens/);
    expect(stats).toMatch(/[\d.]+ tok\/s/);
    expect(stats).toMatch(/first token after [\d.]+ m?s/);
    await expect
      .poll(() => page.locator('.meter').getAttribute('aria-label'))
      .toMatch(/\d+ of [\d,]+ tokens of context/);
    expect(await page.title()).toContain('真金');
  });

  test('stops with the button and with Esc, and keeps what had arrived', async () => {
    const page = await reader.open();
    await askSlowly(page);
    await page.getByRole('button', { name: 'Stop the answer' }).click();
    await finished(page);
    expect(await answers(page).last().getAttribute('data-status')).toBe('stopped');
    const kept = await answers(page).last().locator('.prose').innerText();
    expect(kept.length).toBeGreaterThan(0);
    await page.reload();
    await answers(page).last().waitFor();
    expect(await answers(page).last().locator('.prose').innerText()).toBe(kept);

    await askSlowly(page);
    await page.keyboard.press('Escape');
    await finished(page);
    expect(await answers(page).last().getAttribute('data-status')).toBe('stopped');
  });

  test('comes in versions, and a question too; nothing is lost', async () => {
    const page = await reader.open();
    await ask(page, 'Name one fruit.');
    await answers(page).last().getByRole('button', { name: 'Answer again' }).click();
    // Such an answer may be whole before anybody sees it grow.
    const switcher = answers(page).last().getByRole('group', { name: 'Version 2 of 2' });
    await switcher.waitFor();
    await finished(page);
    await switcher.getByRole('button', { name: 'Previous version' }).click();
    await answers(page).last().getByRole('group', { name: 'Version 1 of 2' }).waitFor();

    await page.getByRole('button', { name: 'Edit', exact: true }).click();
    const edit = page.getByRole('textbox', { name: 'Edit your question' });
    await edit.fill('Name one tree.');
    await edit.press('Enter');
    const versions = page.getByRole('group', { name: 'Version 2 of 2' });
    await versions.waitFor();
    await finished(page);
    expect(await questions(page).allInnerTexts()).toEqual(['Name one tree.']);
    await versions.getByRole('button', { name: 'Previous version' }).click();
    expect(await questions(page).allInnerTexts()).toEqual(['Name one fruit.']);

    // The branch that was shown last is the one that a reload shows.
    await page.reload();
    await questions(page).first().waitFor();
    expect(await questions(page).allInnerTexts()).toEqual(['Name one fruit.']);
  });
});

describe('an answer goes on', () => {
  test('over a reload in its middle, with nothing lost', async () => {
    const page = await reader.open();
    await askSlowly(page);
    await page.reload();
    await growing(page).waitFor();
    const seen = await growing(page).locator('.prose').innerText();
    expect(seen.length).toBeGreaterThan(0);
    await expect
      .poll(async () => (await answers(page).last().locator('.prose').innerText()).length)
      .toBeGreaterThan(seen.length);
    await page.getByRole('button', { name: 'Stop the answer' }).click();
    await finished(page);
    const shown = await answers(page).last().locator('.prose').innerText();
    expect(shown.startsWith(seen.slice(0, 40))).toBe(true);
    await page.reload();
    await answers(page).last().waitFor();
    expect(await answers(page).last().locator('.prose').innerText()).toBe(shown);
  });

  test('in a second tab, which follows it to the same end', async () => {
    const first = await reader.open();
    await askSlowly(first);
    const second = await reader.open(new URL(first.url()).hash.replace(/^/, '/'));
    await growing(second).waitFor();
    await first.getByRole('button', { name: 'Stop the answer' }).click();
    await Promise.all([finished(first), finished(second)]);
    expect(await answers(second).last().locator('.prose').innerText()).toBe(
      await answers(first).last().locator('.prose').innerText(),
    );

    // A tab that is open already sees what the other one asks.
    await askBriefly(first, 'Say hello.');
    await expect.poll(() => questions(second).allInnerTexts()).toContain('Say hello.');
  });

  test('when the tab was closed', async () => {
    const page = await reader.open();
    await askSlowly(page);
    const { hash } = new URL(page.url());
    const early = (await answers(page).last().locator('.prose').innerText()).length;
    await page.close();
    // Nobody looks at it, and it grows.
    await expect
      .poll(async () => (await storedAnswer(server, hash)).length, { timeout: 30_000 })
      .toBeGreaterThan(early + 20);
    const later = await reader.open('/' + hash);
    await answers(later).last().waitFor();
    await expect
      .poll(async () => (await answers(later).last().locator('.prose').innerText()).length)
      .toBeGreaterThan(early);
    if (await growing(later).count()) await later.keyboard.press('Escape');
  });

  test('over a lost network, with a banner meanwhile and the draft kept', async () => {
    const page = await reader.open();
    await askSlowly(page);
    await page.locator('#composer').fill('a draft');
    await reader.context.setOffline(true);
    await page.evaluate(() => fetch('/api/status').catch(() => undefined));
    await page.locator('#composer').fill('a longer draft');
    await page.getByText('The server cannot be reached').waitFor();
    await reader.context.setOffline(false);
    await page.getByText('The server cannot be reached').waitFor({ state: 'detached', timeout: 30_000 });
    await page.reload();
    await expect.poll(() => page.locator('#composer').inputValue()).toBe('a longer draft');
    if (await growing(page).count()) await page.getByRole('button', { name: 'Stop the answer' }).click();
    await finished(page);
  });

  test.runIf(isReal)('not, when the server is killed: what had arrived is there and marked', async () => {
    const page = await reader.open();
    await askSlowly(page);
    const { hash } = new URL(page.url());
    await expect.poll(async () => (await storedAnswer(server, hash)).length, { timeout: 30_000 }).toBeGreaterThan(20); // prettier-ignore
    await server.kill();
    await page.getByText('The server cannot be reached').waitFor();
    await server.restart();
    await page.locator('article[data-status=interrupted]').waitFor({ timeout: 40_000 });
    const kept = await answers(page).last().locator('.prose').innerText();
    expect(kept.length).toBeGreaterThan(0);
    await page.reload();
    await page.locator('article[data-status=interrupted]').waitFor();
    expect(await answers(page).last().locator('.prose').innerText()).toBe(kept);
    await page.getByRole('button', { name: 'Try again' }).click();
    await answers(page)
      .last()
      .getByRole('group', { name: 'Version 2 of 2' })
      .or(growing(page))
      .first()
      .waitFor();
    if (await growing(page).count()) await page.keyboard.press('Escape');
    await finished(page);
  });
});
