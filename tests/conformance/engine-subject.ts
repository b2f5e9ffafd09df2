/**
 * Subjects of the engine: its own device file, with fakes and a manual clock, or with real eventfds
 * and memfds.
 */
import type { MemoryAllocator } from '../../src/abi/memory.ts';
import { Extension } from '../../src/abi/vfio.ts';
import { type Clock, ManualClock, SystemClock } from '../../src/base/clock.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { addon } from '../../src/sys/addon.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import { FakeEventFd, HeapMemory } from '../../src/sys/fake.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { PF, Tenant, TOKEN, VF1 } from '../kit/sriov-rig.ts';
import type { ConformanceEventFd, ConformanceSubject } from './subject.ts';

export interface Kind {
  readonly clock: Clock;
  readonly allocate: MemoryAllocator;
  readonly eventfd: () => ConformanceEventFd;
  /**
   * Let some time pass: enough for one step of the model, unless the machine has much other work.
   */
  readonly wait: () => Promise<void>;
}

/** No work of edu takes more steps. */
const TURNS = 5;

/** The device by a file of its own, attached to an address space of an iommufd. */
export async function byIommufd({ clock, allocate, eventfd, wait }: Kind): Promise<ConformanceSubject> {
  const machine = new Machine({ devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] }, { clock, allocate });
  const iommufd = machine.openIommufd();
  const ioas = iommufd.allocIoas();
  const open = () => {
    const cdev = machine.openDevice('0000:00:04.0');
    cdev.bind({ iommufd: () => iommufd });
    cdev.attach(ioas);
    return cdev.device;
  };
  const device = open();
  return {
    device,
    eventfd,
    reopen: open,
    async until(done) {
      for (let turn = 0; !done(); turn++) {
        if (turn === TURNS) return false;
        await wait();
      }
      return true;
    },
    async pass() {
      for (let turn = 0; turn < TURNS; turn++) await wait();
    },
    async [Symbol.asyncDispose]() {
      device.close();
      iommufd.close();
      machine[Symbol.dispose]();
    },
  };
}

/** @param virtual the second VF of a PF whose driver has set the token and closed the PF */
export async function byGroup({ clock, allocate, eventfd, wait }: Kind, virtual = false): Promise<ConformanceSubject> {
  const driver = 'vfio-pci';
  const card = { at: '01.0', kind: 'root-port' as const, devices: [{ at: '00.0', model: edu({ vfs: 2 }), driver, numVfs: 2 }] };
  const machine = new Machine(
    { enableSriov: true, devices: virtual ? [card] : [{ at: '04.0', model: edu(), driver }] },
    { clock, allocate },
  );
  const bdf = virtual ? VF1 : '0000:00:04.0';
  const name = virtual ? `${bdf} vf_token=${TOKEN}` : bdf;
  if (virtual) new Tenant(machine, PF).open(TOKEN).close();
  const container = machine.openContainer();
  const group = machine.openGroup(machine.function(bdf).group!.id);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  const device = group.openDevice(name);
  return {
    device,
    virtual,
    eventfd,
    reopen: () => group.openDevice(name),
    async until(done) {
      for (let turn = 0; !done(); turn++) {
        if (clock instanceof ManualClock && turn === TURNS) return false;
        await wait();
      }
      return true;
    },
    async pass() {
      for (let turn = 0; turn < TURNS; turn++) await wait();
    },
    async [Symbol.asyncDispose]() {
      device.close();
      group.close();
      container.close();
      machine[Symbol.dispose]();
    },
  };
}

export function fakes(): Kind {
  const clock = new ManualClock();
  const wait = async () => {
    clock.advance(100);
    await Promise.resolve();
  };
  return { clock, allocate: HeapMemory.allocate, eventfd: () => new FakeEventFd(), wait };
}

/** Kinds with which the kernel can work: eventfds and memfds. */
export function real(): Kind {
  addon();
  // Long enough for a timer of 0 ms and one pass of the event loop over descriptors.
  const wait = () => new Promise<void>((resolve) => setTimeout(() => setImmediate(resolve), 2));
  return { wait, clock: new SystemClock(), allocate: MemfdMemory.allocate, eventfd: () => EventFd.create() };
}
