/**
 * Sequences of calls on devices by Linux's VFIO, and on the engine in this process. Prints the
 * first difference, made as small as can be, or the number of sequences. VIA is group or cdev; RUNS
 * and SEED choose the sequences. With the argument `careless` the device is an edu, else one of
 * many-bars-model.ts.
 */
import fc from 'fast-check';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { KernelDevice } from '../../src/kernel/device.ts';
import { calls, here, outcome, User } from '../properties/device-calls.ts';
import { Careless, carelessCalls, carelessOutcome, eduHere } from '../properties/misused-calls.ts';

const { VIA, RUNS = '100', SEED } = process.env;
const via = VIA as 'group' | 'cdev';
const open = (bdf: string) => KernelDevice.open({ kind: 'pci', bdf }, { via });
const BDF = '0000:00:04.0';

/** BARs of memory keep their bytes through a reset. */
function forgetBars(): void {
  using device = open(BDF);
  device.region(RegionIndex.CONFIG).write16(4, 2);
  for (const bar of [1, 4]) device.region(bar).write(0, new Uint8Array(device.region(bar).info.size));
}

/** This edu has no reset. */
function forgetEdu(): void {
  using device = open(BDF);
  device.region(RegionIndex.CONFIG).write16(4, 2);
  const registers = device.region(0);
  for (const [offset, value] of [
    [4, 0xffff_ffff],
    [0x20, 0],
    [0x64, 0xffff_ffff],
  ] as const)
    registers.write32(offset, value);
  for (const offset of [0x80, 0x88, 0x90]) registers.write64(offset, 0n);
}

const json = (value: unknown) => JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : each));

/** No view shows registers of hardware, so a mapping of them has no `memory`. */
function comparable(what: string, answer: string): string {
  return /^map .* of region /.test(what) ? answer.replace(/,(\d+|null)\]$/, ']') : answer;
}

interface Words {
  readonly what: string;
}

function compare<C extends Words>(sequence: readonly C[], expect: (call: C) => unknown, get: (call: C) => unknown): void {
  for (const [i, call] of sequence.entries()) {
    const { what } = call;
    // The IOMMU below an iommufd of the virtual kernel keeps no log.
    if (via === 'cdev' && what.startsWith('dirty')) continue;
    const expected = json(expect(call));
    // The program has the memory itself (docs/kernel-differences.md).
    if (expected === '"BusError"' && /^mapping of BAR [14]:/.test(what)) continue;
    const got = json(get(call));
    if (comparable(what, expected) !== comparable(what, got))
      throw new Error(`call ${i}, ${what}: the engine ${expected}, the kernel ${got}`);
  }
}

const anyCalls = fc.property(fc.array(calls, { minLength: 1, maxLength: 60 }), (sequence) => {
  forgetBars();
  using local = here();
  using remote = new User(open(BDF), null);
  compare(
    sequence,
    (call) => outcome(call, local),
    (call) => outcome(call, remote),
  );
});
const careless = fc.property(fc.array(carelessCalls, { minLength: 1, maxLength: 40 }), (sequence) => {
  forgetEdu();
  using local = eduHere();
  using remote = new Careless(open(BDF));
  compare(
    sequence,
    (call) => carelessOutcome(call, local),
    (call) => carelessOutcome(call, remote),
  );
});

function check(property: typeof anyCalls | typeof careless): object {
  const details = fc.check(property as typeof careless, { numRuns: Number(RUNS), ...(SEED === undefined ? {} : { seed: Number(SEED) }) });
  const { failed, counterexample, errorInstance, numRuns, seed } = details;
  if (!failed) return { runs: numRuns };
  return { seed, error: String((errorInstance as Error | null)?.message), calls: counterexample?.[0].map(({ what }) => what) };
}

console.log(JSON.stringify(check(process.argv[2] === 'careless' ? careless : anyCalls)));
