/**
 * `npm run test:guest [-- --only SUBJECT] [--kernel stable|backports] [--speed] [--require]
 * [--verbose]`: boots Linux in QEMU and checks served devices from inside the guest, and the
 * package as a user of the guest's own VFIO. Subjects are edu, kernel, host, nvme, devices,
 * endpoint, selftests: Linux's own tests of VFIO, under `vfio exec`; and net: four guests with
 * network cards. Network cards take minutes: net, and what selftests and kernel do with a card, run
 * only when they are asked for by name.
 *
 * It needs no installed package: apt fetches QEMU, the kernel and tools as Debian packages into a
 * cache (vfio-ts/guest in $XDG_CACHE_HOME or ~/.cache). Where that is not possible it prints the
 * reason and exits with 0, or with --require as a failure.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import { cacheFolder } from '../../src/sys/cache-folder.ts';
import { visitDevices } from './devices.ts';
import { DiskTools } from './disk-tools.ts';
import { visitCard, visitEdu } from './edu.ts';
import { visitEndpoint } from './endpoint.ts';
import { GuestTools } from './guest-tools.ts';
import { visitHost } from './host.ts';
import { visitKernel } from './kernel.ts';
import { ModuleBuild } from './module-build.ts';
import { visitNet } from './net.ts';
import { NetTools } from './net-tools.ts';
import { visitNvme } from './nvme.ts';
import { visitSelftests } from './selftests.ts';
import { endServers } from './served-device.ts';
import { endGuests } from './virtual-machine.ts';
import { Visits } from './visits.ts';

const options = parsed();

function parsed() {
  try {
    return parseArgs({
      options: {
        kernel: { type: 'string', default: 'backports' },
        only: { type: 'string' },
        require: { type: 'boolean', default: false },
        speed: { type: 'boolean', default: false },
        verbose: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return usage((error as Error).message);
  }
}

const subjects = ['edu', 'kernel', 'host', 'nvme', 'devices', 'endpoint', 'net', 'selftests'];

function usage(what: string): never {
  console.error(what);
  console.error(
    'usage: npm run test:guest -- [--only edu|kernel|host|nvme|devices|endpoint|net|selftests] [--kernel stable|backports] [--speed] [--require] [--verbose]',
  );
  process.exit(2);
}

async function main(): Promise<Visits> {
  const { kernel, only } = options;
  if (kernel !== 'stable' && kernel !== 'backports') return usage(`--kernel is ${kernel}; it must be stable or backports`);
  if (only !== undefined && !subjects.includes(only)) return usage(`--only is ${only}; it must be ${subjects.join(' or ')}`);
  const cache = join(cacheFolder('the packages of the guest tests'), 'guest');
  const visits = new Visits(GuestTools.prepare(cache, kernel), options);
  using build = new ModuleBuild(cache, visits.tools.kernelVersion);
  console.log(`guest tests: QEMU ${visits.tools.qemuVersion}, Linux ${visits.tools.kernelVersion}`);
  // A subject that is asked for by name is whole.
  const cards = only !== undefined;
  const wanted = (subject: string) => only === undefined || only === subject;
  if (wanted('edu')) {
    await visits.withServed(['edu'], (served) => visitEdu(visits, served));
    await visits.withServed([join(import.meta.dirname, 'card.ts')], (served) => visitCard(visits, served));
  }
  if (wanted('devices')) await visitDevices(visits);
  if (wanted('endpoint')) await visitEndpoint(visits, build);
  if (only === 'net') await visitNet(visits, GuestTools.prepare(cache, kernel, 'amd64'), NetTools.prepare(cache), { speed: options.speed });
  if (wanted('selftests')) await visitSelftests(visits, build, { cards });
  if (wanted('kernel') || wanted('host') || wanted('nvme')) {
    const tools = DiskTools.prepare(cache);
    if (wanted('kernel')) await visitKernel(visits, tools, build, { speed: options.speed, cards });
    if (wanted('host')) await visitHost(visits, tools);
    if (wanted('nvme')) await visitNvme(visits, tools, { speed: options.speed });
  }
  return visits;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    endGuests();
    endServers();
    process.exit(130);
  });
}

try {
  const { passed, failed } = await main();
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.log(`
**************************************************************************
  The guest tests were SKIPPED: ${error.message}
  Nothing was checked in a real guest, or not all.
**************************************************************************`);
  process.exit(options.require ? 1 : 0);
}
