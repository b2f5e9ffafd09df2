// A program in plain JavaScript: a device, its driver, and what needs the addon.
import { bar, device, open, registers, u32, VfioError } from 'vfio-ts';
import { TestHost } from 'vfio-ts/device';
import { IrqIndex } from 'vfio-ts/driver';
import { EventFd, Machine, MemfdMemory } from 'vfio-ts/machine';
import { NvmeDriver } from 'vfio-ts/nvme';
import { serve } from 'vfio-ts/server';

const Card = registers({ value: u32(0x00), start: u32(0x04) });

const card = device({
  id: '1234:cafe',
  msi: 1,
  bars: { bar0: bar('4K', Card) },
  on: {
    'bar0.start'({ bar0, irq }) {
      bar0.value += 1;
      irq.trigger(0);
    },
  },
});

async function main() {
  const dev = await open(card, { match: '1234:cafe' });
  const there = dev.bar(0, Card);
  const irq = dev.msi.enable(1);
  dev.busMaster = true;
  there.value = 41;
  there.start = 1;
  await irq.next(0, { timeoutMs: 60_000 });
  const answer = there.value;
  dev[Symbol.dispose]();

  const fd = EventFd.create(1);
  const memory = MemfdMemory.allocate(4096);
  const machine = new Machine({ devices: [{ at: '04.0', model: card }] }, { allocate: MemfdMemory.allocate });
  const group = machine.function('00:04.0').group.id;
  const exported = [TestHost, IrqIndex, NvmeDriver, serve].every((each) => each !== undefined);
  console.log(answer, fd.read(), memory.size > 0, group >= 0, exported, new VfioError('EBUSY', 'text').code);
  machine[Symbol.dispose]();
}

main();
