// @vitest-environment node
import { describe, expect, test, vi } from 'vitest';
import { EventParser, readEvents, SILENCE, type ServerSentEvent } from '$lib/api/sse';

const stream =
  'event: delta\r\ndata: {"text":"金\u2028"}\r\n\r\n: a comment\n\ndata: one\ndata:two\n\nevent: done\rdata: {}\r\r';
const events: ServerSentEvent[] = [
  { event: 'delta', data: '{"text":"金\u2028"}' },
  { event: 'message', data: 'one\ntwo' },
  { event: 'done', data: '{}' },
];

describe('server-sent events', () => {
  test('are the same however the text is cut', () => {
    for (let first = 0; first <= stream.length; first++) {
      for (const second of [first, Math.min(first + 1, stream.length), stream.length]) {
        const parser = new EventParser();
        const parts = [stream.slice(0, first), stream.slice(first, second), stream.slice(second), '\n'];
        expect(parts.flatMap((part) => parser.push(part))).toEqual(events);
      }
    }
  });

  test('are read from bytes cut inside a character, and the connection is closed at the end', async () => {
    const bytes = new TextEncoder().encode(stream + '\n');
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      },
      cancel() {
        cancelled = true;
      },
    });
    const seen: ServerSentEvent[] = [];
    for await (const event of readEvents(body)) {
      seen.push(event);
      if (event.event === 'done') break;
    }
    expect(seen).toEqual(events);
    expect(cancelled).toBe(true);
  });

  // Nobody tells the page that the other end of a connection is gone; a server that is there says something now and then.
  test('end with a NetworkError after too long a silence, however long they have lasted before', async () => {
    vi.useFakeTimers();
    let say: (text: string) => void = () => undefined;
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        say = (text) => controller.enqueue(new TextEncoder().encode(text));
      },
      cancel() {
        cancelled = true;
      },
    });
    const seen: string[] = [];
    let ended: unknown = null;
    const read = async () => {
      for await (const { data } of readEvents(body)) seen.push(data);
    };
    const reading = read().catch((error: unknown) => (ended = error));
    try {
      for (const text of ['data: one\n\n', ': still here\n\n', 'data: two\n\n']) {
        say(text);
        await vi.advanceTimersByTimeAsync(SILENCE - 1);
      }
      expect([seen, ended, cancelled]).toEqual([['one', 'two'], null, false]);
      await vi.advanceTimersByTimeAsync(1);
      await reading;
    } finally {
      vi.useRealTimers();
    }
    expect(ended).toHaveProperty('name', 'NetworkError');
    expect(cancelled).toBe(true);
  });

  // Regression: the browser's own error was shown beside the banner that says the same.
  test('end with a NetworkError when the connection breaks, and an abort stays an abort', async () => {
    for (const [thrown, expected] of [
      [new TypeError('network error'), 'NetworkError'],
      [new DOMException('stopped', 'AbortError'), 'AbortError'],
    ] as const) {
      let sent = false;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          if (sent) controller.error(thrown);
          else controller.enqueue(new TextEncoder().encode('data: one\n\n'));
          sent = true;
        },
      });
      const seen: string[] = [];
      const read = async () => {
        for await (const { data } of readEvents(body)) seen.push(data);
      };
      await expect(read()).rejects.toHaveProperty('name', expected);
      expect(seen).toEqual(['one']);
    }
  });
});
