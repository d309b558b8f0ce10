// A fake server for tests of the stores: answers from memory, and streams that break where the test says.
import { ApiClient } from '$lib/api/client';
import type { Conversation, Message } from '$lib/api/types';
import { MODEL_DEFAULTS } from '$lib/settings';

export function message(fields: Partial<Message> & { id: string }): Message {
  return {
    conversation_id: 'c', parent_id: null, role: 'user', content: '', status: 'complete', error: null, model: null,
    created_at: 0, finish_reason: null, prompt_tokens: null, completion_tokens: null, cached_tokens: null,
    time_to_first_token_ms: null, tokens_per_second: null, context_length: null, feedback: null, ...fields,
  }; // prettier-ignore
}

export function conversation(fields: Partial<Conversation> = {}): Conversation {
  return {
    id: 'c',
    title: 't',
    model: 'm',
    created_at: 0,
    updated_at: 0,
    current_leaf: null,
    system_prompt: null,
    settings: MODEL_DEFAULTS,
    ...fields,
  };
}

export interface Call {
  method: string;
  path: string;
  body: unknown;
}

/** Answers by the first handler whose key, "METHOD /path", begins the call. */
export function fakeServer(handlers: Record<string, (call: Call) => unknown>) {
  const calls: Call[] = [];
  const client = new ApiClient((path, init) => {
    const call = {
      method: init?.method ?? 'GET',
      path,
      body: init?.body ? JSON.parse(String(init.body)) : null,
    };
    calls.push(call);
    const key = Object.keys(handlers)
      .sort((a, b) => b.length - a.length)
      .find((key) => `${call.method} ${path}`.startsWith(key));
    if (key === undefined) throw new TypeError(`the fake server does not know ${call.method} ${path}`);
    const answer = handlers[key]?.(call);
    if (answer instanceof Promise) return answer as Promise<Response>;
    return Promise.resolve(answer instanceof Response ? answer : Response.json(answer ?? null));
  });
  return { client, calls };
}

/** A stream of the answer from `offset` on, a code point at a time, that breaks after `count` of them. */
export function brokenStream(answer: Message, path: string, count: number): Response {
  const offset = Number(new URL(path, 'http://fake').searchParams.get('offset'));
  const points = [...answer.content];
  const end = Math.min(points.length, offset + count);
  let text = '';
  for (let at = offset; at < end; at++) text += sse('delta', { offset: at, text: points[at] });
  if (end === points.length) text += sse('done', answer);
  return new Response(text);
}

export function sse(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Windows that open and close, of which jsdom has none; an open one has the focus on its title, as its page wants. */
export function fakeDialogs(): void {
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
    this.querySelector('h2')?.focus();
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
}
