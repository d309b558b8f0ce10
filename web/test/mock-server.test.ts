// @vitest-environment node
// The mock server answers as the server's OpenAPI document says: every operation of the page below /api is asked, and each status, body and
// event is checked against its schema.
import { Ajv2020 } from 'ajv/dist/2020.js';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { startMockServer } from '../dev/mock-server.mjs';
import { EventParser, type ServerSentEvent } from '../src/lib/api/sse';

interface Content {
  schema?: object;
}
interface Operation {
  tags: string[];
  responses: Record<string, { content?: Record<string, Content> }>;
}
interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: object;
}

const document = JSON.parse(readFileSync('../docs/openapi.json', 'utf8')) as Document;
const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema({ $id: 'closed', components: closed(document.components) as object });
ajv.addSchema({ $id: 'open', components: document.components });

/**
 * The schema, with objects that have no fields but those that it names: a field too many is drift as well. The parts of an
 * `allOf` stay open, since each of them names only some of the fields.
 */
function closed(schema: unknown, isPart = false): unknown {
  if (Array.isArray(schema)) return schema.map((item) => closed(item, isPart));
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema).map(([key, value]) =>
    key === '$ref' ? [key, `${isPart ? 'open' : 'closed'}${value}`] : [key, closed(value, key === 'allOf')],
  );
  const result = Object.fromEntries(entries) as Record<string, unknown>;
  const isObject = 'properties' in result && !('additionalProperties' in result);
  if (!isPart && (isObject || 'allOf' in result)) result.unevaluatedProperties = false;
  return result;
}

function expectValid(schema: object, value: unknown, place: string): void {
  const validate = ajv.compile(closed(schema) as object);
  expect(validate(value), `${place}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value)}`).toBe(
    true,
  );
}

let mock: Awaited<ReturnType<typeof startMockServer>>;
const asked = new Set<string>();

beforeAll(async () => {
  mock = await startMockServer({ tokenMilliseconds: 1, key: 'secret' });
});
afterAll(() => mock.close());

/** Asks one operation of the document and checks what comes back. */
async function ask(method: string, path: string, values: Record<string, string> = {}, body?: unknown) {
  const operation = document.paths[path]?.[method.toLowerCase()];
  if (!operation) throw new Error(`the document has no ${method} ${path}`);
  asked.add(`${method} ${path}`);
  let address = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name] ?? ''));
  if (values.query !== undefined) address += `?${values.query}`;
  const response = await fetch(mock.url + address, {
    method,
    headers: { cookie: values.cookie ?? 'mock-session=open', 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const place = `${method} ${address}: ${response.status}`;
  const described = operation.responses[String(response.status)];
  expect(described, `${place} is not described`).toBeDefined();
  const type = response.headers.get('content-type') ?? '';
  const schema = described?.content?.[type.split(';')[0] ?? '']?.schema;
  if (type.startsWith('text/event-stream')) return { response, schema: schema ?? {}, place };
  const text = await response.text();
  if (schema === undefined) expect(text, place).toBe('');
  else expectValid(schema, JSON.parse(text), place);
  return { response, schema: schema ?? {}, place, json: text === '' ? null : JSON.parse(text) };
}

/** The events of a stream until one that `isLast`, each checked. */
async function events(
  stream: Awaited<ReturnType<typeof ask>>,
  isLast: (event: ServerSentEvent) => boolean,
): Promise<ServerSentEvent[]> {
  const parser = new EventParser();
  const seen: ServerSentEvent[] = [];
  const decoder = new TextDecoder();
  for await (const chunk of stream.response.body ?? []) {
    for (const event of parser.push(decoder.decode(chunk as Uint8Array, { stream: true }))) {
      expectValid(stream.schema, { event: event.event, data: JSON.parse(event.data) }, stream.place);
      seen.push(event);
      if (isLast(event)) return seen;
    }
  }
  return seen;
}

test('logging in, the status and the models are as described', async () => {
  await ask('GET', '/api/status', { cookie: '' });
  await ask('POST', '/api/login', {}, { key: 'secret' });
  const refused = await ask('POST', '/api/login', {}, { key: 'wrong' });
  expect(refused.response.status).toBe(401);
  await ask('POST', '/api/logout');
  await ask('GET', '/api/models');
  await ask('POST', '/api/models/{name}/pull', { name: 'smollm2:360m' });
  await ask('GET', '/api/models');
  const stream = await ask('GET', '/api/models/events');
  await ask('DELETE', '/api/models/{name}/pull', { name: 'smollm2:360m' });
  const pulls = await events(stream, (event) => event.data.includes('cancelled'));
  expect(pulls.length).toBeGreaterThan(1);
  await ask('DELETE', '/api/models/{name}', { name: 'smollm2:360m' });
  expect((await ask('POST', '/api/models/{name}/pull', { name: 'none' })).response.status).toBe(404);
});

test('adapters are loaded, listed and unloaded as described', async () => {
  const name = 'smollm2:135m+poet';
  await ask('PUT', '/api/adapters/{name}', { name }, { folder: null });
  expect((await ask('GET', '/api/adapters')).json.served).toHaveLength(1);
  expect((await ask('PUT', '/api/adapters/{name}', { name }, { folder: 'none' })).response.status).toBe(404);
  await ask('DELETE', '/api/adapters/{name}', { name });
  expect((await ask('DELETE', '/api/adapters/{name}', { name })).response.status).toBe(404);
});

test('a conversation from its first question to its deletion is as described', async () => {
  const { json: made } = await ask('POST', '/api/conversations', {}, { settings: { temperature: 0.5 } });
  const id = made.id as string;
  const question = { parent_id: null, content: 'What is gold?' };
  const { json: exchange } = await ask('POST', '/api/conversations/{id}/messages', { id }, question);
  const answer = { id: exchange.answer.id as string };
  const whole = await events(await ask('GET', '/api/messages/{id}/stream', answer), () => false);
  expect(whole.map((event) => event.event)).toContain('delta');
  expect(whole.at(-1)?.event).toBe('done');
  const later = await ask('GET', '/api/messages/{id}/stream', { ...answer, query: 'offset=5' });
  expect((await events(later, () => false)).length).toBe(2);
  const { json: again } = await ask('POST', '/api/messages/{id}/regenerate', answer);
  await ask('POST', '/api/messages/{id}/stop', { id: again.answer.id });
  await ask('GET', '/api/conversations/{id}', { id });
  await ask('PATCH', '/api/conversations/{id}', { id }, { title: 'Gold', settings: {}, system_prompt: null });
  await ask('POST', '/api/context', {}, { conversation_id: id, parent_id: answer.id, content: 'And' });
  expect((await ask('GET', '/api/search', { query: 'q=gold' })).json.length).toBeGreaterThan(0);
  expect((await ask('GET', '/api/conversations', { query: 'limit=5' })).json.length).toBe(1);
  await ask('DELETE', '/api/conversations/{id}', { id });
  expect((await ask('GET', '/api/conversations/{id}', { id })).response.status).toBe(404);
  await ask('POST', '/api/conversations/{id}/restore', { id });
  await ask('GET', '/api/conversations/{id}', { id });
  const turns = { from_id: exchange.user.id, parent_id: answer.id };
  const { json: continued } = await ask('POST', '/api/conversations/{id}/continue', { id }, turns);
  expect((await ask('GET', '/api/conversations/{id}', { id: continued.id })).json.messages).toHaveLength(2);
  const last = { conversation_id: id, parent_id: answer.id, from_id: exchange.user.id };
  expect((await ask('POST', '/api/context', {}, last)).json.prompt_tokens).toBeGreaterThan(0);
});

test('a first question and the trash are as described', async () => {
  const { json: first } = await ask('POST', '/api/questions', {}, { content: 'What is gold?' });
  const { json: second } = await ask(
    'POST',
    '/api/questions',
    {},
    { content: 'And silver?', system_prompt: 'Be brief.' },
  );
  const long = await ask('POST', '/api/questions', {}, { content: 'gold '.repeat(3000) });
  expect(long.response.status).toBe(400);
  for (const { conversation } of [first, second])
    await ask('DELETE', '/api/conversations/{id}', { id: conversation.id });
  expect((await ask('GET', '/api/trash', { query: 'limit=1' })).json).toHaveLength(1);
  await ask('DELETE', '/api/trash/{id}', { id: first.conversation.id });
  expect((await ask('DELETE', '/api/trash/{id}', { id: first.conversation.id })).response.status).toBe(404);
  expect((await ask('DELETE', '/api/trash')).json.erased).toBe(1);
});

test('feedback, choices and consent are as described', async () => {
  const { json: first } = await ask('POST', '/api/questions', {}, { content: 'What is tin?' });
  const whole = async (id: string) =>
    events(await ask('GET', '/api/messages/{id}/stream', { id }), () => false);
  const id = first.answer.id as string;
  const early = await ask('PUT', '/api/messages/{id}/feedback', { id }, { rating: 'up' });
  expect(early.response.status).toBe(409);
  await whole(id);
  const said = { rating: 'down', reasons: ['wrong'], comment: 'No.', correction: 'Tin is a metal.' };
  const { json: feedback } = await ask('PUT', '/api/messages/{id}/feedback', { id }, said);
  expect(feedback).toMatchObject(said);
  for (const wrong of [{}, { rating: 'up', reasons: ['wrong'] }, { correction: ' ' }]) {
    const { response } = await ask('PUT', '/api/messages/{id}/feedback', { id }, wrong);
    expect(response.status, JSON.stringify(wrong)).toBe(400);
  }
  const model = 'smollm2:135m';
  const { json: again } = await ask('POST', '/api/messages/{id}/regenerate', { id }, { model });
  const other = again.answer.id as string;
  await whole(other);
  const { json: choice } = await ask('PUT', '/api/messages/{id}/choice', { id: other }, { rejected: [id] });
  expect(choice).toMatchObject({ chosen: other, rejected: [id], question_id: first.user.id });
  const chat = { id: first.conversation.id as string };
  const { json: opened } = await ask('GET', '/api/conversations/{id}', chat);
  expect(opened.choices).toEqual([choice]);
  expect((await ask('GET', '/api/conversations/{id}/trained', chat)).json).toEqual({ improvements: [] });
  // Chosen the other way round, it is that choice which counts.
  await ask('PUT', '/api/messages/{id}/choice', { id }, { rejected: [other] });
  expect((await ask('GET', '/api/conversations/{id}', chat)).json.choices).toHaveLength(1);
  expect((await ask('PUT', '/api/messages/{id}/choice', { id }, { rejected: [id] })).response.status).toBe(
    400,
  );
  expect((await ask('GET', '/api/feedback/consent')).json).toEqual({ allowed: false, changed_at: null });
  expect((await ask('PUT', '/api/feedback/consent', {}, { allowed: true })).json.allowed).toBe(true);
  expect((await ask('GET', '/api/feedback')).json.rows).toHaveLength(2);
  await ask('GET', '/api/feedback/statistics');
  expect((await ask('GET', '/api/feedback/erasure')).json).toEqual({ erased: 2, trained: [] });
  await ask('DELETE', '/api/messages/{id}/choice', { id });
  await ask('DELETE', '/api/messages/{id}/feedback', { id });
  await ask('PUT', '/api/messages/{id}/feedback', { id }, { rating: 'up' });
  expect((await ask('DELETE', '/api/feedback')).json).toEqual({ erased: 1, trained: [] });
});

test('an improvement is made, promoted and rolled back as described', async () => {
  await ask('GET', '/api/improvements/preview', { query: 'method=dpo' });
  const { json: started } = await ask('POST', '/api/improvements', {}, { method: 'dpo' });
  expect((await ask('POST', '/api/improvements', {}, {})).response.status).toBe(409);
  await vi.waitFor(async () => {
    expect((await ask('GET', '/api/improvements')).json.improvements[0].id).toBe(started.id);
  }, 5000);
  const { json: promotion } = await ask('POST', '/api/improvements/{id}/promote', { id: started.id });
  expect(promotion).toMatchObject({ improvement: started.id, method: 'dpo' });
  const model = promotion.model as string;
  const { json: back } = await ask('POST', '/api/promotions/{model}/rollback', { model });
  expect(back.improvement).toBeNull();
  expect((await ask('POST', '/api/promotions/{model}/rollback', { model })).response.status).toBe(409);
  const { json: elsewhere } = await ask('PUT', '/api/promotions/{model}', { model }, { folder: 'poet' });
  expect(elsewhere).toMatchObject({ improvement: null, promoted: { kind: 'adapter' } });
  const { json: offered } = await ask('GET', '/api/models');
  expect(offered[0].promoted).toEqual(elsewhere.promoted);
  const none = await ask('PUT', '/api/promotions/{model}', { model }, { folder: 'none' });
  expect(none.response.status).toBe(404);
  // It was compared with the model itself, which does not answer now.
  const promote = (body?: unknown) => ask('POST', '/api/improvements/{id}/promote', { id: started.id }, body);
  expect((await promote()).response.status).toBe(409);
  expect((await promote({ force: true })).json.improvement).toBe(started.id);
  const { json: next } = await ask('POST', '/api/improvements', {}, {});
  await ask('DELETE', '/api/improvements/{id}', { id: next.id });
  const discard = (id: string) => ask('POST', '/api/improvements/{id}/discard', { id });
  expect((await discard('2026-11-25-1')).response.status).toBe(409);
  expect((await discard('none')).response.status).toBe(404);
  expect((await ask('DELETE', '/api/improvements/{id}', { id: next.id })).response.status).toBe(404);
});

test('tones and rhymes are as described', async () => {
  const poem = '白日依山盡，黃河入海流。欲窮千里目，更上一層樓。';
  expect((await ask('POST', '/api/prosody', {}, { text: poem })).json.verse.form).toBe('五言絕句');
  expect((await ask('POST', '/api/prosody', {}, { text: '春，秋' })).json.verse.form).toBeNull();
  expect((await ask('POST', '/api/prosody', {}, { text: 'hello' })).json.verse).toBeNull();
  expect((await ask('POST', '/api/prosody', {}, { text: ' ' })).response.status).toBe(400);
});

test('a question that does not fit is refused as described', async () => {
  const { json } = await ask('POST', '/api/conversations', {}, {});
  const question = { parent_id: null, content: 'gold '.repeat(3000) };
  const { response } = await ask('POST', '/api/conversations/{id}/messages', { id: json.id }, question);
  expect(response.status).toBe(400);
});

test('every operation of the page below /api has been asked', () => {
  const described = Object.entries(document.paths)
    .filter(([path]) => path.startsWith('/api/'))
    .flatMap(([path, operations]) =>
      Object.entries(operations)
        // Ollama's routes lie below /api as well.
        .filter(([, operation]) => !operation.tags.includes('ollama'))
        .map(([method]) => `${method.toUpperCase()} ${path}`),
    );
  expect(described.length).toBeGreaterThan(15);
  expect([...asked].sort()).toEqual(described.sort());
});
