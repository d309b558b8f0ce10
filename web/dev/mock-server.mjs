// A mock server for working on the page: the same /api (a test checks it against docs/openapi.json), everything in memory,
// and web/dist under a strict content security policy. It is not part of the program.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MockChats } from './mock-chats.mjs';
import { MockFeedback } from './mock-feedback.mjs';
import { MockImprovements } from './mock-improvements.mjs';
import { MockModels } from './mock-models.mjs';
import { prosodyOf } from './mock-prosody.mjs';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/** @type {Record<string, string>} */
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
}; // prettier-ignore

/** @typedef {import('node:http').IncomingMessage} Request @typedef {import('node:http').ServerResponse} Response */

class Refusal extends Error {
  /** @param {number} status @param {string} message @param {string | null} code */
  constructor(status, message, code = status === 404 ? 'not_found' : null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {{ port?: number, tokenMilliseconds?: number, key?: string | null, contextLength?: number }} options
 * @returns {Promise<{ url: string, chats: MockChats, feedback: MockFeedback, close: () => Promise<void> }>}
 */
export function startMockServer({ port = 0, tokenMilliseconds = 15, key = null, contextLength = 2048 } = {}) {
  const chats = new MockChats(tokenMilliseconds);
  const models = new MockModels();
  const feedback = new MockFeedback(chats);
  const improvements = new MockImprovements(tokenMilliseconds * 40);
  /** @type {Map<string, import('../src/lib/api/types.ts').AdapterInfo>} */
  const adapters = new Map();
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      const status = error instanceof Refusal ? error.status : 500;
      const code = error instanceof Refusal ? error.code : null;
      if (response.headersSent) return response.end();
      send(response, status, {
        error: { message: error.message, type: 'invalid_request_error', param: null, code },
      });
    });
  });

  /** @param {Request} request @param {Response} response */
  async function handle(request, response) {
    const url = new URL(request.url ?? '/', 'http://mock');
    if (url.pathname === '/v1/chat/completions') return complete(response);
    if (!url.pathname.startsWith('/api/')) return sendFile(response, url.pathname);
    const parts = url.pathname.split('/').slice(2).map(decodeURIComponent);
    const method = request.method ?? 'GET';
    const body = ['POST', 'PUT', 'PATCH'].includes(method) ? await readBody(request) : {};
    if (parts[0] === 'login') {
      if (body.key !== key) throw new Refusal(401, 'this key is not known');
      response.setHeader('set-cookie', 'mock-session=open; HttpOnly; SameSite=Strict; Path=/');
      return send(response, 204);
    }
    if (parts[0] === 'logout') {
      response.setHeader('set-cookie', 'mock-session=; Max-Age=0; Path=/');
      return send(response, 204);
    }
    if (parts[0] !== 'status' && !isOpen(request)) throw new Refusal(401, 'an API key is needed');
    const route = routes[`${method} ${parts[0]}`];
    if (!route) throw new Refusal(404, `no such route: ${method} ${url.pathname}`);
    return route(parts.slice(1), body, url.searchParams, response);
  }

  /** @param {import('node:http').IncomingMessage} request */
  function isOpen(request) {
    return key === null || (request.headers.cookie ?? '').includes('mock-session=open');
  }

  /** @param {string | undefined} id */
  function conversationOf(id) {
    const conversation = chats.conversations.get(id ?? '');
    if (!conversation || chats.deleted.has(conversation.id)) throw new Refusal(404, 'no such conversation');
    return conversation;
  }

  /** @param {string | undefined} id */
  function messageOf(id) {
    const message = chats.messages.get(id ?? '');
    if (!message) throw new Refusal(404, 'no such message');
    return message;
  }

  /** @type {Record<string, (parts: string[], body: any, query: URLSearchParams, response: Response) => void>} */
  const routes = {
    'GET status': (_parts, _body, _query, response) =>
      send(response, 200, {
        version: '0.1.0', default_model: 'smollm2:135m', memory_total: 16e9, memory_limit: 12e9, simd: 'avx512-vnni',
        threads: 2, needs_key: key !== null, role: isOpen(response.req) ? 'operator' : null,
      }), // prettier-ignore
    'GET models': ([name], _body, _query, response) => {
      if (name !== 'events') {
        const listed = [...models.list, ...models.adapted([...adapters.keys()])];
        return send(
          response,
          200,
          listed.map((one) => ({ ...one, promoted: improvements.promoted(one.name) })),
        );
      }
      startEvents(response);
      const listener = (/** @type {unknown} */ event) => writeEvent(response, 'pull', event);
      models.pulls().forEach(listener);
      models.on('pull', listener);
      response.on('close', () => models.off('pull', listener));
    },
    'POST models': ([name = ''], _body, _query, response) => {
      const model = models.find(name);
      if (!model) throw new Refusal(404, 'no such model');
      models.pull(model);
      send(response, 202);
    },
    'DELETE models': ([name = '', action], _body, _query, response) => {
      const model = models.find(name);
      if (!model) throw new Refusal(404, 'no such model');
      if (action === 'pull') models.cancel(model);
      else models.remove(model);
      send(response, 204);
    },
    'GET adapters': (_parts, _body, _query, response) =>
      send(response, 200, { served: [...adapters.values()], folders: ['poet'] }),
    'PUT adapters': ([name = ''], body, _query, response) => {
      const [model = '', adapter] = name.split('+');
      const folder = body.folder ?? adapter;
      if (!models.find(model)) throw new Refusal(404, 'no such model', 'model_not_found');
      if (folder !== 'poet') throw new Refusal(404, 'no such folder', 'adapter_not_found');
      adapters.set(name, { name, model, folder, users: 0, method: 'dpo', data: null });
      send(response, 200, adapters.get(name));
    },
    'DELETE adapters': ([name = ''], _body, _query, response) => {
      if (!adapters.delete(name)) throw new Refusal(404, 'no such adapter', 'adapter_not_found');
      send(response, 204);
    },
    'GET conversations': ([id, action], _body, query, response) => {
      if (id && action === 'trained') {
        if (!chats.conversations.has(id)) throw new Refusal(404, 'no such conversation');
        return send(response, 200, { improvements: feedback.trained.get(id) ?? [] });
      }
      if (id) {
        const choices = feedback.choices(id);
        return send(response, 200, { ...conversationOf(id), messages: chats.messagesOf(id), choices });
      }
      const list = chats.list();
      const before = query.get('before');
      const from = before === null ? 0 : list.findIndex((conversation) => conversation.id === before) + 1;
      send(response, 200, list.slice(from, from + Number(query.get('limit') ?? 40)));
    },
    'POST conversations': ([id, action], body, _query, response) => {
      if (!id) return send(response, 201, chats.create(body));
      if (action === 'restore') {
        chats.deleted.delete(id);
        return send(response, 200, conversationOf(id));
      }
      const conversation = conversationOf(id);
      if (action === 'continue') {
        const turns = chats.turns(body.from_id, body.parent_id);
        if (!turns) throw new Refusal(400, 'no turns of one branch');
        return send(response, 201, chats.continue(conversation, turns));
      }
      if (chats.count(body.parent_id, body.content) >= contextLength) {
        throw new Refusal(
          400,
          `the prompt does not fit into ${contextLength} tokens`,
          'context_length_exceeded',
        );
      }
      send(response, 201, chats.ask(conversation, body.parent_id, body.content));
    },
    'POST questions': (_parts, body, _query, response) => {
      if (chats.count(null, body.content) >= contextLength) {
        throw new Refusal(
          400,
          `the prompt does not fit into ${contextLength} tokens`,
          'context_length_exceeded',
        );
      }
      const conversation = chats.create(body);
      const { user, answer } = chats.ask(conversation, null, body.content);
      send(response, 201, { conversation, user, answer });
    },
    'GET trash': (_parts, _body, query, response) => {
      const list = chats.trash();
      const before = query.get('before');
      const from = before === null ? 0 : list.findIndex(({ id }) => id === before) + 1;
      send(response, 200, list.slice(from, from + Number(query.get('limit') ?? 50)));
    },
    'DELETE trash': ([id], _body, _query, response) => {
      if (id === undefined) {
        const ids = [...chats.deleted];
        ids.forEach((each) => chats.erase(each));
        return send(response, 200, { erased: ids.length });
      }
      if (!chats.deleted.has(id)) throw new Refusal(404, 'not in the trash');
      chats.erase(id);
      send(response, 204);
    },
    'PATCH conversations': ([id], body, _query, response) =>
      send(response, 200, chats.change(conversationOf(id), body)),
    'DELETE conversations': ([id], _body, _query, response) => {
      chats.deleted.add(conversationOf(id).id);
      send(response, 204);
    },
    'POST messages': ([id, action], body, _query, response) => {
      const message = messageOf(id);
      if (action === 'stop') send(response, 200, chats.stop(message));
      else {
        const name = String(body.model ?? '').replace(/\+base$/, '');
        if (name !== '' && !models.find(name)) throw new Refusal(404, 'no such model', 'model_not_found');
        send(response, 201, chats.regenerate(message, body.model ?? undefined));
      }
    },
    'GET messages': ([id], _body, query, response) => {
      const message = messageOf(id);
      const offset = Number(query.get('offset') ?? 0);
      startEvents(response);
      const text = [...message.content].slice(offset).join('');
      if (text !== '') writeEvent(response, 'delta', { offset, text });
      const finish = () => {
        writeEvent(response, 'done', message);
        response.end();
      };
      if (message.status !== 'generating') return finish();
      const listener = (/** @type {unknown} */ event) =>
        event === 'done' ? finish() : writeEvent(response, 'delta', event);
      chats.on(message.id, listener);
      response.on('close', () => chats.off(message.id, listener));
    },
    'PUT messages': ([id, action], body, _query, response) => {
      const message = messageOf(id);
      if (message.status === 'generating') throw new Refusal(409, 'it is being written', 'conflict');
      if (action === 'feedback') {
        const problem = feedback.problem(message, body);
        if (problem !== null) throw new Refusal(400, problem);
        return send(response, 200, feedback.judge(message, body));
      }
      const rejected = body.rejected.map(messageOf);
      for (const other of rejected) {
        const equal = other.content.trim() === message.content.trim();
        if (other.parent_id !== message.parent_id || equal)
          throw new Refusal(400, 'nothing to choose between');
      }
      send(response, 200, feedback.choose(message, rejected));
    },
    'DELETE messages': ([id, action], _body, _query, response) => {
      const message = messageOf(id);
      if (action === 'feedback') message.feedback = null;
      else feedback.forgetChoice(message.id);
      send(response, 204);
    },
    'GET feedback': ([part], _body, _query, response) => {
      if (part === 'consent') return send(response, 200, feedback.consent);
      if (part === 'statistics') return send(response, 200, feedback.statistics());
      if (part === 'erasure') return send(response, 200, feedback.erasure());
      send(response, 200, { consent: feedback.consent, rows: feedback.rows() });
    },
    'PUT feedback': (_parts, body, _query, response) => send(response, 200, feedback.allow(body.allowed)),
    'DELETE feedback': (_parts, _body, _query, response) => send(response, 200, feedback.erase()),
    'GET improvements': ([part], _body, query, response) =>
      send(response, 200, part === 'preview' ? improvements.preview(query) : improvements.list()),
    'POST improvements': ([id, action], body, _query, response) => {
      if (id === undefined) {
        if (improvements.running) throw new Refusal(409, 'one runs already', 'conflict');
        return send(response, 202, { id: improvements.start(body) });
      }
      const wanted = improvements.improvements.find((improvement) => improvement.id === id);
      if (action === 'discard') {
        if (!wanted) throw new Refusal(404, 'no such improvement', 'improvement_not_found');
        if (wanted.state !== 'interrupted') throw new Refusal(409, 'it has ended', 'conflict');
        improvements.discard(wanted);
        return send(response, 204);
      }
      if (wanted?.state !== 'passed') throw new Refusal(409, 'it has not passed its gate', 'conflict');
      if (wanted.compared_with_other && body.force !== true)
        throw new Refusal(409, 'something else answers now', 'compared_with_other');
      send(response, 200, improvements.promote(wanted));
    },
    'DELETE improvements': ([id], _body, _query, response) => {
      if (improvements.running?.id !== id) throw new Refusal(404, 'it does not run');
      improvements.cancel();
      send(response, 204);
    },
    'PUT promotions': ([model = ''], body, _query, response) => {
      if (!models.find(model)) throw new Refusal(404, 'no such model', 'model_not_found');
      if (body.folder !== 'poet') throw new Refusal(404, 'no such folder', 'adapter_not_found');
      send(response, 200, improvements.promoteFolder(model));
    },
    'POST promotions': ([model = ''], _body, _query, response) => {
      const promotion = improvements.rollBack(model);
      if (!promotion) throw new Refusal(409, 'the model itself answers already', 'nothing_earlier');
      send(response, 200, promotion);
    },
    'GET search': (_parts, _body, query, response) => {
      const offset = Number(query.get('offset') ?? 0);
      send(response, 200, chats.search(query.get('q') ?? '').slice(offset, offset + 50));
    },
    'POST context': (_parts, body, _query, response) =>
      send(response, 200, {
        prompt_tokens: chats.count(body.parent_id ?? null, body.content ?? '', body.from_id),
        context_length: contextLength,
      }),
    'POST prosody': (_parts, body, _query, response) => {
      if (typeof body.text !== 'string' || body.text.trim() === '')
        throw new Refusal(400, '`text` must not be empty');
      send(response, 200, prosodyOf(body.text));
    },
  };

  return new Promise((resolve) => {
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      const bound = typeof address === 'object' && address ? address.port : port;
      resolve({
        url: `http://127.0.0.1:${bound}`,
        chats,
        feedback,
        close: () =>
          new Promise((closed) => {
            chats.close();
            improvements.cancel();
            server.close(() => closed());
            server.closeAllConnections();
          }),
      });
    });
  });
}

/** @param {Request} request */
async function readBody(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text === '' ? {} : JSON.parse(text);
}

/** @param {Response} response @param {number} status @param {unknown} [body] */
function send(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

/** @param {Response} response */
function startEvents(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.flushHeaders();
}

/** A short completion, whatever was asked. @param {Response} response */
function complete(response) {
  startEvents(response);
  for (const content of ['They talked ', 'about gold.']) {
    response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`);
  }
  response.end('data: [DONE]\n\n');
}

/** @param {Response} response @param {string} event @param {unknown} data */
function writeEvent(response, event, data) {
  response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

/** @param {Response} response @param {string} path */
async function sendFile(response, path) {
  const name = normalize(path === '/' ? '/index.html' : path);
  try {
    const content = await readFile(join(DIST, name));
    response.writeHead(200, {
      'content-type': TYPES[extname(name)] ?? 'application/octet-stream',
      'content-security-policy': POLICY,
    });
    response.end(content);
  } catch {
    send(response, 404, {
      error: { message: 'no such file', type: 'invalid_request_error', param: null, code: null },
    });
  }
}
