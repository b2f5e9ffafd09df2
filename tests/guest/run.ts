/**
 * `npm run test:guest [-- --kernel stable|backports] [--require] [--verbose]`: boots Linux in QEMU and checks from inside the guest that served devices
 * are what they should be. Needs no installed package: QEMU, the kernel and tools are fetched as Debian packages into a cache ($XDG_CACHE_HOME/vfio-ts,
 * else .cache/guest of the checkout). Where that is not possible it says why and ends well, or with --require badly.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cardChecks } from './card-checks.ts';
import type { Check } from './checks.ts';
import { eduChecks, likenessChecks, physicalChecks, rebootChecks } from './edu-checks.ts';
import { Facts } from './facts.ts';
import { GuestTools } from './guest-tools.ts';
import { endServers, ServedDevice } from './served-device.ts';
import { Unavailable } from './unavailable.ts';
import { type BootOptions, boot, endGuests } from './virtual-machine.ts';

const { values: options } = parseArgs({
  options: {
    kernel: { type: 'string', default: 'backports' },
    require: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});

const tally = { passed: 0, failed: 0 };

/** Checks by who they are about. */
type Verdicts = Readonly<Record<string, readonly Check[]>>;

function judge(verdicts: Verdicts, facts: Facts): void {
  for (const [who, checks] of Object.entries(verdicts)) {
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
}

const kernelIsWell: Check = {
  title: 'the kernel had no trouble, the scenario came to its end',
  run(facts) {
    if (facts.has('guest', 'kernel.trouble')) throw new Error(facts.get('guest', 'kernel.trouble'));
    if (facts.get('guest', 'exit') !== '0') throw new Error(`the scenario ended with ${facts.get('guest', 'exit')}: ${facts.words}`);
  },
};

function mustBe(title: string, is: unknown, should: unknown): Check {
  return {
    title,
    run() {
      if (is !== should) throw new Error(`it is ${is}, should be ${should}`);
    },
  };
}

/** One boot and its verdicts. A guest that gives none is a failure too, and the next one gets its turn. */
async function visit(
  title: string,
  tools: GuestTools,
  script: string,
  how: Omit<BootOptions, 'scenario'>,
  verdicts: Verdicts,
): Promise<void> {
  console.log(`\n# ${title}`);
  try {
    const scenario = readFileSync(join(import.meta.dirname, script), 'utf8');
    const { facts, complaints, milliseconds } = await boot(tools, { ...how, scenario });
    if (options.verbose) {
      for (const [subject, key, value] of facts) console.log(`  ${subject} ${key} ${value.replaceAll('\n', '\n    ')}`);
      console.log(`  QEMU said: ${complaints}\n  besides: ${facts.words}`);
    }
    judge({ guest: [kernelIsWell], ...verdicts }, facts);
    console.log(`      ${(milliseconds / 1000).toFixed(1)} s`);
  } catch (error) {
    tally.failed++;
    console.log(`FAIL  ${(error as Error).message}`);
  }
}

/** Serve `model` while `visits` are made, and see that nothing is left of them. */
async function withServed(model: string, visits: (served: ServedDevice) => Promise<void>): Promise<void> {
  const served = await ServedDevice.start(model);
  try {
    const idle = served.descriptors();
    await visits(served);
    const left = (await served.settledDescriptors(idle)) - idle;
    const { end, leftSocket } = await served.stop();
    console.log(`\n# the server of these guests`);
    if (options.verbose) console.log(served.said);
    const checks = [
      mustBe('has no descriptor left of them', left, 0),
      mustBe('ends well at SIGTERM', end, 'status 0'),
      mustBe('leaves no socket file', leftSocket, false),
    ];
    judge({ server: checks }, new Facts());
  } finally {
    await served.stop();
  }
}

async function visitEdu(tools: GuestTools, served: ServedDevice): Promise<void> {
  const machine = {
    qemu: ['-device', 'edu,addr=4', ...served.qemuDevice({ addr: '9' })],
    kernel: ['edu.qemu=0000:00:04.0', 'edu.served=0000:00:09.0'],
  };
  await visit(
    'edu, in a guest with an IOMMU',
    tools,
    'edu.sh',
    { iommu: true, ...machine },
    {
      "QEMU's": eduChecks('qemu'),
      served: [...eduChecks('served'), ...likenessChecks('served', 'qemu')],
    },
  );
  await visit(
    'edu, in a guest without an IOMMU',
    tools,
    'edu-physical.sh',
    { iommu: false, ...machine },
    {
      "QEMU's": physicalChecks('qemu'),
      served: physicalChecks('served'),
    },
  );
  await visit(
    'edu, in a guest whose memory is reached by messages',
    tools,
    'edu.sh',
    { iommu: true, sharedMemory: false, ...machine },
    {
      served: eduChecks('served'),
    },
  );
  let boots = 0;
  const restarting: Pick<BootOptions, 'reboots' | 'onFact'> = {
    reboots: true,
    onFact(_subject, key, value, guest) {
      if (key !== 'asks') return;
      guest.send(value === 'which-boot' ? (boots++ === 0 ? 'first' : 'second') : 'yes');
    },
  };
  await visit(
    'edu, in a guest that restarts while drivers are at work',
    tools,
    'edu-reboot.sh',
    { iommu: true, ...restarting, ...machine },
    {
      "QEMU's": rebootChecks('qemu'),
      served: rebootChecks('served'),
    },
  );
}

async function visitCard(tools: GuestTools, served: ServedDevice): Promise<void> {
  const qemu = ['-device', 'pcie-root-port,id=root1,chassis=1', ...served.qemuDevice({ bus: 'root1' })];
  await visit('a PCI Express device from a file', tools, 'card.sh', { iommu: true, qemu }, { served: cardChecks('card') });
}

async function main(): Promise<void> {
  const { kernel } = options;
  if (kernel !== 'stable' && kernel !== 'backports') throw new Error(`--kernel is ${kernel}; it must be stable or backports`);
  const root = join(import.meta.dirname, '../..');
  const { XDG_CACHE_HOME } = process.env;
  const tools = GuestTools.prepare(XDG_CACHE_HOME ? join(XDG_CACHE_HOME, 'vfio-ts') : join(root, '.cache/guest'), kernel);
  console.log(`guest tests: QEMU ${tools.qemuVersion}, Linux ${tools.kernelVersion}`);
  await withServed('edu', (served) => visitEdu(tools, served));
  await withServed(join(import.meta.dirname, 'card.ts'), (served) => visitCard(tools, served));
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
