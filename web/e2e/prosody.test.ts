// Tones and rhymes under a poem.
import type { Browser, Locator } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  answers,
  openWithAnswer,
  Reader,
  startBrowser,
  startServer,
  violations,
  type Server,
} from './harness';

const poem = '白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。';

const signs: Record<string, string> = { level: '○', oblique: '●', either: '⊙', unknown: '?' };

async function marks(panel: Locator): Promise<string> {
  const patterns = await panel
    .locator('ol .mark')
    .evaluateAll((all) => all.map((mark) => mark.getAttribute('data-pattern')));
  return patterns.map((pattern) => signs[pattern ?? ''] ?? '').join('');
}

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), startBrowser()]);
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

describe.each([
  {
    locale: 'en-US',
    colorScheme: 'light',
    button: 'Tones and rhymes',
    modern: 'Modern readings',
    kept: '11 of 11',
  },
  { locale: 'zh-CN', colorScheme: 'dark', button: '平仄与押韵', modern: '今音', kept: '11 处中有 11 处' },
] as const)('tones and rhymes: $locale, $colorScheme', ({ locale, colorScheme, button, modern, kept }) => {
  test('are shown under a poem, by the rhyme book and by modern readings', async () => {
    const reader = await Reader.arrive(browser, server, { locale, colorScheme, reducedMotion: 'reduce' });
    const page = await openWithAnswer(reader, poem);
    const opener = answers(page).getByRole('button', { name: button });
    expect(await opener.getAttribute('aria-expanded')).toBe('false');
    await opener.focus();
    await page.keyboard.press('Enter');
    const panel = page.getByRole('region', { name: button });
    await panel.getByText('五言絕句').waitFor();
    expect(await panel.locator('ol > li').count()).toBe(4);
    expect(await marks(panel)).toBe('●●○○●○○●●○●○○●●⊙●●○○');
    expect(await panel.locator('.character.rhymes .written').allInnerTexts()).toEqual(['流', '樓']);
    expect(await panel.locator('.character.rhymes .rhyme').allInnerTexts()).toEqual(['尤', '尤']);
    expect(await panel.locator('dl').innerText()).toContain('下平聲十一尤');
    expect(await panel.locator('dl').innerText()).toContain(kept);
    expect(await violations(page)).toEqual([]);

    // By the keyboard alone: from the button over the panel's first choice to its second.
    await panel.getByRole('button').first().focus();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Space');
    expect(await panel.getByRole('button', { name: modern }).getAttribute('aria-pressed')).toBe('true');
    expect((await marks(panel)).startsWith('○')).toBe(true);
    expect(await panel.locator('.reading').allInnerTexts()).toContain('lóu');
    expect(await panel.locator('dl').innerText()).toContain('七尤平聲');
    expect(await violations(page)).toEqual([]);

    await opener.press('Enter');
    await panel.waitFor({ state: 'detached' });
    await reader.leave();
  });

  test('fit on a phone', async () => {
    const phone = await Reader.arrive(browser, server, {
      locale,
      colorScheme,
      viewport: { width: 360, height: 740 },
      hasTouch: true,
      isMobile: true,
    });
    const seven = '兩個黃鸝鳴翠柳，一行白鷺上青天。窗含西嶺千秋雪，門泊東吳萬里船。';
    const page = await openWithAnswer(phone, seven + seven);
    await answers(page).getByRole('button', { name: button }).tap();
    const panel = page.getByRole('region', { name: button });
    await panel.locator('ol > li').nth(7).waitFor();
    for (const press of [() => Promise.resolve(), () => panel.getByRole('button', { name: modern }).tap()]) {
      await press();
      const tops = await panel
        .locator('ol > li')
        .evaluateAll((lines) =>
          lines.map(
            (line) => new Set([...line.children].map((child) => child.getBoundingClientRect().top)).size,
          ),
        );
      expect(tops, 'a line of verse is one line').toEqual(Array(8).fill(1));
      expect(await page.evaluate(() => document.documentElement.scrollWidth - 360)).toBeLessThanOrEqual(0);
    }
    await expect
      .poll(() => panel.locator('h3').evaluate((title) => title.getBoundingClientRect().top))
      .toBeGreaterThan(0);
    expect(await violations(page)).toEqual([]);
    await phone.leave();
  });
});

test('answers that are no verse have no such button', async () => {
  const reader = await Reader.arrive(browser, server);
  const page = await openWithAnswer(reader, '彩虹是这样形成的：阳光进入水滴时，不同颜色的光偏折的角度不同。');
  await answers(page).getByRole('button', { name: 'Answer again' }).waitFor();
  expect(await page.getByRole('button', { name: 'Tones and rhymes' }).count()).toBe(0);
  await reader.leave();
});
