/** The 82576 driver on two models in this process: with plain memory and with memfds. */
import type { MemoryAllocator } from '../../../src/abi/memory.ts';
import { openThrough } from '../../../src/api/simulation.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { addon } from '../../../src/sys/addon.ts';
import { HeapMemory } from '../../../src/sys/fake.ts';
import { MemfdMemory } from '../../../src/sys/memfd.ts';
import { CARDS, TOKEN, twoCards, vfAddress } from './cards.ts';
import { netConformance } from './net-conformance.ts';
import type { NetSubject } from './subject.ts';

async function subject(allocate: MemoryAllocator): Promise<NetSubject> {
  const { machine, owns: cards } = twoCards(allocate);
  const opened: DriverDevice[] = [];
  const attach = (bdf: string) => {
    const { device, owns } = openThrough(machine, bdf, undefined, TOKEN);
    const dev = DriverDevice.attach(device, { owns });
    opened.push(dev);
    return dev;
  };
  return {
    open: (card) => attach(CARDS[card]),
    unplug: (card) => machine.remove(CARDS[card]),
    enableVfs: (count) => machine.setNumVfs(CARDS[0], count),
    openVf: (vf) => attach(vfAddress(vf)),
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
      cards[Symbol.dispose]();
    },
  };
}

netConformance('engine, with plain memory', () => subject(HeapMemory.allocate));

netConformance('engine, with memfds', () => {
  addon();
  return subject(MemfdMemory.allocate);
});
