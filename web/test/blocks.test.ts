// @vitest-environment node
import { describe, expect, test } from 'vitest';
import { BlockSplitter } from '$lib/markdown/blocks';
import { toHtml } from '$lib/markdown/parser';

const texts: Record<string, string> = {
  paragraphs: 'One.\n\nTwo **bold**\nstill two.\n\n\nThree.',
  lists: '1. a\n\n2. b\n\n   inner\n\n- x\n- y\n\n  - z\n\nafter',
  'numbers that become items': '1. a\n\n2\n\n3. c\n\n10. d',
  code: 'See:\n\n```py\ndef f():\n\n    return 1\n```\n\n    indented\n\n    code\n\n~~~\nopen',
  tables: 'x\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\ny\n| c | d |\n|--|--|\n| 3 | 4 |',
  headings: '# A\ntext\n\nSetext\n===\n\nb\n---\n\n---\n\n***',
  quotes: '> a\n> b\n\n> c\nlazy\n\nd',
  'formulas between words':
    'text\n$$\nx\n$$ more\n\ntext\n$$x$$\nmore\n$$\n- y\n+ z\n$$\nend\n\n$$\nnever\n\nclosed',
  formulas: 'a\n\n$$\nx\n\ny\n$$\n\n\\[\nz\n\\]\nend $q$',
  references: '[a] and [b]\n\n[a]: https://example.com/a\n\ntext [b]\n\n[b]: https://example.com/b\n',
  chinese: '**第一：**内容。\n\n1. **“甲”**乙\n2. 丙\n\n> 引用\n\n结束',
  'line ends of Windows': 'a\r\n\r\n- b\r\n- c\r\n\r\n```\r\nd\r\n```',
  blank: '\n\n\n',
  'a fence in a list': '- a\n\n  ```\n  b\n\n  c\n  ```\n\n- d',
};

function html(splitter: BlockSplitter, text: string): string {
  const { blocks, references } = splitter.update(text);
  return blocks.map(({ source }) => toHtml(source, references)).join('');
}

describe.each(Object.entries(texts))('%s', (_name, text) => {
  test('looks the same in blocks as in one piece', () => {
    expect(html(new BlockSplitter(), text)).toBe(toHtml(text.replaceAll('\r\n', '\n')));
  });

  test('looks the same at the end when it grew a character at a time, and at every step on the way', () => {
    const splitter = new BlockSplitter();
    const points = [...text];
    for (let length = 1; length <= points.length; length++) {
      const part = points.slice(0, length).join('');
      expect(html(splitter, part)).toBe(toHtml(part.replaceAll(/\r\n?/g, '\n')));
    }
  });

  test('keys are unique at every step', () => {
    const splitter = new BlockSplitter();
    for (let length = 1; length <= text.length; length++) {
      const { blocks } = splitter.update(text.slice(0, length));
      expect(new Set(blocks.map(({ key }) => key)).size).toBe(blocks.length);
    }
  });
});

test('finished blocks stay the same objects, so that they are not drawn again', () => {
  const splitter = new BlockSplitter();
  let text = 'one\n\ntwo\n\nthree\n\n';
  const { blocks, references } = splitter.update(text);
  const after = splitter.update((text += 'four **bold'));
  expect(after.blocks).toHaveLength(4);
  for (const index of [0, 1]) expect(after.blocks[index]).toBe(blocks[index]);
  expect(after.references).toBe(references);
});

test('another text begins anew', () => {
  const splitter = new BlockSplitter();
  splitter.update('a\n\nb\n\nc\n\nd');
  expect(splitter.update('x').blocks).toEqual([{ key: 0, source: 'x' }]);
});

test('a piece of a very long answer takes a few milliseconds at most', () => {
  const paragraph = 'Some **words** with `code` and a [link](https://example.com).\n\n';
  const splitter = new BlockSplitter();
  let text = paragraph.repeat(5000);
  splitter.update(text);
  const started = performance.now();
  for (let index = 0; index < 100; index++) splitter.update((text += paragraph));
  expect((performance.now() - started) / 100).toBeLessThan(10);
});
