/** The NVMe driver on the model in this process: with plain memory and with memfds. */
import type { MemoryAllocator } from '../../../src/abi/memory.ts';
import { machineAround, openThrough, startMachine } from '../../../src/api/simulation.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';
import { addon } from '../../../src/sys/addon.ts';
import { HeapMemory } from '../../../src/sys/fake.ts';
import { MemfdMemory } from '../../../src/sys/memfd.ts';
import disk from './disk.ts';
import { nvmeConformance } from './nvme-conformance.ts';
import type { NvmeSubject } from './subject.ts';

async function subject(allocate: MemoryAllocator): Promise<NvmeSubject> {
  const around = machineAround(disk());
  // A user that keeps the device open when it is unplugged loses it at once.
  const { machine, owns } = startMachine(around, { allocate, log: silentLogger, params: { forceRevokeAfterMs: 0 } });
  const opened: DriverDevice[] = [];
  return {
    open() {
      const { device, owns: handles } = openThrough(machine, around.bdf);
      const dev = DriverDevice.attach(device, { owns: handles });
      opened.push(dev);
      return dev;
    },
    unplug: () => machine.remove(around.bdf),
    async [Symbol.asyncDispose]() {
      for (const dev of opened) dev.close();
      owns[Symbol.dispose]();
    },
  };
}

nvmeConformance('engine, with plain memory', () => subject(HeapMemory.allocate));

nvmeConformance('engine, with memfds', () => {
  addon();
  return subject(MemfdMemory.allocate);
});
