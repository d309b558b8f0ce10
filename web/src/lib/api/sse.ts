// Reads server-sent events from a fetch response. EventSource is not used because it cannot say why a connection
// failed, and reconnects by itself at the wrong offset.
import { fromNetwork } from './errors';

export interface ServerSentEvent {
  event: string;
  data: string;
}

/** Splits text into events, however it was split on the way. */
export class EventParser {
  #buffer = '';
  #event = '';
  #data: string[] = [];

  push(text: string): ServerSentEvent[] {
    this.#buffer += text;
    const events: ServerSentEvent[] = [];
    // A carriage return at the very end may be the first half of \r\n: it waits for the next piece.
    const complete = this.#buffer.endsWith('\r') ? this.#buffer.slice(0, -1) : this.#buffer;
    const lines = complete.split(/\r\n|\n|\r/);
    this.#buffer = (lines.pop() ?? '') + this.#buffer.slice(complete.length);
    for (const line of lines) this.#readLine(line, events);
    return events;
  }

  #readLine(line: string, events: ServerSentEvent[]): void {
    if (line === '') {
      if (this.#data.length > 0)
        events.push({ event: this.#event || 'message', data: this.#data.join('\n') });
      this.#event = '';
      this.#data = [];
      return;
    }
    if (line.startsWith(':')) return;
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
  }
}

/** Milliseconds of silence after which a connection is taken for broken: the server says something every 15 seconds. */
export const SILENCE = 45_000;

/** The next piece; a connection on which nothing comes any more is cancelled, as nobody tells the page that its other end is gone. */
async function nextPiece(reader: ReadableStreamDefaultReader<Uint8Array>) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError('nothing came for too long')), SILENCE);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch (error) {
    throw fromNetwork(error);
  } finally {
    clearTimeout(timer);
  }
}

/** A connection that breaks is a `NetworkError`, as one that never was. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await nextPiece(reader);
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Also reached when the consumer stops early: the connection must not stay open.
    await reader.cancel().catch(() => undefined);
  }
}
