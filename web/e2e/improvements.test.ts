// For operators: from the feedback to an improvement that answers, and back. Training takes minutes, so this is the page's own
// part of it, against the mock server.
import type { Browser, Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { ask, finished, Reader, startMock, violations, type MockServer } from './harness';
import { serverForEach } from './stage';

let server: MockServer;
let browser: Browser;
let reader: Reader;

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const dialog = (page: Page) => page.getByRole('dialog');

serverForEach(startMock, (stage) => ({ server, browser, reader } = stage));

test('an improvement is made, watched, promoted, shown with its model and rolled back', async () => {
  server.feedback.allow(true);
  const page = await reader.open();
  await ask(page, 'What is gold?');
  await page.getByRole('button', { name: 'Good answer' }).click();
  await page.getByRole('button', { name: 'Save' }).click();

  await page.getByRole('button', { name: 'Improvements from feedback' }).click();
  await dialog(page).getByText('Feedback on this server').waitFor();
  await expect.poll(() => dialog(page).locator('dl').first().innerText()).toMatch(/Thumbs up\s*1/);
  await dialog(page).getByText('By reason, model and person').click();
  await dialog(page).getByText('allows training').waitFor();
  // Regression: counts of three digits were broken over two lines.
  const heights = await dialog(page)
    .locator('dl')
    .first()
    .evaluate((list) => {
      const copy = list.cloneNode(true) as HTMLElement;
      list.after(copy);
      const height = () => copy.querySelector('dd')?.offsetHeight;
      const before = height();
      for (const one of copy.querySelectorAll('dd')) one.textContent = '1,234';
      const after = height();
      copy.remove();
      return { before, after };
    });
  expect(heights.after).toBe(heights.before);
  const refused = dialog(page).locator('[data-improvement="2026-11-25-1"]');
  expect(await refused.innerText()).toContain('Did not pass the gate');
  expect(await refused.locator('[data-criterion=win_rate]').innerText()).toMatch(/52%.*not passed/s);
  expect(await refused.locator('[data-criterion=perplexity_zh]').innerText()).toContain('not measured');
  expect(await refused.getByRole('button', { name: /^Promote/ }).count()).toBe(0);

  await dialog(page).getByLabel('Method').selectOption('dpo');
  await dialog(page).getByRole('button', { name: 'Improve now' }).click();
  await dialog(page)
    .getByText(/SmolLM2 135M.* is being improved/)
    .waitFor();
  expect(await dialog(page).getByRole('button', { name: 'Improve now' }).count()).toBe(0);
  expect(await violations(page)).toEqual([]);
  const promote = dialog(page).getByRole('button', { name: /^Promote improvement/ });
  await promote.waitFor({ timeout: 30_000 });
  await promote.click();
  await dialog(page).getByText('Answers now', { exact: true }).waitFor();
  expect(await violations(page)).toEqual([]);
  await page.keyboard.press('Escape');

  await page.getByRole('button', { name: /^Model:/ }).click();
  await dialog(page)
    .getByText(/Answers with improvement .+, DPO, since/)
    .waitFor();
  await page.keyboard.press('Escape');
  // Beside the promoted model, the model itself.
  await page.getByRole('button', { name: 'Another answer beside this one' }).click();
  await page.getByRole('menuitem', { name: 'Answer of SmolLM2 135M without its improvement' }).click();
  await page.getByRole('region', { name: 'Two answers to your question' }).waitFor();
  await finished(page);

  await page.getByRole('button', { name: 'Improvements from feedback' }).click();
  await dialog(page)
    .getByRole('button', { name: /^Roll back/ })
    .click();
  await dialog(page).getByText('the model itself', { exact: true }).waitFor();
  // Regression: the notice lay over what the window shows.
  const notice = (await dialog(page).locator('.toast').first().boundingBox())!;
  const content = (await dialog(page).locator('.content').boundingBox())!;
  expect(notice.y).toBeGreaterThanOrEqual(content.y + content.height - 1);
});

test('a running one is cancelled', async () => {
  const page = await reader.open();
  await page.getByRole('button', { name: 'Improvements from feedback' }).click();
  await dialog(page).getByRole('button', { name: 'Improve now' }).click();
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  await dialog(page).getByRole('button', { name: 'Improve now' }).waitFor();
});

test('on a phone in Chinese the gate scrolls by itself, and not the page', async () => {
  const phone = await Reader.arrive(browser, server, { ...PHONE, locale: 'zh-CN' });
  const page = await phone.open();
  await page.getByRole('button', { name: '打开对话列表' }).tap();
  await page.getByRole('button', { name: '用反馈改进模型' }).tap();
  const gate = dialog(page).getByRole('region', { name: /的检验$/ });
  await gate.waitFor();
  expect(await gate.evaluate((one) => one.scrollWidth > one.clientWidth)).toBe(true);
  // The verdict is seen without scrolling; it was the column that was cut off.
  const verdict = (await gate.locator('td.verdict').first().boundingBox())!;
  const frame = (await gate.boundingBox())!;
  expect(verdict.x + verdict.width).toBeLessThanOrEqual(frame.x + frame.width + 1);
  expect(await dialog(page).evaluate((one) => one.scrollWidth)).toBeLessThanOrEqual(360);
  expect(await violations(page)).toEqual([]);
  await phone.leave();
});

test('which improvements learned from a chat is said when it is deleted and when it is erased', async () => {
  const page = await reader.open();
  await ask(page, 'What is gold?');
  const id = /#\/c\/(.+)$/.exec(page.url())?.[1] ?? '';
  server.feedback.trained.set(id, ['2026-11-25-1']);
  await page.getByRole('button', { name: 'Options for' }).click();
  await page.getByRole('menuitem', { name: 'Delete' }).click();
  const notice = page.getByText('These improvements learned from its feedback');
  await notice.waitFor();
  expect(await notice.innerText()).toMatch(/is in the trash\. These improvements .*2026-11-25-1/);
  await page.getByRole('button', { name: 'Dismiss' }).click();
  await page.getByRole('button', { name: 'Trash' }).click();
  await dialog(page)
    .getByRole('button', { name: /^Erase .+ for good/ })
    .click();
  await dialog(page).getByRole('button', { name: 'Yes, erase' }).click();
  await notice.waitFor();
});

test('before all feedback is erased it says which improvements have learned from it', async () => {
  const page = await reader.open();
  await ask(page, 'What is gold?');
  const id = /#\/c\/(.+)$/.exec(page.url())?.[1] ?? '';
  server.feedback.trained.set(id, ['2026-11-25-1']);
  await page.getByRole('button', { name: 'Good answer' }).click();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('button', { name: /^Chat settings/ }).click();
  await page.getByRole('button', { name: 'Erase all mine' }).click();
  await page.getByText(/have learned from it already and will not forget it: .*2026-11-25-1/).waitFor();
});
