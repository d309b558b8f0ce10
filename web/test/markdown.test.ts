import { describe, expect, test } from 'vitest';
import { toHtml } from '$lib/markdown/parser';
import { sanitise } from '$lib/markdown/sanitise';

function element(source: string): HTMLElement {
  const target = document.createElement('div');
  target.append(sanitise(toHtml(source)));
  return target;
}

describe('bold beside Chinese punctuation', () => {
  test.each([
    ['**第一次折射：**光从空气进入', '第一次折射：'],
    ['彩虹是**“折射”**的结果', '“折射”'],
    ['使用**反射（共同作用）**来解释', '反射（共同作用）'],
    ['结论是**真金不怕火炼。**这很重要', '真金不怕火炼。'],
    ['请看**《红楼梦》**一书', '《红楼梦》'],
    ['**重要！**请注意', '重要！'],
    ['价格是**￥100**元', '￥100'],
  ])('%s', (source, bold) => {
    expect(element(source).querySelector('strong')?.textContent).toBe(bold);
    expect(element(source).textContent).not.toContain('*');
  });

  test('strikethrough and emphasis as well', () => {
    expect(element('这是~~旧的。~~新的').querySelector('s')?.textContent).toBe('旧的。');
    expect(element('这是*重点。*后面').querySelector('em')?.textContent).toBe('重点。');
  });
});

describe('blocks', () => {
  test('tables with alignment', () => {
    const table = element('| a | b |\n|:-:|--:|\n| 1 | 2<br>3 |').querySelector('.table-scroll table');
    expect([...(table?.querySelectorAll('td') ?? [])].map((cell) => cell.className)).toEqual([
      'align-center',
      'align-right',
    ]);
    expect(table?.querySelector('br')).not.toBeNull();
  });

  test('code keeps every character and its language', () => {
    const code = '<b>&amp;"\'\n\tx</b>\n';
    const pre = element('```html extra\n' + code + '```').querySelector('pre');
    expect(pre?.textContent).toBe(code);
    expect(pre?.dataset.language).toBe('html');
  });

  test('one line break is a line break', () => {
    expect(element('第一行\n第二行').querySelector('br')).not.toBeNull();
  });
});

describe('formulas', () => {
  const formulas = (source: string) =>
    [...element(source).querySelectorAll<HTMLElement>('[data-tex]')].map(({ dataset }) => dataset.tex);

  test.each([
    ['所以 $E=mc^2$。', ['E=mc^2']],
    ['\\(a_1\\) and \\[b*c*d\\]', ['a_1', 'b*c*d']],
    ['$$\n\\frac{a}{b}\n$$', ['\\frac{a}{b}']],
    ['text\n$$x < y$$\nmore', ['x < y']],
    ['\\[\nx\n\\]', ['x']],
    ['- item\n  $$\n  x\n  $$', ['x']],
    ['$a$ and $b$', ['a', 'b']],
    ['\\$5 and $x\\$y$', ['x\\$y']],
  ])('%s', (source, expected) => expect(formulas(source)).toEqual(expected));

  test.each([
    'It costs $5 and then $10.',
    'from $5 to $6',
    'US$ 5 or $ 6',
    '$$',
    '$$\nnever closed',
    '`$a$`',
    '\\(',
    'a $ b $ c',
  ])('no formula: %s', (source) => expect(formulas(source)).toEqual([]));
});

describe('links', () => {
  test('open elsewhere and cannot reach back', () => {
    const link = element('[docs](https://example.com/?a=1&b=2 "t")').querySelector('a');
    expect(link?.getAttribute('href')).toBe('https://example.com/?a=1&b=2');
    expect(link?.rel).toBe('noopener noreferrer');
    expect(link?.target).toBe('_blank');
  });

  test('bare web addresses are links; names that look like files are not', () => {
    expect(element('see https://example.com/x').querySelector('a')?.textContent).toBe(
      'https://example.com/x',
    );
    expect(element('run main.py or README.md').querySelector('a')).toBeNull();
  });

  test('an image is a link to it and loads nothing', () => {
    const target = element('![a cat](https://example.com/cat.png)');
    expect(target.querySelector('img')).toBeNull();
    expect(target.querySelector('a')?.className).toBe('image-link');
    expect(target.textContent).toContain('a cat');
  });
});

test('hostile nesting and length stay cheap', () => {
  const started = performance.now();
  for (const piece of ['> ', '- ', '*', '[', '![', '**a ', '$', '`', '|', '<br>', '\\(', '(('])
    toHtml(piece.repeat(5000));
  expect(performance.now() - started).toBeLessThan(5000);
});
