import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (file: string) => fileURLToPath(new URL(file, import.meta.url));

export default defineConfig({
  // Tests are of the sources; only what runs the command has what was built of them, by the global setup.
  resolve: {
    alias: [
      { find: /^vfio-ts$/, replacement: source('src/index.ts') },
      { find: /^vfio-ts\/machine$/, replacement: source('src/api/machine.ts') },
    ],
  },
  test: {
    globalSetup: ['tests/build.ts'],
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
