// End-to-end specs: a real Chromium against the mock server, or against the real program when ZHENJIN_BIN is set.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Browser and model share the cores: once more before a spec counts as failed.
    retry: 1,
    environment: 'node',
    include: ['e2e/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 120_000,
  },
});
