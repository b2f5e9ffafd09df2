/**
 * Linux's own tests of VFIO, tools/testing/selftests/vfio, built statically and unmodified, on
 * models under `vfio exec`: each that passes on the real kernel with QEMU's device
 * (tests/kernel-answers/linux-7.3/selftest-results.tsv) passes here.
 */
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { Unavailable } from '../../src/api/linux/unavailable.ts';
import { VfioProcess } from '../kit/vfio-process.ts';
import type { Check } from './checks.ts';
import { Facts } from './facts.ts';
import type { ModuleBuild } from './module-build.ts';
import type { Visits } from './visits.ts';

/** Linux's tests, and the headers to which links of theirs lead. */
const SOURCES = [
  'tools/testing/selftests/vfio',
  'tools/testing/selftests/lib.mk',
  'tools/testing/selftests/kselftest.h',
  'tools/testing/selftests/kselftest_harness.h',
  'tools/include',
  'tools/arch/x86/include',
  'scripts/subarch.include',
  'include/linux/pci_ids.h',
  'drivers/dma/idxd/registers.h',
  'drivers/dma/ioat/hw.h',
  'drivers/dma/ioat/registers.h',
  'drivers/net/ethernet/intel/igb/e1000_82575.h',
  'drivers/net/ethernet/intel/igb/e1000_defines.h',
  'drivers/net/ethernet/intel/igb/e1000_regs.h',
];

/** Devices by their names in the table of results, and what `vfio exec` makes of them. */
const DEVICES: Readonly<Record<string, string>> = { edu: 'edu', nvme: 'nvme,size=64M,vfs=2', igb: '82576' };

type Result = 'pass' | 'skip' | 'FAIL';

/** One line of the table. */
interface Row {
  readonly device: string;
  readonly program: string;
  readonly result: Result;
  readonly test: string;
}

/** The results on the real kernel. */
function realResults(): readonly Row[] {
  const file = join(import.meta.dirname, '../kernel-answers/linux-7.3/selftest-results.tsv');
  const [, ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const [device, program, result, test] = line.split('\t') as [string, string, Result, string];
    return { device, program, result, test };
  });
}

/** The programs, from the cache where they were built before. @throws Unavailable */
function programs(build: ModuleBuild): string {
  const built = join(build.cache, `selftests-${build.kernel}`);
  if (existsSync(built)) return built;
  const name = 'selftests';
  build.source(name, SOURCES);
  const output = build.makePrograms(name, SOURCES[0]!, [
    'ARCH=x86_64',
    'KHDR_INCLUDES=',
    'EXTRA_CFLAGS=-static',
    "LDLIBS='-luuid -static'",
  ]);
  const unfinished = mkdtempSync(join(build.cache, 'selftests-'));
  chmodSync(unfinished, 0o755);
  for (const file of readdirSync(output).filter((each) => each.endsWith('_test'))) copyFileSync(join(output, file), join(unfinished, file));
  renameSync(unfinished, built);
  return built;
}

/** Results by test: a test that the computer has no huge pages for is `skip`. */
function resultsIn(output: string): ReadonlyMap<string, Result> {
  const lines = output.matchAll(/^(ok|not ok) \d+ (\S+)(?: # (SKIP))?/gm);
  return new Map(
    [...lines].map(([, verdict, test, skipped]) => [test!, verdict !== 'ok' ? 'FAIL' : skipped === undefined ? 'pass' : 'skip']),
  );
}

/** One program on one device. */
function check(program: string, rows: readonly Row[], output: string): Check {
  const results = resultsIn(output);
  const skipped = rows.filter(({ result, test }) => result === 'pass' && results.get(test) === 'skip');
  return {
    title: `${program}: ${rows.length} tests as on Linux${skipped.length === 0 ? '' : `, but ${skipped.length} for want of huge pages`}`,
    run() {
      const wrong = rows
        .filter(({ result }) => result === 'pass')
        .filter((row) => results.get(row.test) !== 'pass' && !(skipped.includes(row) && row.test.includes('hugetlb')))
        .map(({ test }) => `${test}: ${results.get(test) ?? 'no result'}`);
      if (wrong.length > 0) throw new Error(`${wrong.join(', ')}\n${output.trim().split('\n').slice(-8).join('\n')}`);
    },
  };
}

/** @param cards also on the network card, which takes minutes */
export async function visitSelftests(visits: Visits, build: ModuleBuild, { cards }: { readonly cards: boolean }): Promise<void> {
  let folder: string;
  try {
    folder = programs(build);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n*** Linux's selftests/vfio were not tried: ${error.message} ***`);
    return;
  }
  const real = realResults();
  for (const [device, model] of Object.entries(DEVICES)) {
    if (device === 'igb' && !cards) continue;
    console.log(`\n# Linux's selftests/vfio on ${model}, under vfio exec`);
    const before = performance.now();
    const wanted = real.filter((row) => row.device === device);
    const checks: Check[] = [];
    for (const program of new Set(wanted.map((row) => row.program))) {
      const rows = wanted.filter((row) => row.program === program);
      const { stdout, stderr } = await VfioProcess.run('exec', '--device', model, '--', join(folder, program), '0000:01:00.0');
      checks.push(check(program, rows, `${stdout}${stderr}`));
    }
    visits.judge({ [device]: checks }, new Facts());
    console.log(`      ${((performance.now() - before) / 1000).toFixed(1)} s`);
  }
}
