// What people bring: fingers, other scripts, long lists, two windows, paper, a proxy. It is the page's own doing, so the mock
// server will do, and the specs are quick.
import { createServer, request } from 'node:http';
import type { Browser, Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { answers, ask, finished, growing, openWithAnswer, questions, Reader, startMock, write, type MockServer } from './harness'; // prettier-ignore
import { serverForEach } from './stage';

let server: MockServer;
let browser: Browser;
let reader: Reader;

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const list = (page: Page) => page.getByRole('navigation', { name: /Chats|对话列表/ });

serverForEach(startMock, (stage) => ({ server, browser, reader } = stage));

describe('a phone', () => {
  test('Enter makes a line and the button sends; every chat is renamed and deleted; all is large enough', async () => {
    server.chats.seed(1);
    const phone = await Reader.arrive(browser, server, { ...PHONE, locale: 'zh-CN' });
    const page = await phone.open();
    await page.locator('#composer').fill('第一行');
    await page.locator('#composer').press('Enter');
    await page.locator('#composer').pressSequentially('第二行');
    expect(await page.locator('#composer').inputValue()).toBe('第一行\n第二行');
    expect(await page.locator('#composer').getAttribute('enterkeyhint')).toBe('enter');
    expect(await questions(page).count()).toBe(0);
    await page.getByRole('button', { name: '发送' }).tap();
    expect(await questions(page).innerText()).toBe('第一行\n第二行');
    await finished(page);

    await page.getByRole('button', { name: '打开对话列表' }).tap();
    // Not the chat that is open: any.
    const other = list(page).locator('li').filter({ hasText: '请解释彩虹' });
    await other.getByRole('button').tap();
    await page.getByRole('menuitem', { name: '重命名' }).tap();
    await page.getByRole('textbox', { name: '对话标题' }).fill('彩虹');
    await page.keyboard.press('Enter');
    const renamed = list(page)
      .locator('li')
      .filter({ has: page.getByRole('link', { name: '彩虹', exact: true }) });
    await renamed.getByRole('button').tap();
    expect(await tooSmall(page)).toEqual([]);
    await page.getByRole('menuitem', { name: '删除' }).tap();
    await renamed.waitFor({ state: 'detached' });
    expect(await list(page).locator('li').count()).toBe(1);
    expect(await tooSmall(page)).toEqual([]);
    await page.keyboard.press('Escape');
    for (const button of ['对话设置', '模型']) {
      await page.getByRole('button', { name: new RegExp(`^${button}`) }).tap();
      await page.getByRole('dialog').waitFor();
      expect(await tooSmall(page)).toEqual([]);
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    }
    await phone.leave();
  });
});

/** What a finger would miss: less than 40 pixels in either direction. Links inside a text are as large as its letters. */
const tooSmall = (page: Page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('button, select, input, textarea, summary, a, [role=menuitem]')]
      .filter((one) => !one.closest('.prose, .machine, .skip') && one.checkVisibility())
      .map((one) => ({ one, box: one.getBoundingClientRect() }))
      .filter(({ box }) => box.width < 39.9 || box.height < 39.9)
      .map(({ one, box }) => `${one.outerHTML.slice(0, 90)}: ${box.width} × ${box.height}`),
  );

describe('text from right to left', () => {
  const mixed = 'مرحبا بك\nEnglish line\n中文一行';

  test('has its direction paragraph by paragraph, in the box, in questions, answers and lists', async () => {
    const page = await openWithAnswer(
      reader,
      'الذهب معدن\n\n- أولا\n- ثانيا\n\nAn English paragraph\n\n`code` ثم كلام\n\n> اقتباس',
    );
    const side = (selector: string) =>
      page.locator(selector).first().evaluate((element) => {
        // The first letter's distance from both edges of its block.
        const range = document.createRange();
        const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
        let node = walker.nextNode();
        while (node && !node.textContent?.trim()) node = walker.nextNode();
        if (!node) throw new Error('no text');
        range.setStart(node, 0);
        range.setEnd(node, 1);
        const letter = range.getBoundingClientRect();
        const box = element.getBoundingClientRect();
        return letter.left - box.left > box.right - letter.right ? 'right' : 'left';
      }); // prettier-ignore
    expect(await side('.prose p')).toBe('right');
    expect(await side('.prose li')).toBe('right');
    expect(await side('.prose p:has-text("English")')).toBe('left');
    expect(await page.locator('.prose ul').evaluate((one) => getComputedStyle(one).direction)).toBe('rtl');
    expect(await page.locator('.prose blockquote').evaluate((one) => getComputedStyle(one).direction)).toBe('rtl'); // prettier-ignore
    expect(await page.locator('.prose code').evaluate((one) => getComputedStyle(one).direction)).toBe('ltr');
    for (const box of ['#composer', '.bubble']) {
      expect(await page.locator(box).evaluate((one) => [getComputedStyle(one).unicodeBidi, getComputedStyle(one).textAlign])).toEqual(['plaintext', 'start']); // prettier-ignore
    }
  });

  test('titles have their own direction, and marks in them turn nothing', async () => {
    const page = await reader.open();
    await ask(page, mixed);
    const link = list(page).locator('li a').first();
    expect(await link.evaluate((one) => getComputedStyle(one).direction)).toBe('rtl');
    // A right-to-left override, NUL and half a surrogate pair, as a program may send them.
    const id = new URL(page.url()).hash.split('/')[2] ?? '';
    const chat = server.chats.conversations.get(id);
    if (!chat) throw new Error('no chat');
    chat.title = 'safe\u202egpj.exe\u0000 \ud800 end';
    await page.reload();
    await list(page).getByText('safe gpj.exe').waitFor();
    expect(await link.innerText()).toBe('safe gpj.exe \ufffd end');
    expect(await page.title()).toBe('safe gpj.exe \ufffd end · 真金');
  });

  test('half a surrogate pair is sent as the sign for what is unreadable', async () => {
    const page = await reader.open();
    await page.locator('#composer').evaluate((box: HTMLTextAreaElement) => {
      box.value = 'cut \ud83d emoji';
      box.dispatchEvent(new Event('input', { bubbles: true }));
    });
    await page.keyboard.press('Enter');
    await finished(page);
    expect([...server.chats.messages.values()][0]?.content).toBe('cut \ufffd emoji');
  });
});

describe('the list of chats', () => {
  test('after a deletion, a second click deletes nothing', async () => {
    for (let count = 0; count < 3; count++) server.chats.seed(1);
    const page = await reader.open();
    const items = list(page).locator('li');
    await items.first().hover();
    await items.first().getByRole('button', { name: 'Options for' }).click();
    const item = page.getByRole('menuitem', { name: 'Delete' });
    const box = await item.boundingBox();
    await item.click();
    await expect.poll(() => items.count()).toBe(2);
    await page.mouse.click((box?.x ?? 0) + 20, (box?.y ?? 0) + 10, { clickCount: 2 });
    await page.getByRole('button', { name: 'Undo' }).waitFor();
    expect(await items.count()).toBe(2);
    expect(server.chats.list().length).toBe(2);
  });

  test('older chats that are shown stay when a message is sent', async () => {
    for (let count = 0; count < 60; count++) server.chats.seed(1);
    const page = await reader.open();
    const items = list(page).locator('li');
    await expect.poll(() => items.count()).toBe(40);
    await page.getByRole('button', { name: 'Show older chats' }).click();
    await expect.poll(() => items.count()).toBe(60);
    await ask(page, 'One more.');
    await list(page).getByText('One more.').waitFor();
    await expect.poll(() => items.count()).toBe(61);
  });

  test('is searched with the arrow keys and Enter', async () => {
    for (let count = 0; count < 3; count++) server.chats.seed(2);
    const page = await reader.open();
    await page.keyboard.press('Control+k');
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('search');
    await page.keyboard.type('function');
    await page.locator('#hits a').first().waitFor();
    const at = () => page.evaluate(() => [...document.querySelectorAll('#hits a')].indexOf(document.activeElement as Element)); // prettier-ignore
    await page.keyboard.press('ArrowDown');
    expect(await at()).toBe(0);
    await page.keyboard.press('ArrowDown');
    expect(await at()).toBe(1);
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowUp');
    await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('search');
    // Enter opens the first hit, also before the hits have come.
    await page.keyboard.press('Control+a');
    await page.keyboard.type('彩虹');
    await page.keyboard.press('Enter');
    await questions(page).filter({ hasText: '彩虹' }).first().waitFor();
  });
});

describe('drafts', () => {
  test('the newest survives a reload, also one that was written while a message was on its way', async () => {
    const page = await reader.open();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    await page.route('**/api/**/messages', async (route) => {
      await held;
      await route.continue();
    });
    await write(page, 'The first message.');
    await page.locator('#composer').pressSequentially('the next one');
    release();
    await finished(page);
    await questions(page).first().waitFor();
    expect(await page.locator('#composer').inputValue()).toBe('the next one');
    await page.reload();
    await expect.poll(() => page.locator('#composer').inputValue()).toBe('the next one');
    // And it belongs to this chat, not to the next.
    await page.keyboard.press('Control+Shift+O');
    await page.getByText('What shall we talk about?').waitFor();
    expect(await page.locator('#composer').inputValue()).toBe('');
  });

  test('what is typed while a chat is being loaded belongs to that chat', async () => {
    const chat = server.chats.seed(1);
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    await reader.context.route(`**/api/conversations/${chat.id}`, async (route) => {
      await held;
      await route.continue();
    });
    const page = await reader.open(`/#/c/${chat.id}`);
    await page.locator('#composer').fill('typed early');
    release();
    await answers(page).first().waitFor();
    expect(await page.locator('#composer').inputValue()).toBe('typed early');
    await page.keyboard.press('Control+Shift+O');
    await expect.poll(() => page.locator('#composer').inputValue()).toBe('');
  });
});

describe('two windows', () => {
  test('agree about titles, settings, branches and deletion, and each keeps its own view', async () => {
    const first = await reader.open();
    await ask(first, 'Say hello.');
    await answers(first).last().getByRole('button', { name: 'Answer again' }).click();
    await answers(first).last().getByRole('group', { name: 'Version 2 of 2' }).waitFor();
    await finished(first);
    const second = await reader.open('/' + new URL(first.url()).hash);
    await answers(second).last().getByRole('group', { name: 'Version 2 of 2' }).waitFor();

    // The branch: the other window goes on showing its own.
    await answers(first).last().getByRole('button', { name: 'Previous version' }).click();
    await answers(first).last().getByRole('group', { name: 'Version 1 of 2' }).waitFor();
    await list(first).locator('li').first().hover();
    await list(first).getByRole('button', { name: 'Options for' }).click();
    await first.getByRole('menuitem', { name: 'Rename' }).click();
    await first.getByRole('textbox', { name: 'Title of the chat' }).fill('Greetings');
    await first.keyboard.press('Enter');
    await list(second).getByText('Greetings').waitFor();
    await expect.poll(() => second.title()).toBe('Greetings · 真金');
    expect(await answers(second).last().getByRole('group', { name: 'Version 2 of 2' }).count()).toBe(1);

    // The settings: what one window changes stays when the other changes something else.
    await second.keyboard.press('Control+,');
    await first.keyboard.press('Control+,');
    await first.getByRole('textbox', { name: 'Temperature' }).fill('0.3');
    await first.keyboard.press('Escape');
    await expect.poll(() => second.getByRole('textbox', { name: 'Temperature' }).inputValue()).toBe('0.3');
    await second.getByRole('textbox', { name: 'Top k' }).fill('7');
    await second.keyboard.press('Escape');
    await expect.poll(() => [...server.chats.conversations.values()][0]?.settings).toMatchObject({ temperature: 0.3, top_k: 7 }); // prettier-ignore

    // Deletion: said once, in words, with a way back; what was being written is kept.
    await second.locator('#composer').fill('half a thought');
    await list(first).locator('li').first().hover();
    await list(first).getByRole('button', { name: 'Options for' }).click();
    await first.getByRole('menuitem', { name: 'Delete' }).click();
    await second.getByText('was deleted in another window').waitFor();
    expect(await second.locator('.toast').count()).toBe(1);
    expect(await second.locator('#composer').inputValue()).toBe('half a thought');
    await second.getByRole('button', { name: 'Undo' }).click();
    await answers(second).last().waitFor();
    await list(first).getByText('Greetings').waitFor();
  });

  test('one whose chat is gone is told so once, in words', async () => {
    const page = await reader.open();
    await ask(page, 'Say hello.');
    for (const id of server.chats.conversations.keys()) server.chats.deleted.add(id);
    await write(page, 'And again.');
    await page.getByText('This chat does not exist any more.').waitFor();
    expect(await page.locator('.toast').count()).toBe(1);
    expect(await page.getByRole('alert').count()).toBe(0);
    await expect.poll(() => page.locator('#composer').inputValue()).toBe('And again.');
  });
});

describe('settings', () => {
  test('of a new chat do not reach the next one', async () => {
    const page = await reader.open();
    await page.keyboard.press('Control+,');
    await page.getByRole('textbox', { name: 'System prompt' }).fill('Be a pirate.');
    await page.getByRole('textbox', { name: 'Temperature' }).fill('0.9');
    await page.keyboard.press('Escape');
    await ask(page, 'Say hello.');
    const [chat] = server.chats.conversations.values();
    expect(chat).toMatchObject({ system_prompt: 'Be a pirate.', settings: { temperature: 0.9 } });
    await page.keyboard.press('Control+Shift+O');
    await page.keyboard.press('Control+,');
    expect(await page.getByRole('textbox', { name: 'System prompt' }).inputValue()).toBe('');
    expect(await page.getByRole('textbox', { name: 'Temperature' }).inputValue()).toBe('0');
    await page.keyboard.press('Escape');
    await ask(page, 'Say hello.');
    expect([...server.chats.conversations.values()][1]).toMatchObject({ system_prompt: null, settings: { temperature: 0 } }); // prettier-ignore
  });

  test('a value out of its range is said beside its field, and what is typed stays', async () => {
    const page = await reader.open();
    await page.keyboard.press('Control+,');
    const field = page.getByRole('textbox', { name: 'Temperature' });
    await field.fill('7');
    const place = page.locator('[data-setting=temperature]');
    await place.getByRole('alert').getByText('Between 0 and 2').waitFor();
    expect(await field.getAttribute('aria-invalid')).toBe('true');
    expect(await field.inputValue()).toBe('7');
    await field.fill('0.');
    await field.pressSequentially('25');
    expect(await field.inputValue()).toBe('0.25');
    expect(await place.getByRole('alert').count()).toBe(0);
    expect(await page.locator('.toast').count()).toBe(0);
  });
});

describe('words', () => {
  const refusal = { error: { message: 'the queue is full', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' } }; // prettier-ignore

  test('a Chinese page has no English error, and examples that the model can read', async () => {
    const chinese = await Reader.arrive(browser, server, { locale: 'zh-CN' });
    await chinese.context.route('**/api/questions', (route) => route.fulfill({ status: 429, json: refusal }));
    const page = await chinese.open();
    await page.getByText('只会英文').waitFor();
    await page.getByRole('button', { name: 'Explain how a rainbow forms' }).waitFor();
    await write(page, '你好');
    const alert = page.getByRole('alert');
    await alert.waitFor();
    expect(await alert.innerText()).toContain('服务器现在太忙');
    expect(await alert.innerText()).not.toMatch(/[a-z]{3}/i);
    await page.locator('#open-sidebar, header .model').last().click();
    const card = page.getByRole('dialog').locator('li').filter({ hasText: 'Qwen3 0.6B' });
    await card.getByRole('button', { name: '下载' }).click();
    await card.getByRole('button', { name: '使用', exact: true }).click({ timeout: 20_000 });
    await page.getByRole('button', { name: '用三句话解释彩虹' }).waitFor();
    await chinese.leave();
  });

  test('an answer that was ended for repeating itself says so, and so does any other end', async () => {
    for (const [reason, words] of [
      ['repetition', 'began to repeat itself'],
      ['length', 'the longest that this chat allows'],
      ['something_new', 'ended early (something_new)'],
    ] as const) {
      const other = await Reader.arrive(browser, server);
      const page = await openWithAnswer(other, 'Gold', { finish_reason: reason });
      await answers(page).first().getByText(words).waitFor();
      if (reason === 'length') {
        // One that has become as long as it may goes on when it is asked to.
        const [asked] = await Promise.all([
          page.waitForRequest(
            (one) => one.method() === 'POST' && one.url().endsWith('/api/conversations/x/messages'),
          ),
          page.getByRole('button', { name: 'Go on' }).click(),
        ]);
        expect(asked.postDataJSON()).toMatchObject({ content: 'Please go on from where you stopped.' });
      }
      await other.leave();
    }
  });
});

test('on paper there is the whole chat and nothing else', async () => {
  const chat = server.chats.seed(30);
  const page = await reader.open(`/#/c/${chat.id}`);
  await answers(page).nth(29).waitFor();
  await page.emulateMedia({ media: 'print' });
  for (const hidden of ['aside', '.dock', '.model', 'article .actions', '.code-copy']) {
    expect(await page.locator(hidden).first().isVisible(), hidden).toBe(false);
  }
  await page.getByRole('heading', { level: 1 }).getByText('请解释彩虹').waitFor();
  // Everything has its place on the page: nothing is cut off by a window that scrolls.
  const { whole, scroller } = await page.evaluate(() => ({
    whole: document.documentElement.scrollHeight,
    scroller: document.querySelector('.scroller')?.scrollHeight ?? 0,
  }));
  expect(scroller).toBeGreaterThan(5_000);
  expect(whole).toBeGreaterThanOrEqual(scroller);
});

test('works below a folder of a proxy', async () => {
  const target = new URL(server.url);
  const outside: string[] = [];
  const proxy = createServer((incoming, outgoing) => {
    const path = incoming.url ?? '';
    if (!path.startsWith('/apps/gold/')) {
      outside.push(path);
      return outgoing.writeHead(404).end();
    }
    const options = { host: target.hostname, port: target.port, path: path.slice('/apps/gold'.length), method: incoming.method, headers: incoming.headers }; // prettier-ignore
    incoming.pipe(
      request(options, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
      }),
    );
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const behind = await Reader.arrive(browser, { ...server, url: `http://127.0.0.1:${port}` });
  const page = await behind.open('/apps/gold/');
  await ask(page, 'Show code.');
  await page.locator('.prose .hljs-keyword').first().waitFor();
  await page.reload();
  await answers(page).first().waitFor();
  expect(outside.filter((path) => path !== '/favicon.ico')).toEqual([]);
  await behind.leave();
  await new Promise((resolve) => (proxy.close(resolve), proxy.closeAllConnections()));
});

test('a chat of 500 messages draws what is in sight, and an answer ten times a second', async () => {
  const roomy = await startMock(false, { contextLength: 1_000_000 });
  const chat = roomy.chats.seed(250);
  const long = await Reader.arrive(browser, roomy);
  const page = await long.open(`/#/c/${chat.id}`);
  await answers(page).nth(249).waitFor({ state: 'attached' });
  expect(await answers(page).first().evaluate((one) => one.checkVisibility({ contentVisibilityAuto: true }))).toBe(false); // prettier-ignore
  expect(await answers(page).last().evaluate((one) => one.checkVisibility({ contentVisibilityAuto: true }))).toBe(true); // prettier-ignore
  await write(page, 'Tell me a very long story.');
  await growing(page).locator('.prose .block').first().waitFor();
  const drawings = await page.evaluate(
    () =>
      new Promise<number>((resolve) => {
        const answer = document.querySelector('article[data-status=generating]');
        if (!answer) throw new Error('no answer grows');
        let count = 0;
        const began = performance.now();
        const watch = new MutationObserver(() => {
          count++;
          if (count < 20) return;
          watch.disconnect();
          resolve((1000 * count) / (performance.now() - began));
        });
        watch.observe(answer, { subtree: true, childList: true, characterData: true });
      }),
  );
  // A token comes every 8 milliseconds.
  expect(drawings).toBeLessThan(13);
  await page.keyboard.press('Escape');
  await finished(page);

  // A search hit in the middle is shown at the top of the list, and the page around it stays where it is.
  const hit = roomy.chats.messagesOf(chat.id)[200]?.id ?? '';
  await page.goto(`${roomy.url}/#/c/${chat.id}/m/${hit}`);
  const places = () =>
    page.evaluate((id) => {
      const top = (selector: string) => document.querySelector(selector)?.getBoundingClientRect().top ?? -1;
      return [Math.round(top(`#message-${id}`) - top('.scroller')), document.documentElement.scrollTop];
    }, hit);
  await expect.poll(places).toEqual([16, 0]);
  await long.leave();
  await roomy.close();
});
