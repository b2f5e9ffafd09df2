/**
 * `npm run test:guest [-- --kernel stable|backports] [--require] [--verbose]`: boots Linux in QEMU and checks from inside the guest that served devices
 * are what they should be. Needs no installed package: QEMU, the kernel and tools are fetched as Debian packages into a cache ($XDG_CACHE_HOME/vfio-ts,
 * else .cache/guest of the checkout). Where that is not possible it says why and ends well, or with --require badly.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Check } from './checks.ts';
import { eduChecks, likenessChecks, physicalChecks, rebootChecks } from './edu-checks.ts';
import type { Facts } from './facts.ts';
import { GuestTools } from './guest-tools.ts';
import { endServers, ServedDevice } from './served-device.ts';
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

  const served = await ServedDevice.start('edu');
  try {
    const idle = served.descriptors();
    const machine = {
      qemu: ['-device', 'edu,addr=4', ...served.qemuDevice('9')],
      kernel: ['edu.qemu=0000:00:04.0', 'edu.served=0000:00:09.0'],
    };

    const withIommu = await boot(tools, { scenario: script('edu.sh'), iommu: true, ...machine });
    report('a guest with an IOMMU', withIommu);
    judge('guest', [kernelIsWell], withIommu.facts);
    judge("QEMU's edu", eduChecks('qemu'), withIommu.facts);
    judge('served edu', [...eduChecks('served'), ...likenessChecks('served', 'qemu')], withIommu.facts);

    const without = await boot(tools, { scenario: script('edu-physical.sh'), iommu: false, ...machine });
    report('a guest without an IOMMU, the same server', without);
    judge('guest', [kernelIsWell], without.facts);
    judge("QEMU's edu", physicalChecks('qemu'), without.facts);
    judge('served edu', physicalChecks('served'), without.facts);

    let boots = 0;
    const restarted = await boot(tools, {
      scenario: script('edu-reboot.sh'),
      iommu: true,
      reboots: true,
      ...machine,
      onFact(_subject, key, value, guest) {
        if (key === 'asks' && value === 'which-boot') guest.send(boots++ === 0 ? 'first' : 'second');
      },
    });
    report('a guest that restarts while drivers are at work', restarted);
    judge('guest', [kernelIsWell], restarted.facts);
    judge("QEMU's edu", rebootChecks('qemu'), restarted.facts);
    judge('served edu', rebootChecks('served'), restarted.facts);

    const left = (await served.settledDescriptors(idle)) - idle;
    const { end, leftSocket } = await served.stop();
    console.log('\n# the server');
    if (options.verbose) console.log(served.said);
    judge(
      'server',
      [
        mustBe('has no descriptor left of its guests', left, 0),
        mustBe('ends well at SIGTERM', end, 'status 0'),
        mustBe('leaves no socket file', leftSocket, false),
      ],
      withIommu.facts,
    );
  } finally {
    await served.stop();
  }
}

function mustBe(title: string, is: unknown, should: unknown): Check {
  return {
    title,
    run() {
      if (is !== should) throw new Error(`it is ${is}, should be ${should}`);
    },
  };
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    endGuests();
    endServers();
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
