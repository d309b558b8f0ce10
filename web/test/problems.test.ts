// @vitest-environment jsdom
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ApiError } from '$lib/api/errors';
import { catalogues, i18n, locales } from '$lib/i18n/i18n.svelte';
import { failure, recorded, records } from '$lib/i18n/zh-records';
import { leftOutUnit } from '$lib/improvements';
import { explain } from '$lib/problems';
import { exampleLanguage } from '$lib/state/models.svelte';
import type { ModelInfo } from '$lib/api/types';
import { isLoopback } from '$lib/util/place';
import { isolated, oneLine } from '$lib/util/text';

const SERVER = '../crates/server/src';

/** Of requests that the page does not make, and of fields whose error stands beside them. */
const NOT_OF_THE_PAGE = new Set([
  'adapter_not_found', 'adapter_not_loadable', 'invalid_gzip', 'invalid_json', 'invalid_type', 'method_not_allowed',
  'missing_required_parameter', 'unknown_parameter', 'unknown_url', 'unsupported_content_encoding', 'unsupported_media_type',
  'unsupported_parameter', 'unsupported_value',
]); // prettier-ignore

test('every error code that the page can meet has words in every language', () => {
  const below = (folder: string) =>
    readdirSync(join(SERVER, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.rs'))
      .map((file) => join(folder, file));
  const files = ['errors.rs', 'store_errors.rs', 'body.rs', ...below('chat'), ...below('security')];
  const codes = new Set<string>();
  for (const file of files) {
    for (const [, code = ''] of readFileSync(join(SERVER, file), 'utf8').matchAll(/with_code\("(\w+)"\)/g)) {
      codes.add(code);
    }
  }
  expect(codes.size).toBeGreaterThan(8);
  for (const locale of locales) {
    const unknown = [...codes].filter(
      (code) => !(code in catalogues[locale].problems) && !NOT_OF_THE_PAGE.has(code),
    );
    expect(unknown, locale).toEqual([]);
  }
});

test("a Chinese page never shows the server's English", () => {
  i18n.use('zh');
  for (const error of [
    new ApiError(429, 'the queue is full', 'rate_limit_exceeded'),
    new ApiError(500, 'something broke', 'a_new_code'),
    new ApiError(502, '502 Bad Gateway'),
    new TypeError('x is not a function'),
  ]) {
    expect(explain(error)).toMatch(/[\u4e00-\u9fff]/);
    expect(explain(error).replace('a_new_code', '')).not.toMatch(/[a-z]/i);
  }
  i18n.use('en');
  expect(explain(new ApiError(400, '`x` is wrong', 'a_new_code'))).toBe('Something went wrong: `x` is wrong');
});

test('terms of use that say what they allow say it in every language', () => {
  const { models } = JSON.parse(readFileSync('../crates/hub/catalogue.json', 'utf8')) as {
    models: { licence: { name: string } }[];
  };
  const inSentences = models.map(({ licence }) => licence.name).filter((name) => name.includes(' '));
  expect(inSentences).not.toEqual([]);
  for (const locale of locales) {
    expect(Object.keys(catalogues[locale].models.terms), locale).toEqual(expect.arrayContaining(inSentences));
  }
});

test('examples are in a language that the model reads', () => {
  const model = (title: string, languages: string[]) => ({ title, languages }) as ModelInfo;
  expect(exampleLanguage(model('Qwen3', ['en', 'zh']), 'zh')).toBe('zh');
  expect(exampleLanguage(model('SmolLM2 135M', ['en']), 'zh')).toBe('en');
  expect(exampleLanguage(model('A poet', ['zh']), 'en')).toBe('zh');
  expect(exampleLanguage(model('unknown.gguf', []), 'zh')).toBe('zh');
});

test('only a loopback name promises that nothing leaves the machine', () => {
  for (const host of ['localhost', 'LOCALHOST', 'a.localhost', '127.0.0.1', '127.8.0.1', '[::1]']) {
    expect(isLoopback(host), host).toBe(true);
  }
  for (const host of [
    '192.168.1.7',
    'chat.example.org',
    '127.0.0.1.nip.io',
    'localhost.evil.example',
    '[::2]',
  ]) {
    expect(isLoopback(host), host).toBe(false);
  }
});

test('titles are one line that turns nothing around it', () => {
  expect(oneLine('a\u202eb\u0000c\nd\ud800')).toBe('a b c d\ufffd');
  expect(oneLine(' عنوان\u200f \u200dx ')).toBe('عنوان\u200f \u200dx');
  expect(isolated('\u2069x\u2068')).toBe('\u2068x\u2069');
});

test('what the record of an improvement says in English is Chinese on a Chinese page', () => {
  expect(recorded("another model's answers")).toBe('是其他模型的回答');
  expect(recorded("more than one person's share: the newest 200 of `key 1` count")).toBe(
    '超过一个人的份额：key 1 只计最新的 200 条',
  );
  const judged = 'the judge agrees with 0.61 (0.5 to 0.7) of 40 judgements that it did not see';
  expect(recorded(judged)).toContain('一致率为 0.61（0.5 至 0.7）');
  expect(recorded(`${judged}: too little to decide anything`)).toContain('不足以作判断');
  for (const [english, chinese] of Object.entries(records)) {
    const parts = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(([part]) => part).sort();
    expect(parts(chinese), english).toEqual(parts(english));
  }
  const few =
    'there are too few judgements to learn from: examples to learn from: 6, held out: 1, of 1 first questions of chats, by dpo; at least 20 examples and 5 held-out first questions are needed';
  expect(failure(few)).toBe(
    '失败了：评价太少，学不了：用 DPO 有 6 条可学习、1 条（来自 1 个聊天的首个问题）留作检验，至少需要 20 条和 5 个首个问题',
  );
  expect(recorded(`${judged}; 40 examples of 12 first questions`)).toMatch(
    /一致率为 0.61（0.5 至 0.7）；12 个首个问题的 40 条例子$/,
  );
  expect(failure(`${few}; left out: 3 (the same judgement twice), 2 (another model's answers)`)).toMatch(
    /；未采用：3 条（重复的评价）、2 条（是其他模型的回答）$/,
  );
  expect(failure(`step 1\nzhenjin: ${few}`)).toBe(failure(few));
  const same = 'nothing was judged since the improvement 2026-11-27-1; --again makes another one';
  expect(failure(`zhenjin: ${same}`)).toBe('失败了：自改进 2026-11-27-1 以来没有新的评价');
  const former =
    'there are too few judgements to learn from: 6 examples to learn from and 1 held out, of 2 first questions of chats, by dpo; at least 8 examples and 5 held-out first questions are needed';
  expect(failure(former)).toContain('有 6 条可学习、1 条');
  expect(failure('something new')).not.toContain('something');
  expect(recorded('something new')).toBe('something new');
});

test('the sentences that have Chinese words are those that the program writes', () => {
  const folders = ['../crates/improve/src', '../crates/cli/src/commands/improve', '../crates/promotions/src'];
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  );
  const written = files
    .filter((file) => file.endsWith('.rs'))
    .map((file) => readFileSync(file, 'utf8').replace(/\\\n\s*/g, ''))
    .join('\n');
  const unwritten = Object.keys(records)
    .flatMap((english) => english.split(/\{\w+\}|[:;] /).map((part) => part.trim()))
    .filter((part) => part.length > 3 && !written.includes(part));
  expect(unwritten).toEqual([]);
});

/** The sentences in a file of the program, without its tests and comments, and without what errors say of where they were. */
function sentences(file: string): string[] {
  const [source = ''] = readFileSync(join('../crates', file), 'utf8').split('#[cfg(test)]');
  const code = source
    .replace(/^\s*\/\/.*$/gm, '')
    .replace(/\\\n\s*/g, '')
    .replace(/context\("[^"]*"\)/g, '');
  return [...code.matchAll(/"((?:[^"\\]|\\.)*)"/g)]
    .map(([, text = '']) => text)
    .filter((text) => text.split(' ').length > 2);
}

// Regression: the note of a weakened adapter stood in English in the Chinese gate.
test('every note of the gate and every reason to leave something out has Chinese words', () => {
  const judged = 'the judge agrees with 0.6 (0.5 to 0.7) of 40 judgements that it did not see';
  /** What the program's functions have besides. */
  const others = new Set([
    'The weather today is',
    "the configuration of the improvement's run",
    '; left out: {}',
  ]);
  const filled = (text: string) =>
    text.replace('{judged}', judged).replace(/(?<=[a-z])\{\}/g, '').replace(/\{[^}]*\}/g, '7'); // prettier-ignore
  const of = (files: string[]) =>
    files
      .flatMap(sentences)
      .filter((text) => !others.has(text))
      .map(filled);
  const notes = of(['cli/src/commands/improve/judging.rs', 'improve/src/gate.rs']);
  const reasons = of(['improve/src/read.rs', 'improve/src/collect.rs']);
  expect(notes).toContain('the adapter at 7 of its strength, as more of it changes neutral text too much');
  expect(reasons.length).toBeGreaterThan(8);
  expect([...notes, ...reasons].filter((text) => recorded(text) === text)).toEqual([]);
  const unmeasured = notes.map((note) => `${note}; 7 examples of 7 first questions`);
  expect(unmeasured.filter((text) => /[a-z]{3}/.test(recorded(text)))).toEqual([]);
  // What is left out is counted in judgements or in examples, and the page says which.
  const counted = reasons.filter((reason) => !reason.startsWith('there are too few judgements'));
  expect(counted.filter((reason) => leftOutUnit(reason) === null)).toEqual([]);
});
