// @vitest-environment node
// The mock server answers as the server's OpenAPI document says: every operation of the page below /api is asked, and each status, body and
// event is checked against its schema.
import { Ajv2020 } from 'ajv/dist/2020.js';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
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
