import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'tests/**/*.test.ts'],
    setupFiles: ['tests/setup.ts'],
    // One process per core: a few tests count this process's descriptors and heap, so files do not share a process.
    pool: 'forks',
    testTimeout: 20_000,
  },
});
