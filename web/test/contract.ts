// The operations of improvements in the form of the OpenAPI document, for the time until the document has them:
// what it has already goes first.

interface Content {
  schema?: object;
}
interface Operation {
  tags: string[];
  responses: Record<string, { content?: Record<string, Content> }>;
}
interface Schema {
  type?: string;
  properties?: Record<string, object>;
  required?: string[];
  allOf?: Schema[];
}
export interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

const text = { type: 'string' };
const count = { type: 'integer' };
const flag = { type: 'boolean' };
const orNull = (type: object) => ({ oneOf: [{ type: 'null' }, type] });
const list = (items: object) => ({ type: 'array', items });
const named = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const object = (properties: Record<string, object>): Schema => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
});
const word = (...words: string[]) => ({ type: 'string', enum: words });

const answers = (responses: Record<number, object | null>): Operation => ({
  tags: ['chat'],
  responses: Object.fromEntries(
    Object.entries(responses).map(([status, schema]) => [
      status,
      schema === null ? {} : { content: { 'application/json': { schema } } },
    ]),
  ),
});
const refused = named('ErrorBody');

const promotion = object({
  model: text,
  improvement: orNull(text),
  method: orNull(text),
  since: orNull(count),
  promoted: orNull(
    object({
      id: text,
      kind: text,
      since: count,
      method: orNull(text),
      data: orNull(text),
      gate: orNull(text),
      improvement: orNull(text),
    }),
  ),
  earlier: list(text),
});
const figure = orNull({ type: 'number' });
const criterion = object({
  name: word('preference_accuracy', 'win_rate', 'liked_answers', 'perplexity_en', 'perplexity_zh', 'speed'),
  value: figure,
  base: figure,
  lower: figure,
  upper: figure,
  limit: figure,
  examples: count,
  passed: orNull(flag),
  note: orNull(text),
});
const improvement = object({
  id: text,
  model: text,
  method: word('dpo', 'kto', 'sft'),
  created_at: count,
  finished_at: orNull(count),
  state: word('running', 'interrupted', 'failed', 'refused', 'passed'),
  error: orNull(text),
  promoted: flag,
  data: object({
    pairs: count,
    ratings: count,
    corrections: count,
    train: count,
    held_out: count,
    conversations: count,
    owners: count,
    left_out: list(object({ reason: text, count })),
  }),
  gate: list(criterion),
});
const running = object({
  id: text,
  model: text,
  phase: word('collecting', 'training', 'judging'),
  step: orNull(count),
  steps: orNull(count),
  started_at: count,
});

const paths: Document['paths'] = {
  '/api/improvements': {
    get: answers({
      200: object({
        running: orNull(running),
        improvements: list(improvement),
        promotions: list(promotion),
      }),
    }),
    post: answers({ 202: object({ id: text }), 409: refused }),
  },
  '/api/improvements/{id}': { delete: answers({ 204: null, 404: refused }) },
  '/api/improvements/{id}/promote': { post: answers({ 200: promotion, 409: refused }) },
  '/api/promotions/{model}/rollback': { post: answers({ 200: promotion, 409: refused }) },
};

export function completed(document: Document): Document {
  for (const [path, operations] of Object.entries(paths)) document.paths[path] ??= operations;
  return document;
}
