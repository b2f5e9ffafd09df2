/** The 82576 driver on two models in this process: with plain memory and with memfds. */
import type { MemoryAllocator } from '../../../src/abi/memory.ts';
import { openThrough } from '../../../src/api/simulation.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { Machine } from '../../../src/engine/machine/machine.ts';
import { intel82576 } from '../../../src/models/82576/82576.ts';
import { cable } from '../../../src/models/wires/cable.ts';
import { addon } from '../../../src/sys/addon.ts';
import { HeapMemory } from '../../../src/sys/fake.ts';
import { MemfdMemory } from '../../../src/sys/memfd.ts';
import { netConformance } from './net-conformance.ts';
import type { NetSubject } from './subject.ts';

const CARDS = ['0000:01:00.0', '0000:02:00.0'] as const;
const TOKEN = '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001';

/** VFs begin 0x80 functions behind their PF, and are two apart (9.7.2.5). */
function vfAddress(vf: number): string {
  const routing = 0x80 + 2 * vf;
  return `0000:01:${(routing >> 3).toString(16).padStart(2, '0')}.${routing & 7}`;
}

async function subject(allocate: MemoryAllocator): Promise<NetSubject> {
  const wires = cable();
  const card = (index: 0 | 1) => intel82576({ wire: wires[index], mac: `52:54:00:00:00:0${index + 1}` });
  const port = (at: string, index: 0 | 1) =>
    ({ at, kind: 'root-port', devices: [{ at: '00.0', model: card(index), driver: 'vfio-pci' }] }) as const;
  const machine = new Machine(
    { name: 'two cards', devices: [port('01.0', 0), port('02.0', 1)] },
    // A user that keeps the device open when it is unplugged loses it at once.
    { allocate, log: silentLogger, params: { forceRevokeAfterMs: 0, enableSriov: true } },
  );
  const opened: DriverDevice[] = [];
  const attach = (bdf: string, token?: string) => {
    const { device, owns } = openThrough(machine, bdf, undefined, token);
    const dev = DriverDevice.attach(device, { owns });
    opened.push(dev);
    return dev;
  };
  const hasVfs = (machine.function(CARDS[0]).sriov?.totalVfs ?? 0) > 0;
  return {
    open(index) {
      const dev = attach(CARDS[index], hasVfs ? TOKEN : undefined);
      return dev;
    },
    unplug: (index) => machine.remove(CARDS[index]),
    ...(hasVfs
      ? {
          enableVfs: (count: number) => machine.setNumVfs(CARDS[0], count),
          openVf: (vf: number) => attach(vfAddress(vf), TOKEN),
        }
      : {}),
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
      machine[Symbol.dispose]();
      for (const wire of wires) wire[Symbol.dispose]();
    },
  };
}

netConformance('engine, with plain memory', () => subject(HeapMemory.allocate));

netConformance('engine, with memfds', () => {
  addon();
  return subject(MemfdMemory.allocate);
});
