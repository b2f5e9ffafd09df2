import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'tests/**/*.test.ts'],
    setupFiles: ['tests/setup.ts'],
    // One process per core: a few tests count this process's descriptors and heap, so files do not share a process.
    pool: 'forks',
    maxWorkers: '100%',
    // A machine may have much else to do. Nothing here asserts a time.
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
});
