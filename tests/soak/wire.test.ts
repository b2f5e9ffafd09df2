/** A short run of the soak over the wire: it checks that the long run works. */
import { expect, it } from 'vitest';
import { wire } from './wire.ts';

it('fuzzed streams, attach/detach cycles and killed clients leave a server as it was', async () => {
  const report = await wire({ seed: 3 }, { frames: 6000, cycles: 20, kills: 20 }, { frames: 3000, cycles: 10, kills: 10 });
  expect(report).toMatch(/^60\d\d frames in .*, 20 attach\/detach cycles, 20 clients killed/);
});
