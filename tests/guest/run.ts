/**
 * `npm run test:guest [-- --kernel stable|backports] [--require] [--verbose]`: boots Linux in QEMU and checks from inside the guest that served devices
 * are what they should be. Needs no installed package: QEMU, the kernel and tools are fetched as Debian packages into a cache ($XDG_CACHE_HOME/vfio-ts,
 * else .cache/guest of the checkout). Where that is not possible it says why and ends well, or with --require badly.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Check } from './checks.ts';
import { eduChecks, physicalChecks } from './edu-checks.ts';
import type { Facts } from './facts.ts';
import { GuestTools } from './guest-tools.ts';
import { Unavailable } from './unavailable.ts';
import { type Boot, boot, endGuests } from './virtual-machine.ts';

const { values: options } = parseArgs({
  options: {
    kernel: { type: 'string', default: 'backports' },
    require: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});

const tally = { passed: 0, failed: 0 };

function judge(who: string, checks: readonly Check[], facts: Facts): void {
  for (const { title, run } of checks) {
    try {
      run(facts);
      tally.passed++;
      console.log(`ok    ${who}: ${title}`);
    } catch (error) {
      tally.failed++;
      console.log(`FAIL  ${who}: ${title}\n      ${(error as Error).message}`);
    }
  }
}

function report(what: string, { facts, complaints, milliseconds }: Boot): void {
  console.log(`\n# ${what}: ${(milliseconds / 1000).toFixed(1)} s`);
  if (!options.verbose) return;
  for (const subject of ['guest', 'qemu', 'served']) {
    for (const key of facts.keys(subject, '')) console.log(`  ${subject} ${key} ${facts.get(subject, key).replaceAll('\n', '\n    ')}`);
  }
  if (complaints !== '') console.log(`  QEMU said:\n${complaints}`);
  if (facts.words !== '') console.log(`  besides:\n${facts.words}`);
}

const script = (name: string) => readFileSync(join(import.meta.dirname, name), 'utf8');

const kernelIsWell: Check = {
  title: 'the guest kernel had no trouble',
  run(facts) {
    if (facts.has('guest', 'kernel.trouble')) throw new Error(facts.get('guest', 'kernel.trouble'));
    if (facts.get('guest', 'exit') !== '0') throw new Error(`the scenario ended with ${facts.get('guest', 'exit')}: ${facts.words}`);
  },
};

async function main(): Promise<void> {
  const { kernel } = options;
  if (kernel !== 'stable' && kernel !== 'backports') throw new Error(`--kernel is ${kernel}; it must be stable or backports`);
  const root = join(import.meta.dirname, '../..');
  const { XDG_CACHE_HOME } = process.env;
  const tools = GuestTools.prepare(XDG_CACHE_HOME ? join(XDG_CACHE_HOME, 'vfio-ts') : join(root, '.cache/guest'), kernel);
  console.log(`guest tests: QEMU ${tools.qemuVersion}, Linux ${tools.kernelVersion}`);

  const qemu = ['-device', 'edu,addr=4'];
  const kernelWords = ['edu.qemu=0000:00:04.0'];
  const withIommu = await boot(tools, { scenario: script('edu.sh'), iommu: true, qemu, kernel: kernelWords });
  report('a guest with an IOMMU', withIommu);
  judge('guest', [kernelIsWell], withIommu.facts);
  judge("QEMU's edu", eduChecks('qemu'), withIommu.facts);

  const without = await boot(tools, { scenario: script('edu-physical.sh'), iommu: false, qemu, kernel: kernelWords });
  report('a guest without an IOMMU', without);
  judge('guest', [kernelIsWell], without.facts);
  judge("QEMU's edu", physicalChecks('qemu'), without.facts);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    endGuests();
    process.exit(130);
  });
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.log(`
**************************************************************************
  The guest tests were SKIPPED: ${error.message}
  Nothing was checked in a real guest.
**************************************************************************`);
  process.exit(options.require ? 1 : 0);
}
console.log(`\n${tally.passed} passed, ${tally.failed} failed`);
process.exitCode = tally.failed === 0 ? 0 : 1;
