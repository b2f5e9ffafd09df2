/** A short run of the soak of hostile users of a network card. */
import { expect, it } from 'vitest';
import { hostile } from './hostile.ts';

it('house: a hostile guest reaches no memory and no frame of others on a shared card', async () => {
  expect(await hostile({ seed: 7 }, 600)).toMatch(/nothing was touched$/);
}, 120_000);
