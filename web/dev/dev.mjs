// `npm run dev`: the page with hot reload, against the mock server; or against a running program with
// ZHENJIN_DEV_API=http://127.0.0.1:8080.
import { createServer } from 'vite';
import { startMockServer } from './mock-server.mjs';

if (!process.env.ZHENJIN_DEV_API) {
  const mock = await startMockServer({ port: 4180 });
  console.log(`mock server: ${mock.url}`);
}
const vite = await createServer();
await vite.listen();
vite.printUrls();
