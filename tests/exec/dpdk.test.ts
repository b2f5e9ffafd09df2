/** DPDK's drivers of the 82576 and of its virtual functions, unmodified, on the model. */
import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { intel82576 } from '../../src/models/82576/82576.ts';
import { cable } from '../../src/models/wires/cable.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { OTHER_TOKEN, TOKEN } from '../kit/sriov-rig.ts';
import { installed, Testpmd } from './testpmd.ts';

const [ONE, TWO] = ['0000:01:00.0', '0000:02:00.0'];
const VFS = ['0000:01:10.0', '0000:01:10.2'];
const MAC = '52:54:00:00:01:01';
/** A million and more, by hand, lost none either (docs/interop.md). */
const FRAMES = 20_000;

/** Two cards on a cable. */
function cards(): { readonly machine: Machine; [Symbol.dispose](): void } {
  const wires = cable();
  const card = (at: string, index: 0 | 1) => {
    const model = intel82576({ wire: wires[index], mac: `52:54:00:00:00:0${index + 1}` });
    return { at, kind: 'root-port', devices: [{ at: '00.0', model, driver: 'vfio-pci' }] } as const;
  };
  const machine = new Machine(
    { name: 'two cards', enableSriov: true, devices: [card('05.0', 0), card('06.0', 1)] },
    { allocate: MemfdMemory.allocate, log: silentLogger },
  );
  return {
    machine,
    [Symbol.dispose]() {
      machine[Symbol.dispose]();
      for (const wire of wires) wire[Symbol.dispose]();
    },
  };
}

/** Two ports forward 32 frames to each other until each has got so many. @returns the summary */
async function forward(pmd: Testpmd, left: number, right: number): Promise<string> {
  await pmd.ask(`set portlist ${left},${right}`, 'set fwd mac', 'start tx_first');
  for (;;) {
    const counters = await pmd.counters();
    if (counters[left]!.received >= FRAMES && counters[right]!.received >= FRAMES) return await pmd.ask('stop');
  }
}

/** Frames that each port of the summary has dropped, and all of them. */
const droppedIn = (summary: string) => [...summary.matchAll(/dropped: +(\d+)/g)].map(([, digits]) => Number(digits));

describe.skipIf(!installed || process.getuid!() !== 0)("DPDK's testpmd", () => {
  it('forwards frames between two cards, loses none, and counts them', async () => {
    using setup = cards();
    await using pmd = new Testpmd(setup.machine, [ONE!, TWO!]);
    const ended = await forward(pmd, 0, 1);
    const [left, right] = await pmd.counters();
    expect(left!.received).toBeGreaterThanOrEqual(FRAMES);
    expect(right).toMatchObject({ received: left!.sent, sent: left!.received, missed: 0, errors: 0 });
    expect(left).toMatchObject({ missed: 0, errors: 0, sentBytes: 64 * left!.sent, receivedBytes: 64 * left!.received });
    expect(droppedIn(ended)).toEqual(Array(6).fill(0));
  });

  it('T3 T4 T5 opens virtual functions with their token alone, and its driver of the card serves them by mailbox', async () => {
    using setup = cards();
    await setup.machine.setNumVfs(ONE!, 2);
    {
      await using owner = new Testpmd(setup.machine, [ONE!, ...VFS], [`--vfio-vf-token=${TOKEN}`]);
      await owner.ask(`mac_addr set 1 ${MAC}`);
      const said = await owner.ask('show port info 1');
      expect(said).toContain(`MAC address: ${MAC}`);
      expect(said).toContain('Link status: up');
    }
    for (const options of [[], [`--vfio-vf-token=${OTHER_TOKEN}`]]) {
      await using refused = new Testpmd(setup.machine, VFS, options);
      await refused.ask();
      expect(refused.output).toContain('No probed ethernet devices');
    }
  });

  it('forwards frames between two virtual functions by the switch of the card, and loses none', async ({ skip }) => {
    using setup = cards();
    await setup.machine.setNumVfs(ONE!, 2);
    await using pmd = new Testpmd(setup.machine, [ONE!, ...VFS], [`--vfio-vf-token=${TOKEN}`]);
    // Before 23.11 its driver of virtual functions leaves the state as it is, and testpmd uses no
    // queue that is stopped.
    if ((await pmd.ask('show rxq info 1 0')).includes('state: stopped')) skip('this testpmd forwards nothing on virtual functions');
    const macs = [...(await pmd.ask('show port info all')).matchAll(/MAC address: (\S+)/g)].map(([, mac]) => mac!);
    // It sends to the peer of the port that a frame leaves by.
    await pmd.ask(`set eth-peer 1 ${macs[2]}`, `set eth-peer 2 ${macs[1]}`);
    const ended = await forward(pmd, 1, 2);
    const [, left, right] = await pmd.counters();
    expect(left!.received).toBeGreaterThanOrEqual(FRAMES);
    expect(right).toMatchObject({ received: left!.sent, sent: left!.received, missed: 0, errors: 0 });
    expect(droppedIn(ended)).toEqual(Array(6).fill(0));
  });
});
