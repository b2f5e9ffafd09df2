import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (file: string) => fileURLToPath(new URL(file, import.meta.url));

export default defineConfig({
  // Tests import the sources. A test that runs the command runs dist/, which the global setup
  // builds.
  resolve: {
    alias: [
      { find: /^vfio-ts$/, replacement: source('src/doors/index.ts') },
      { find: /^vfio-ts\/([a-z]+)$/, replacement: source('src/doors/$1.ts') },
    ],
  },
  test: {
    globalSetup: ['tests/build.ts'],
    include: ['src/**/*.test.ts', 'tests/**/*.test.ts', 'examples/**/*.test.ts'],
    setupFiles: ['tests/setup.ts'],
    // A few tests count this process's descriptors and heap, so test files do not share a process.
    pool: 'forks',
    maxWorkers: '100%',
    // A machine may have much else to do. Nothing here asserts a time.
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
});
