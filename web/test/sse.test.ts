// @vitest-environment node
import { describe, expect, test } from 'vitest';
import { EventParser, readEvents, type ServerSentEvent } from '$lib/api/sse';

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
