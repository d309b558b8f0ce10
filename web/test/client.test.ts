// @vitest-environment node
import { expect, test, vi } from 'vitest';
import { ApiClient } from '$lib/api/client';
import { ApiError, NetworkError } from '$lib/api/errors';

function respond(status: number, body: string) {
  const asked: { path: string; init: RequestInit | undefined }[] = [];
  const client = new ApiClient((path, init) => {
    asked.push({ path, init });
    return Promise.resolve(new Response(status === 204 ? null : body, { status, statusText: 'Status' }));
  });
  return { client, asked };
}

test('names with : and / are one segment of the path', async () => {
  const { client, asked } = respond(202, '');
  await client.pullModel('hf:owner/repo:file.gguf');
  expect(asked[0]?.path).toBe('/api/models/hf%3Aowner%2Frepo%3Afile.gguf/pull');
  expect(asked[0]?.init?.method).toBe('POST');
});

test('a query is encoded', async () => {
  const { client, asked } = respond(200, '[]');
  await client.search('a&b=真 金', 50);
  expect(new URLSearchParams(asked[0]?.path.split('?')[1]).get('q')).toBe('a&b=真 金');
});

test("an error in OpenAI's shape keeps its message, code and field", async () => {
  const { client } = respond(
    400,
    '{"error":{"message":"too long","type":"x","param":"content","code":"context_length_exceeded"}}',
  );
  const error = await client.conversation('x').catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({
    status: 400,
    message: 'too long',
    param: 'content',
    code: 'context_length_exceeded',
  });
});

test("a stranger's error page gives its status line", async () => {
  const { client } = respond(502, '<html>bad gateway</html>');
  await expect(client.models()).rejects.toMatchObject({ status: 502, message: '502 Status', code: null });
});

test('whoever asks, a server that cannot be reached is said once for each request', async () => {
  const said: unknown[] = [];
  const broken = new ApiClient(() => Promise.reject(new TypeError('no connection')));
  broken.onUnreachable((error) => said.push(error));
  await expect(broken.consent()).rejects.toBeInstanceOf(NetworkError);
  expect(said).toHaveLength(1);
  expect(said[0]).toBeInstanceOf(NetworkError);
  const aborted = new ApiClient(() => Promise.reject(new DOMException('stop', 'AbortError')));
  aborted.onUnreachable((error) => said.push(error));
  await expect(aborted.consent()).rejects.not.toBeInstanceOf(NetworkError);
  expect(said).toHaveLength(1);
});

test('whatever reaches the server is said, also what it refuses', async () => {
  const reached = vi.fn();
  for (const status of [200, 404]) {
    const client = new ApiClient(() => Promise.resolve(Response.json([], { status })));
    client.onReached(reached);
    await client.models().catch(() => undefined);
  }
  expect(reached).toHaveBeenCalledTimes(2);
  const broken = new ApiClient(() => Promise.reject(new TypeError('no connection')));
  broken.onReached(reached);
  await broken.models().catch(() => undefined);
  expect(reached).toHaveBeenCalledTimes(2);
});

test('a server that cannot be reached is a NetworkError; an abort stays an abort', async () => {
  const broken = new ApiClient(() => Promise.reject(new TypeError('failed to fetch')));
  await expect(broken.status()).rejects.toBeInstanceOf(NetworkError);
  const cut = new ReadableStream({ pull: (controller) => controller.error(new TypeError('network error')) });
  const breaking = new ApiClient(() => Promise.resolve(new Response(cut)));
  await expect(breaking.status()).rejects.toBeInstanceOf(NetworkError);
  const aborted = new ApiClient(() => Promise.reject(new DOMException('stopped', 'AbortError')));
  await expect(aborted.status()).rejects.toHaveProperty('name', 'AbortError');
});
