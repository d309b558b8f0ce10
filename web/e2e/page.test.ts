// The page around the chat: list, search, languages, input methods, keyboard, narrow screens, hostile content.
import type { Browser } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import {
  answers,
  askBriefly,
  askSlowly,
  finished,
  openWithAnswer,
  questions,
  Reader,
  startMock,
  type Server,
} from './harness';
import { serverForAll } from './stage';

let server: Server;
let browser: Browser;
let reader: Reader;

serverForAll((stage) => ({ server, browser, reader } = stage));

describe('the list of chats', () => {
  test('renames, deletes and brings back', async () => {
    const page = await reader.open();
    await askBriefly(page, 'A question about zebras.');
    const list = page.getByRole('navigation', { name: 'Chats' });
    const item = list.locator('li').first();
    await item.getByText('A question about zebras.').waitFor();
    await item.hover();
    await item.getByRole('button', { name: 'Options for' }).click();
    await page.getByRole('menuitem', { name: 'Rename' }).click();
    await page.getByRole('textbox', { name: 'Title of the chat' }).fill('斑马 and more');
    await page.keyboard.press('Enter');
    await list.getByRole('link', { name: '斑马 and more' }).waitFor();

    await item.hover();
    await item.getByRole('button', { name: 'Options for' }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await list.getByRole('link', { name: '斑马 and more' }).waitFor({ state: 'detached' });
    expect(await questions(page).count()).toBe(0);
    await page.getByRole('button', { name: 'Undo' }).click();
    await list.getByRole('link', { name: '斑马 and more' }).waitFor();
    await questions(page).getByText('A question about zebras.').waitFor();
  });

  test('is searched in full text, in both languages, with the matches marked', async () => {
    const page = await reader.open();
    await askBriefly(page, 'Tell me about the xylophone. 请介绍一下木琴的历史。');
    await page.keyboard.press('Control+k');
    for (const [query, match] of [
      ['XYLOPHONE', 'xylophone'],
      ['木琴的', '木琴的'],
      ['木琴', '木琴'],
    ] as const) {
      await page.locator('#search').fill(query);
      await page.locator('aside mark').getByText(match, { exact: true }).first().waitFor();
    }
    await page.locator('#search').fill('no such words anywhere');
    await page.getByText('Nothing found').waitFor();
    await page.locator('#search').fill('木琴');
    await page.getByRole('button', { name: 'New chat' }).first().click();
    await page.locator('aside li a').filter({ hasText: '木琴' }).first().click();
    await questions(page).filter({ hasText: '木琴' }).waitFor();
  });
});

describe('languages', () => {
  test('follow the browser and can be switched', async () => {
    const chinese = await Reader.arrive(browser, server, { locale: 'zh-CN' });
    const page = await chinese.open();
    await page.getByRole('button', { name: '新对话' }).first().waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('zh-CN');
    await page.getByRole('combobox', { name: '语言' }).selectOption('en');
    await page.getByRole('button', { name: 'New chat' }).first().waitFor();
    await page.reload();
    await page.getByRole('button', { name: 'New chat' }).first().waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('en');
    await chinese.leave();
  });

  test('Enter that ends a composition sends nothing', async () => {
    const page = await reader.open();
    const input = page.locator('#composer');
    await input.focus();
    const devtools = await reader.context.newCDPSession(page);
    await devtools.send('Input.imeSetComposition', { text: 'zhen', selectionStart: 4, selectionEnd: 4 });
    // The keys that an input method sees: while it composes they reach the page with isComposing and code 229.
    await devtools.send('Input.dispatchKeyEvent', {
      type: 'rawKeyDown',
      key: 'Process',
      code: 'Enter',
      windowsVirtualKeyCode: 229,
    });
    await page.keyboard.press('Enter');
    expect(await questions(page).count()).toBe(0);
    await devtools.send('Input.insertText', { text: '真金' });
    expect((await input.inputValue()).trim()).toContain('真金');
    expect(await questions(page).count()).toBe(0);
    await input.fill('Say 真金.');
    await page.keyboard.press('Shift+Enter');
    expect(await input.inputValue()).toBe('Say 真金.\n');
    await page.keyboard.press('Enter');
    await questions(page).getByText('Say 真金.').waitFor();
  });

  test('bold beside Chinese punctuation is bold', async () => {
    const page = await openWithAnswer(
      reader,
      '**第一次折射：**光从空气进入水滴。彩虹是**“折射”**的结果，**反射（共同作用）。**完。',
    );
    expect(await answers(page).locator('strong').allInnerTexts()).toEqual([
      '第一次折射：',
      '“折射”',
      '反射（共同作用）。',
    ]);
    expect(await answers(page).locator('.prose').innerText()).not.toContain('*');
  });
});

describe('content', () => {
  test('with tables, code to copy and formulas in bundled fonts', async () => {
    await reader.context.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await openWithAnswer(
      reader,
      '| a | b |\n|--|--:|\n| 1 | 2 |\n\n```python\ndef f():\n    return "金"\n```\n\nSo $E = mc^2$.',
    );
    await page.locator('.prose table').waitFor();
    await page.locator('.prose .hljs-keyword').first().waitFor();
    await page.locator('.prose .katex').waitFor();
    expect(
      await page.evaluate(() =>
        document.fonts.ready.then((fonts) =>
          [...fonts].some((font) => font.family.startsWith('KaTeX') && font.status === 'loaded'),
        ),
      ),
    ).toBe(true);
    await page.getByRole('button', { name: 'Copy the code' }).click();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('def f():\n    return "金"\n');
  });

  test('cannot script, load or lead anywhere by itself', async () => {
    const attacks = [
      '<img src="https://evil.example/a.png" onerror="window.hacked=1">',
      '<script>window.hacked=1</script>',
      '<svg onload="window.hacked=1"></svg>',
      '<iframe src="https://evil.example"></iframe>',
      '![pixel](https://evil.example/pixel.png)',
      '[click](javascript:window.hacked=1)',
      '[data](data:text/html,<script>window.hacked=1</script>)',
      '$\\href{javascript:window.hacked=1}{x}$',
      '$\\includegraphics{https://evil.example/b.png}$',
      '<style>body{background:url(https://evil.example/c.png)}</style>',
      '[good](https://example.com)',
    ].join('\n\n');
    const page = await openWithAnswer(reader, attacks);
    await page.locator('.prose [data-drawn]').first().waitFor();
    for (const link of await page.locator('main a').all()) {
      expect(await link.getAttribute('href')).toMatch(/^https:\/\//);
      expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
    }
    expect(await page.locator('main :is(img, iframe, object, embed, script, style, form form)').count()).toBe(
      0,
    );
    expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    // afterEach adds: no request left for another origin.
  });
});

describe('narrow and bare', () => {
  test.each(['zh-CN', 'en-US'])('a phone shows everything without scrolling sideways: %s', async (locale) => {
    const phone = await Reader.arrive(browser, server, {
      locale,
      viewport: { width: 360, height: 740 },
      hasTouch: true,
      isMobile: true,
    });
    const wide = '很长的一句话，'.repeat(30) + `\n\n\`\`\`\n${'x'.repeat(400)}\n\`\`\`\n\n| ${'列 | '.repeat(12)}\n|${'--|'.repeat(12)}\n\n${'https://example.com/' + 'a'.repeat(300)}\n\n$$${'x + '.repeat(80)}y$$`; // prettier-ignore
    // A file's name as the model's: its width in the composer once widened the page.
    await phone.context.route('**/api/models', async (route) => {
      const models = (await (await route.fetch()).json()) as { title: string }[];
      await route.fulfill({
        json: models.map((model) => ({ ...model, title: 'A-long-name-135M-Instruct.Q4_1.gguf' })),
      });
    });
    const page = await openWithAnswer(phone, wide);
    await page.locator('.prose .katex').first().waitFor();
    await page.getByPlaceholder('A-long-name').waitFor();
    // Not `innerWidth`: a phone's browser makes that as wide as the page.
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - 360);
    const sideways = () => page.evaluate(() => { const list = document.querySelector('.scroller'); return list ? list.scrollWidth - list.clientWidth : -1; }); // prettier-ignore
    expect(await overflow()).toBeLessThanOrEqual(0);
    expect(await sideways()).toBe(0);
    await page.locator('header .start button').tap();
    await page.locator('aside.drawer').waitFor();
    expect(await overflow()).toBeLessThanOrEqual(0);
    await page.keyboard.press('Escape');
    await page.locator('aside.drawer').waitFor({ state: 'detached' });
    await phone.leave();
  });

  test('the keyboard alone is enough', async () => {
    const page = await reader.open();
    const focused = () => page.evaluate(() => document.activeElement?.id);
    await expect.poll(focused).toBe('composer');
    await page.keyboard.type('Say hello.');
    await page.keyboard.press('Enter');
    await answers(page).first().waitFor();
    await page.locator('article[data-status=complete]').waitFor();
    await page.keyboard.press('ArrowUp');
    await expect
      .poll(() => page.evaluate(() => document.activeElement?.getAttribute('aria-label')))
      .toBe('Edit your question');
    await page.keyboard.press('Escape');
    await page.getByRole('textbox', { name: 'Edit your question' }).waitFor({ state: 'detached' });

    await page.keyboard.press('Control+/');
    await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('Control+m');
    await page.getByRole('dialog', { name: 'Models' }).waitFor();
    await page.keyboard.press('Escape');

    await page.keyboard.press('Control+,');
    await page.getByRole('textbox', { name: 'Temperature' }).focus();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('0.2');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('Control+,');
    expect(await page.getByRole('textbox', { name: 'Temperature' }).inputValue()).toBe('0.2');
    await page.keyboard.press('Escape');

    await page.keyboard.press('Control+Shift+O');
    await page.getByText('What shall we talk about?').waitFor();
    await page.keyboard.press('Control+k');
    await expect.poll(focused).toBe('search');
  });
});

describe('the page', () => {
  test('follows an answer only while its reader is at the end', async () => {
    const low = await Reader.arrive(browser, server, { viewport: { width: 900, height: 480 } });
    const page = await low.open();
    await askSlowly(page);
    const scroller = page.locator('.scroller');
    const gap = () => scroller.evaluate((list) => list.scrollHeight - list.clientHeight - list.scrollTop);
    const height = () => scroller.evaluate((list) => list.scrollHeight - list.clientHeight);
    await expect.poll(height, { timeout: 40_000 }).toBeGreaterThan(200);
    expect(await gap()).toBeLessThan(64);
    await scroller.hover();
    await page.mouse.wheel(0, -150);
    const jump = page.getByRole('button', { name: 'Jump to the latest' });
    await jump.waitFor();
    const place = await scroller.evaluate((list) => list.scrollTop);
    // The answer goes on growing below, and the page stays where its reader is.
    const tall = await height();
    await expect.poll(height, { timeout: 40_000 }).toBeGreaterThan(tall + 40);
    expect(await scroller.evaluate((list) => list.scrollTop)).toBe(place);
    await jump.click();
    await expect.poll(gap).toBeLessThan(64);
    const stop = page.getByRole('button', { name: 'Stop the answer' });
    if (await stop.isVisible()) await stop.click();
    await finished(page);
    await low.leave();
  });

  test('follows the system in light and dark, until the reader chooses', async () => {
    const page = await reader.open();
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await ground();
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await ground();
    expect(dark).not.toBe(light);
    await page.getByRole('combobox', { name: 'Theme' }).selectOption('light');
    expect(await ground()).toBe(light);
    await page.reload();
    expect(await ground()).toBe(light);
  });
});

describe('models', () => {
  test('are shown with what a reader needs to choose', async () => {
    const page = await reader.open();
    await page.keyboard.press('Control+m');
    const dialog = page.getByRole('dialog', { name: 'Models' });
    await dialog.getByText('In use').waitFor();
    const card = dialog.locator('li').filter({ hasText: 'Qwen3 0.6B' });
    expect(await card.innerText()).toMatch(/MB|GB/);
    expect(await card.innerText()).toMatch(/Chinese/);
    expect(await card.innerText()).toMatch(/Apache-2\.0/);
    expect(await card.innerText()).toMatch(/Fits|Too large/);
  });

  // Always against the mock server: a real download would need the network.
  test('download with progress, stop, go on, answer and are removed', async () => {
    const mock = await startMock();
    const other = await Reader.arrive(browser, mock);
    const page = await other.open();
    await page.keyboard.press('Control+m');
    const dialog = page.getByRole('dialog', { name: 'Models' });
    const card = dialog.locator('li').filter({ hasText: 'Qwen3 0.6B' });
    await card.getByRole('button', { name: 'Download' }).click();
    await card.getByRole('progressbar', { name: 'Downloading Qwen3 0.6B' }).waitFor();
    await card.getByText(/of 640 MB/).waitFor();
    await card.getByRole('button', { name: 'Cancel' }).click();
    await card.getByText('Cancelled').waitFor();
    await card.getByRole('button', { name: 'Try again' }).click();
    await card.getByRole('button', { name: 'Use', exact: true }).waitFor({ timeout: 20_000 });
    await card.getByRole('button', { name: 'Use', exact: true }).click();
    await page.getByRole('button', { name: /^Model: Qwen3 0.6B/ }).waitFor();
    await page.keyboard.press('Control+m');
    await card.getByRole('button', { name: 'Remove' }).click();
    await card.getByRole('button', { name: 'Yes, remove' }).click();
    await card.getByRole('button', { name: 'Download' }).waitFor();
    await other.leave();
    await mock.close();
  });
});
