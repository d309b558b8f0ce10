// Judging answers: thumbs, reasons, corrections, the better of two answers, and whether it may be used for training.
import type { Browser, Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { answers, ask, compareAgain, finished, growing, questions, Reader, startServer, violations, write, type Server } from './harness'; // prettier-ignore
import { serverForEach } from './stage';

let server: Server;
let browser: Browser;
let reader: Reader;

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

const button = (page: Page, name: string | RegExp) => page.getByRole('button', { name, exact: true });
const pressed = (page: Page, name: string) => button(page, name).getAttribute('aria-pressed');
const panel = (page: Page) => page.getByRole('form', { name: 'About this answer' });
const pair = (page: Page) => page.getByRole('region', { name: 'Two answers to your question' });

/** Varied answers: with the likeliest words only, the second would be the first. */
const varied = (page: Page) =>
  page.addInitScript(() => {
    const settings = { temperature: 1, max_tokens: 40 };
    if (location.protocol === 'http:' && !localStorage.getItem('zhenjin.preferences')?.includes('":40'))
      localStorage.setItem('zhenjin.preferences', JSON.stringify({ settings }));
  });

async function openVaried(who: Reader): Promise<Page> {
  const page = await who.context.newPage();
  await varied(page);
  await page.goto(who.server.url);
  await page.locator('#composer').waitFor();
  return page;
}

const consent = (allowed: boolean) =>
  fetch(`${server.url}/api/feedback/consent`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ allowed }),
  });

serverForEach(startServer, (stage) => ({ server, browser, reader } = stage));

describe('a thumb', () => {
  test('is pressed, explained and corrected, and all of it is there after a reload', async () => {
    await consent(true);
    const page = await reader.open();
    const text = await ask(page, 'Name one metal.');
    expect(await pressed(page, 'Bad answer')).toBe('false');
    await button(page, 'Bad answer').click();
    await panel(page).waitFor();
    await expect.poll(() => pressed(page, 'Bad answer')).toBe('true');
    await button(page, 'Wrong').click();
    await button(page, 'Too long').click();
    await page.getByRole('textbox', { name: 'Comment' }).fill('Iron would do.');
    await button(page, 'Write what it should have said').click();
    const correction = page.getByRole('textbox', { name: 'This is what it should have said' });
    expect((await correction.inputValue()).replace(/\s+/g, ' ').trim()).toContain(
      text.split('\n')[0]?.trim().slice(0, 20),
    );
    await correction.fill('Iron.');
    expect(await violations(page)).toEqual([]);
    await button(page, 'Save').click();
    await panel(page).waitFor({ state: 'detached' });

    await page.reload();
    const said = page.getByRole('region', { name: 'Your judgement' });
    await said.waitFor();
    expect(await pressed(page, 'Bad answer')).toBe('true');
    const words = await said.innerText();
    for (const one of ['Wrong', 'Too long', 'Iron would do.', 'What it should have said', 'Iron.'])
      expect(words).toContain(one);

    await said.getByRole('button', { name: 'Change' }).click();
    await correction.fill('Copper.');
    await correction.press('Control+Enter');
    await panel(page).waitFor({ state: 'detached' });
    await expect.poll(() => said.innerText()).toContain('Copper.');
    await said.getByRole('button', { name: 'Remove' }).click();
    await expect.poll(() => said.innerText()).not.toContain('Copper.');
    await button(page, 'Undo').click();
    await expect.poll(() => said.innerText()).toContain('Copper.');

    // With the thumb, its reasons go; the correction is a statement of its own.
    await button(page, 'Bad answer').click();
    await expect.poll(() => said.innerText()).not.toContain('Wrong');
    expect(await said.innerText()).toContain('Copper.');
    expect(await pressed(page, 'Bad answer')).toBe('false');
  });

  test('is used with the keyboard alone: pressed, given reasons, left with Esc, taken back', async () => {
    await consent(true);
    const page = await reader.open();
    await ask(page, 'Name one metal.');
    const up = button(page, 'Good answer');
    await up.focus();
    await page.keyboard.press('Space');
    await panel(page).waitFor();
    // Beyond the other buttons of the answer comes the panel.
    const clear = button(page, 'Clear');
    for (let steps = 0; steps < 20; steps++) {
      await page.keyboard.press('Tab');
      if (await clear.evaluate((one) => one === document.activeElement)) break;
    }
    await page.keyboard.press('Enter');
    expect(await pressed(page, 'Clear')).toBe('true');
    await page.keyboard.press('Escape');
    await panel(page).waitFor({ state: 'detached' });
    await expect.poll(() => up.evaluate((one) => one === document.activeElement)).toBe(true);
    expect(await pressed(page, 'Good answer')).toBe('true');
    await page.keyboard.press('Space');
    await expect.poll(() => pressed(page, 'Good answer')).toBe('false');
    await page.reload();
    await up.waitFor();
    expect(await pressed(page, 'Good answer')).toBe('false');
  });

  test('loses nothing when the server cannot take it', async () => {
    await consent(true);
    const page = await reader.open();
    await ask(page, 'Name one metal.');
    await page.route('**/feedback', (route) =>
      route.fulfill({
        status: 500,
        json: { error: { message: 'x', type: 'server_error', param: null, code: 'store_failed' } },
      }),
    );
    await button(page, 'Bad answer').click();
    await page.getByRole('textbox', { name: 'Comment' }).fill('A long thought.');
    await button(page, 'Save').click();
    await panel(page).getByRole('alert').waitFor();
    expect(await panel(page).getByRole('alert').innerText()).toContain('This was not saved.');
    // In another chat and back: still there.
    await button(page, 'New chat').first().click();
    await page.getByText('What shall we talk about?').waitFor();
    await page.goBack();
    expect(await page.getByRole('textbox', { name: 'Comment' }).inputValue()).toBe('A long thought.');
    // Nor does it need this page: the browser keeps it.
    await page.reload();
    expect(await page.getByRole('textbox', { name: 'Comment' }).inputValue()).toBe('A long thought.');
    expect(await pressed(page, 'Bad answer')).toBe('true');
    await page.unroute('**/feedback');
    await button(page, 'Save').click();
    await panel(page).waitFor({ state: 'detached' });
    await page.reload();
    await page.getByText('A long thought.').waitFor();
  });
});

describe('two answers', () => {
  test('stand side by side, one is chosen, and the chat goes on with it', async () => {
    await consent(true);
    const page = await openVaried(reader);
    await ask(page, 'Invent a name for a tea shop.');
    await compareAgain(page);
    await finished(page);
    const columns = pair(page).locator('article');
    const [left, right] = await Promise.all([columns.nth(0).boundingBox(), columns.nth(1).boundingBox()]);
    expect(left?.y).toBe(right?.y);
    expect(left!.x + left!.width).toBeLessThan(right!.x);
    expect(await violations(page)).toEqual([]);
    const better = await columns.nth(1).locator('.prose').innerText();
    await button(page, 'This one is better: Answer 2').click();
    await pair(page).waitFor({ state: 'detached' });
    expect(await answers(page).last().locator('.prose').innerText()).toBe(better);
    await page.getByText('You found this answer better than version 1.').waitFor();

    await ask(page, 'And another.');
    await page.reload();
    await answers(page).nth(1).waitFor();
    expect(await answers(page).first().locator('.prose').innerText()).toBe(better);
    await page.getByText('You found this answer better than version 1.').waitFor();
    await button(page, 'Take the choice back').click();
    await page.getByText('You found this answer better').waitFor({ state: 'detached' });
  });

  test('come to every question when the reader wants it so, and wait over a reload', async () => {
    await consent(true);
    const page = await openVaried(reader);
    await button(page, 'Always ask for two answers').click();
    expect(await pressed(page, 'Always ask for two answers')).toBe('true');
    await write(page, 'Invent a name for a boat.');
    await pair(page).waitFor();
    await finished(page);
    await page.reload();
    await pair(page).waitFor();
    const better = await pair(page).locator('article').nth(0).locator('.prose').innerText();
    await button(page, 'This one is better: Answer 1').click();
    await pair(page).waitFor({ state: 'detached' });
    expect(await answers(page).last().locator('.prose').innerText()).toBe(better);

    await write(page, 'And for a train.');
    await pair(page).waitFor();
    await finished(page);
    expect(await questions(page).count()).toBe(2);
    await button(page, 'Do not choose').click();
    await pair(page).waitFor({ state: 'detached' });
  });

  test('grow both, and are both stopped with Esc', async () => {
    const page = await reader.open();
    await button(page, 'Always ask for two answers').click();
    await write(page, 'Tell me a very long story about a slow river and its people, with many chapters.');
    await expect.poll(() => growing(page).count(), { timeout: 30_000 }).toBe(2);
    await page.keyboard.press('Escape');
    await finished(page);
    const columns = pair(page).locator('article');
    for (const at of [0, 1]) expect(await columns.nth(at).getAttribute('data-status')).toBe('stopped');
  });

  test('are stacked on a phone, with everything large enough for a finger', async () => {
    await consent(true);
    const phone = await Reader.arrive(browser, server, PHONE);
    const page = await openVaried(phone);
    await page.locator('#composer').fill('Invent a name for a boat.');
    await button(page, 'Send').tap();
    await answers(page).first().waitFor();
    await finished(page);
    await button(page, 'Bad answer').tap();
    await panel(page).waitFor();
    expect(await tooSmall(page)).toEqual([]);
    await button(page, 'Cancel').tap();
    await compareAgain(page, 'tap');
    await finished(page);
    const columns = pair(page).locator('article');
    const [upper, lower] = await Promise.all([columns.nth(0).boundingBox(), columns.nth(1).boundingBox()]);
    expect(upper!.y + upper!.height).toBeLessThan(lower!.y);
    expect(upper!.width).toBeLessThanOrEqual(360);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    expect(await tooSmall(page)).toEqual([]);
    await phone.leave();
  });
});

/** What a finger would miss: less than 40 pixels in either direction. */
const tooSmall = (page: Page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('main button, main textarea, main input, main summary')]
      .filter((one) => one.checkVisibility())
      .map((one) => ({ one, box: one.getBoundingClientRect() }))
      .filter(({ box }) => box.width < 39.9 || box.height < 39.9)
      .map(({ one, box }) => `${one.outerHTML.slice(0, 90)}: ${box.width} × ${box.height}`),
  );

describe('consent', () => {
  const QUESTION = 'May what you judge here be used to train this server’s models?';
  const question = (page: Page) => page.getByRole('group', { name: QUESTION });

  test('is asked once, in place, and changed in the settings; feedback is exported and erased there', async () => {
    const page = await reader.open();
    await ask(page, 'Name one metal.');
    await button(page, 'Good answer').click();
    await question(page).waitFor();
    expect(await violations(page)).toEqual([]);
    await question(page).getByRole('button', { name: 'No' }).click();
    await question(page).waitFor({ state: 'detached' });
    await button(page, 'Save').click();
    await panel(page).waitFor({ state: 'detached' });
    await ask(page, 'Name one colour.');
    await button(page, 'Good answer').last().click();
    await expect.poll(() => button(page, 'Good answer').last().getAttribute('aria-pressed')).toBe('true');
    await button(page, 'Save').click();
    await panel(page).waitFor({ state: 'detached' });
    expect(await question(page).count()).toBe(0);

    await page.getByRole('button', { name: /^Chat settings/ }).click();
    const box = page.getByRole('checkbox', { name: 'May be used for training' });
    await expect.poll(() => box.isEnabled()).toBe(true);
    expect(await box.isChecked()).toBe(false);
    await box.check();
    await expect
      .poll(async () => (await fetch(`${server.url}/api/feedback/consent`)).json())
      .toMatchObject({ allowed: true });
    await page.getByText('that you have judged: 2').waitFor();
    const [file] = await Promise.all([page.waitForEvent('download'), button(page, 'Export mine').click()]);
    expect(file.suggestedFilename()).toBe('my-feedback.json');
    const chunks: Buffer[] = [];
    for await (const chunk of await file.createReadStream()) chunks.push(chunk as Buffer);
    const own = JSON.parse(Buffer.concat(chunks).toString()) as { consent: object; rows: object[] };
    expect(own.consent).toMatchObject({ allowed: true });
    expect(own.rows).toHaveLength(2);

    await button(page, 'Erase all mine').click();
    await button(page, 'Yes, erase').click();
    await page.getByText('2 judgements were erased.').first().waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await expect.poll(() => button(page, 'Good answer').first().getAttribute('aria-pressed')).toBe('false');
  });

  test('is asked in Chinese too', async () => {
    const chinese = await Reader.arrive(browser, server, { locale: 'zh-CN' });
    const page = await chinese.open();
    await ask(page, 'Name one metal.');
    await button(page, '回答得好').click();
    const asked = page.getByRole('group', { name: '你在这里的评价可以用来训练这台服务器的模型吗？' });
    await asked.getByRole('button', { name: '可以', exact: true }).click();
    await asked.waitFor({ state: 'detached' });
    expect(await (await fetch(`${server.url}/api/feedback/consent`)).json()).toMatchObject({ allowed: true });
    await chinese.leave();
  });
});
