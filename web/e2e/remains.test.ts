// What remains of chats: refused beginnings, full contexts, the trash, search; against the mock server and the real program.
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { answers, askBriefly, questions, Reader, violations, type Server } from './harness';
import { serverForAll } from './stage';

let server: Server;
let reader: Reader;

const list = (page: Page) => page.getByRole('navigation', { name: 'Chats' });
const chatsOf = async () =>
  (await (await fetch(`${server.url}/api/conversations?limit=200`)).json()) as unknown[];

serverForAll((stage) => ({ server, reader } = stage));

async function remove(page: Page, title: string) {
  const item = list(page).locator('li').filter({ hasText: title });
  await item.hover();
  await item.getByRole('button', { name: 'Options for' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  await item.waitFor({ state: 'detached' });
}

test('a long paste is measured on the start page, and a refused first message leaves no chat', async () => {
  const before = (await chatsOf()).length;
  const page = await reader.open();
  await page.locator('#composer').fill('word '.repeat(12_000).trim());
  await page.getByText('This message itself is longer than the model can read.').waitFor();
  expect(await page.getByRole('button', { name: 'Send' }).isDisabled()).toBe(true);
  // Only what helps is offered: there is no chat to continue, and no earlier question.
  for (const useless of [
    'Start a new chat with this message',
    'Edit an earlier question',
    'Continue in a new chat',
  ]) {
    expect(await page.getByRole('button', { name: useless }).count()).toBe(0);
  }
  await page.locator('#composer').fill('x'.repeat(1_000_001));
  await page.getByText('This message alone has 1,000,001 characters').waitFor();

  // Sent before it was measured: refused by the server.
  await page.route('**/api/context', (route) => route.abort());
  await page.locator('#composer').fill('word '.repeat(12_000).trim());
  await page.locator('#composer').press('Enter');
  await page.getByRole('alert').filter({ hasText: 'does not fit' }).waitFor();
  expect((await page.locator('#composer').inputValue()).length).toBe(59_999);
  expect((await chatsOf()).length).toBe(before);
  expect(await questions(page).count()).toBe(0);
});

test('a full chat goes on in a new one, with its last turns or a summary', async () => {
  const page = await reader.open();
  await askBriefly(page, 'Remember the first word: apple.');
  await askBriefly(page, 'Remember the second word: pear.');
  const last = (await answers(page).last().locator('.prose').innerText()).trim();
  const dialog = page.getByRole('dialog', { name: 'Continue in a new chat' });
  await page.route('**/api/context', async (route) => {
    const asked = route.request().postDataJSON() as { conversation_id?: string; from_id?: string };
    if (asked.from_id || !asked.conversation_id) return route.continue();
    return route.fulfill({ json: { prompt_tokens: 2048, context_length: 2048 } });
  });
  await page.locator('#composer').fill('a shorter message');
  await page.getByRole('button', { name: 'Continue in a new chat' }).click();
  await dialog.getByText(/^\d[\d,]* of [\d,]+ tokens$/).waitFor();
  await dialog.getByRole('slider', { name: 'How many turns' }).fill('1');
  await dialog.getByText('1 question with its answer').waitFor();
  expect(await violations(page)).toEqual([]);
  const old = new URL(page.url()).hash;
  await dialog.getByRole('button', { name: 'Begin the new chat' }).click();
  await dialog.waitFor({ state: 'detached' });
  await questions(page).getByText('pear').waitFor();
  expect(new URL(page.url()).hash).not.toBe(old);
  expect(await questions(page).count()).toBe(1);
  expect((await answers(page).last().locator('.prose').innerText()).trim()).toBe(last);
  expect(await page.locator('#composer').inputValue()).toBe('a shorter message');

  await page.goto(`${server.url}/${old}`);
  await questions(page).getByText('apple').waitFor();
  await page.locator('#composer').fill('and on');
  await page.getByRole('button', { name: 'Continue in a new chat' }).click();
  await dialog.getByText('A summary, which the model writes').click();
  await dialog.getByRole('button', { name: 'Write the summary' }).click();
  const summary = dialog.getByRole('textbox', { name: 'Summary' });
  await dialog.getByRole('button', { name: 'Write the summary' }).waitFor({ timeout: 80_000 });
  expect((await summary.inputValue()).length).toBeGreaterThan(0);
  await summary.fill('They spoke of apples and pears.');
  await dialog.getByRole('button', { name: 'Begin the new chat' }).click();
  await page.getByText('What shall we talk about?').waitFor();
  expect(await page.locator('#composer').inputValue()).toBe('and on');
  await page.keyboard.press('Control+,');
  expect(await page.getByRole('textbox', { name: 'System prompt' }).inputValue()).toBe(
    'Summary of the conversation so far:\nThey spoke of apples and pears.',
  );
});

test('the trash shows what was deleted, brings it back and erases it', async () => {
  const page = await reader.open();
  for (const title of ['Zebra one.', 'Zebra two.', 'Zebra three.']) {
    await page.keyboard.press('Control+Shift+O');
    await askBriefly(page, title);
    await list(page).getByText(title).waitFor();
  }
  for (const title of ['Zebra one.', 'Zebra two.', 'Zebra three.']) await remove(page, title);
  await page.getByRole('button', { name: 'Trash' }).click();
  const dialog = page.getByRole('dialog', { name: 'Trash' });
  // Beside the rows, notices say that they are there.
  const row = dialog.locator('li').filter({ hasText: 'Zebra two.' });
  await row.waitFor();
  expect(await dialog.locator('li').filter({ hasText: 'Zebra one.' }).innerText()).toContain(
    'erased in 30 days',
  );
  await dialog.getByRole('button', { name: /^Restore .*Zebra one/ }).click();
  await list(page).getByText('Zebra one.').waitFor();
  await dialog.getByRole('button', { name: /^Erase .*Zebra two/ }).click();
  await dialog.getByRole('button', { name: 'Yes, erase' }).click();
  await row.waitFor({ state: 'detached' });
  await dialog.getByRole('button', { name: 'Empty the trash' }).click();
  await dialog.getByRole('button', { name: 'Yes, erase' }).click();
  await dialog.getByText('The trash is empty.').waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await page.reload();
  await list(page).getByText('Zebra one.').waitFor();
  expect(await list(page).getByText('Zebra three.').count()).toBe(0);
  const trash = (await (await fetch(`${server.url}/api/trash`)).json()) as unknown[];
  expect(trash).toEqual([]);
});

test('search takes quotation marks, long queries, and more than fifty hits', async () => {
  const page = await reader.open();
  await askBriefly(page, 'A quick brown fox, and a brown quick dog.');
  for (let count = 0; count < 52; count++) {
    const asked = await fetch(`${server.url}/api/questions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ content: `quagga number ${count}`, settings: { max_tokens: 1 } }),
    });
    const { answer } = (await asked.json()) as { answer: { id: string } };
    await fetch(`${server.url}/api/messages/${answer.id}/stop`, { method: 'POST' });
  }
  const search = page.locator('#search');
  await search.fill('"quick brown"');
  await page.locator('#hits mark').getByText('quick brown', { exact: true }).first().waitFor();
  await search.fill('"brown fox quick"');
  await page.getByText('Nothing found').waitFor();
  // The titles of these chats are their questions, which are found once.
  await search.fill('quagga number');
  const hits = page.locator('#hits a');
  const more = page.getByRole('button', { name: 'Show more matches' });
  await more.waitFor();
  expect(await hits.count()).toBe(50);
  await page.getByText('The first 50 matches').waitFor();
  while (await more.count()) {
    const shown = await hits.count();
    await more.click();
    await expect.poll(() => hits.count()).toBeGreaterThan(shown);
  }
  expect(await hits.count()).toBe(52);
  await search.fill('a long sentence that somebody pasted '.repeat(20));
  await page.getByText('Nothing found').waitFor();
  expect(await page.locator('.toast').count()).toBe(0);
});
