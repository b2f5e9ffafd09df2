/**
 * Each call of the client of Linux's VFIO fails once, in turn: the error names device, call and
 * remedy, nothing stays open, and the next round works.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ErrnoName, VfioError } from '../../src/base/errno.ts';
import { FaultPlan } from '../../src/engine/fault-plan.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { BundleFolder } from '../conformance/standalone/bundle.ts';
import { runWith } from '../exec/programs.ts';
import { programsUseVfio } from '../kit/program-cases.ts';
import { MARK, type Round } from './fault-rounds.ts';

/** The first round has no fault; round n fails the n-th call of the first one. */
class EachCall extends FaultPlan {
  readonly calls: string[] = [];
  readonly #errno: ErrnoName;
  #round = -1;
  #at = 0;

  constructor(errno: ErrnoName) {
    super();
    this.#errno = errno;
  }

  /** Steps of the engine have a dot in their name. */
  override step(name: string): void {
    if (name === MARK) {
      this.#round++;
      this.#at = 0;
      if (this.#round > this.calls.length + 1) throw new VfioError('ENOSPC', 'there are no more rounds');
    } else if (!name.includes('.')) {
      if (this.#round === 0) this.calls.push(name);
      else if (++this.#at === this.#round) throw new VfioError(this.#errno, `call ${this.#at} fails: ${name}`);
    }
  }
}

using folder = new BundleFolder();
const program = programsUseVfio ? await folder.add(join(import.meta.dirname, 'fault-story.ts')) : '';

async function run(via: string): Promise<{ calls: readonly string[]; rounds: readonly Round[] }> {
  const faults = new EachCall('ENOMEM');
  const port = (at: string) => ({ at, kind: 'root-port' as const, devices: [{ at: '00.0', model: edu(), driver: 'vfio-pci' }] });
  using machine = new Machine({ devices: [port('01.0'), port('02.0')] }, { allocate: MemfdMemory.allocate, faults });
  const { lines } = await runWith({ environment: { ...process.env, VIA: via } }, machine, process.execPath, program);
  return { calls: faults.calls, rounds: lines.map((line) => JSON.parse(line) as Round) };
}

/** Calls that are no requests, as errors have them. */
const words: Readonly<Record<string, string>> = { open: 'opened', read: 'read', write: 'writ', mmap: 'mmap' };
/** Answers that the client does without. */
const optional = new Set(['VFIO_CHECK_EXTENSION', 'IOMMU_GET_HW_INFO']);

for (const via of programsUseVfio ? ['group', 'cdev'] : []) {
  const { calls, rounds } = await run(via);
  describe(`by ${via}`, () => {
    it('the story has an end before and after the faults', () => {
      expect(calls.length).toBeGreaterThan(40);
      expect([rounds.length, rounds[0]!.error, rounds.at(-1)!.error]).toEqual([calls.length + 2, null, null]);
    });

    it('S2-27 nothing stays open, whichever call fails', () => {
      for (const [i, { left }] of rounds.entries())
        expect([i, calls[i - 1], left]).toEqual([i, calls[i - 1], { descriptors: 0, mappings: 0 }]);
    });

    it('E-01 the error names the device, or its node, the call and a remedy', () => {
      for (const [i, call] of calls.entries()) {
        const { error } = rounds[i + 1]!;
        if (error === null && optional.has(call)) continue;
        expect([i, call, error]).toEqual([
          i,
          call,
          { code: 'ENOMEM', text: expect.stringMatching(/0000:0[12]:00\.0|\/dev\/(vfio|iommu)/), fix: expect.stringMatching(/\.$/) },
        ]);
        expect(error!.text).toContain(words[call] ?? call);
      }
    });
  });
}
