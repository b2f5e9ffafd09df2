import fc from 'fast-check';
import { afterAll, describe, it } from 'vitest';
import { storageKinds, storageProperty } from './storage.ts';

const kinds = storageKinds();
afterAll(() => {
  for (const kind of kinds) kind[Symbol.dispose]();
});

describe('a storage is an array of bytes that remembers', () => {
  for (const { name, make } of kinds) {
    it(name, async () => {
      await fc.assert(storageProperty(make, 80), { numRuns: 60 });
    });
  }
});
