// How the chat page is built. Everything is a file of our own origin: nothing is inlined as a data: address and no
// inline script or style is made, so that the page runs under `default-src 'self'` without exceptions.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';
import { thirdPartyLicences } from './licences.ts';

/** KaTeX lists each font as woff2, woff and ttf; every browser we support reads woff2, so the others stay out of the binary. */
function onlyWoff2(): Plugin {
  return {
    name: 'only-woff2',
    enforce: 'pre',
    transform(code, id) {
      if (!id.includes('katex') || !id.split('?')[0]?.endsWith('.css')) return null;
      return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\(["'](?:woff|truetype)["']\)/g, '');
    },
  };
}

export default defineConfig({
  // Addresses are relative to the page, so that a proxy can serve it below a folder of its own.
  base: './',
  plugins: [onlyWoff2(), svelte(), thirdPartyLicences()],
  resolve: { alias: { $lib: fileURLToPath(new URL('./src/lib', import.meta.url)) } },
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': process.env.ZHENJIN_DEV_API ?? 'http://127.0.0.1:4180' },
  },
});
