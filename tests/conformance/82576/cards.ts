/** Two cards on a cable in one machine, as the subjects of this package have them. */
import type { MemoryAllocator } from '../../../src/abi/memory.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { Machine } from '../../../src/engine/machine/machine.ts';
import { intel82576 } from '../../../src/models/82576/82576.ts';
import { cable } from '../../../src/models/wires/cable.ts';

export const CARDS = ['0000:01:00.0', '0000:02:00.0'] as const;
/** The token of both cards, and so of their virtual functions. */
export const TOKEN = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';

export function twoCards(allocate: MemoryAllocator): { readonly machine: Machine; readonly owns: Disposable } {
  const wires = cable();
  const port = (at: string, index: 0 | 1) => {
    const model = intel82576({ wire: wires[index], mac: `52:54:00:00:00:0${index + 1}` });
    return { at, kind: 'root-port', devices: [{ at: '00.0', model, driver: 'vfio-pci' }] } as const;
  };
  const machine = new Machine(
    { name: 'two cards', devices: [port('01.0', 0), port('02.0', 1)] },
    // A user that keeps the device open when it is unplugged loses it at once.
    { allocate, log: silentLogger, params: { forceRevokeAfterMs: 0, enableSriov: true } },
  );
  return {
    machine,
    owns: {
      [Symbol.dispose]() {
        machine[Symbol.dispose]();
        for (const wire of wires) wire[Symbol.dispose]();
      },
    },
  };
}

/** VFs begin 0x80 functions behind their PF, and are two apart (9.7.2.5). */
export function vfAddress(vf: number): string {
  const routing = 0x80 + 2 * vf;
  return `0000:01:${(routing >> 3).toString(16).padStart(2, '0')}.${routing & 7}`;
}
