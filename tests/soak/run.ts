/** `npm run soak [-- --minutes 10] [--seed N]`: the properties of tests/properties, longer sequences, until the time is up. */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { lifecycle } from '../properties/lifecycle.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '2' }, seed: { type: 'string' } } });
const minutes = Number(values.minutes);
let seed = values.seed === undefined ? Date.now() & 0x7fff_ffff : Number(values.seed);
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error('usage: npm run soak -- [--minutes N] [--seed N]');
  process.exit(2);
}

const properties = { lifecycle: lifecycle(400) };
const end = performance.now() + minutes * 60_000;
let runs = 0;
process.on('SIGINT', () => process.exit(130));
while (performance.now() < end) {
  for (const [name, property] of Object.entries(properties)) {
    try {
      fc.assert(property as fc.IProperty<unknown>, { numRuns: 200, seed });
    } catch (error) {
      console.error(`soak: '${name}' failed after ${runs} sequences, seed ${seed}`);
      console.error(error);
      process.exit(1);
    }
    runs += 200;
  }
  seed = (seed + 1) & 0x7fff_ffff;
}
console.log(`soak: ${runs} sequences of up to 400 steps in ${minutes} minutes, all rules held, nothing left over`);
