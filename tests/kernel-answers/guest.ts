/**
 * The guest whose kernels gave the answers, as a machine of ours: q35 with an Intel IOMMU, edu on
 * the root bus, an NVMe function behind a root port.
 */
import { ContainerIoctl, Extension, GroupIoctl } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import type { Logger } from '../../src/base/log.ts';
import type { EngineParams } from '../../src/engine/context.ts';
import { Process } from '../../src/engine/dma/process.ts';
import { type LinuxVersion, NEWEST_LINUX } from '../../src/engine/linux-version.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import type { IommuSpec } from '../../src/engine/machine/machine-spec.ts';
import { KernelDoor, type KernelDoorOptions } from '../../src/ioctl/kernel-door.ts';
import { cString } from '../../src/ioctl/user-buffer.ts';
import type { UserProcess } from '../../src/ioctl/user-process.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { ari, msix, pcie, pm, sriov } from '../../src/pci/capabilities.ts';
import type { DeviceModel } from '../../src/pci/declaration.ts';
import { HeapMemory } from '../../src/sys/fake.ts';
import type { Subject } from './asker.ts';

export const EDU = '0000:00:04.0';
export const NVME = '0000:02:00.0';
export const CARD = '0000:00:05.0';

/** The registers of QEMU's nvme that its config space needs; they have no function. */
const nvme: DeviceModel = {
  declaration: {
    name: 'nvme-shape',
    vendor: 0x1b36,
    device: 0x0010,
    revision: 2,
    classCode: 0x010802,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    interruptPin: 1,
    bars: [{ index: 0, size: 0x4000, type: 'mem64' }],
    capabilities: [
      msix({ vectors: 3, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000, at: 0x40 }),
      pcie({ flr: true, at: 0x80 }),
      pm({ at: 0x60 }),
    ],
    extendedCapabilities: [ari({ at: 0x100 }), sriov({ totalVfs: 1, vfDevice: 0x0010, bars: [], at: 0x120 })],
  },
  create: () => ({ read: () => 0, write: () => {}, reset: () => {} }),
};

/** Descriptors of a process. */
export interface Opened {
  readonly user: UserProcess;
  readonly container: number;
  readonly group: number;
  readonly device: number;
}

/** A card with BARs of plain memory, which other devices can reach; BAR 0 is as large as edu's. */
const memoryCard: DeviceModel = {
  declaration: {
    name: 'memory-card',
    vendor: 0x1af4,
    device: 0x1110,
    classCode: 0x050000,
    bars: [
      { index: 0, size: 0x10_0000, type: 'mem32', backing: 'memory' },
      { index: 2, size: 0x4000, type: 'mem64', prefetchable: true, backing: 'memory' },
    ],
  },
  create: () => ({ read: () => 0, write: () => {}, reset: () => {} }),
};

export interface GuestOptions {
  readonly linux?: LinuxVersion;
  readonly params?: Partial<EngineParams>;
  readonly iommu?: IommuSpec;
  readonly onRefusal?: KernelDoorOptions['onRefusal'];
}

export class Guest implements Disposable {
  readonly machine: Machine;
  readonly clock = new ManualClock();
  readonly door: KernelDoor;
  /** Everything that was logged as an error: bugs of ours. */
  readonly errors: string[] = [];

  constructor({ linux = NEWEST_LINUX, params = {}, iommu = {}, onRefusal }: GuestOptions = {}) {
    const log: Logger = { log: (level, message) => void (level === 'error' && this.errors.push(message)) };
    this.machine = new Machine(
      {
        name: 'guest',
        iommu,
        memoryBase: 0xfde0_0000,
        devices: [
          { at: '03.0', kind: 'root-port', bus: 2, devices: [{ at: '00.0', model: nvme, driver: 'vfio-pci' }] },
          { at: '04.0', model: edu({ factorialMs: 1, dmaMs: 100, migration: false }), driver: 'vfio-pci' },
          { at: '05.0', model: memoryCard, driver: 'vfio-pci' },
        ],
      },
      { allocate: HeapMemory.allocate, clock: this.clock, log, linux, params },
    );
    // QEMU's firmware chose these values before any driver opened the device.
    const eduConfig = this.machine.function(EDU).config;
    eduConfig.setBarAddress(0, 0xfe20_0000n);
    const nvmeConfig = this.machine.function(NVME).config;
    nvmeConfig.setBarAddress(0, 0xfde0_0000n);
    nvmeConfig.write(0x3c, 1, 0x0b);
    this.door = new KernelDoor(this.machine, { onRefusal });
  }

  /**
   * A process like the asking program's: root, every capability, 8 MiB of locked memory; or an
   * ordinary user.
   */
  subject(bdf: string, uid = 0): Subject {
    const options = { pid: 100, memlockLimit: 8 * 1024 * 1024, allocate: HeapMemory.allocate };
    const process = uid === 0 ? Process.root(options) : Process.user({ ...options, uid });
    const group = this.machine.function(bdf).group!;
    return { user: this.door.process(process), clock: this.clock, groupPath: `/dev/vfio/${group.id}`, bdf };
  }

  /** A process of uid 1000, without capabilities. */
  unprivileged(): UserProcess {
    return this.door.process(Process.user({ allocate: HeapMemory.allocate }));
  }

  /** A process that has opened the device at `bdf` the usual way. */
  open(bdf: string, type: number = Extension.TYPE1v2_IOMMU): Opened {
    const { user, groupPath } = this.subject(bdf);
    const must = (result: number) => {
      if (result < 0) throw new Error(`opening ${bdf}: errno ${-result}`);
      return result;
    };
    const container = must(user.open('/dev/vfio/vfio'));
    const group = must(user.open(groupPath));
    must(user.ioctl(group, GroupIoctl.SET_CONTAINER, new Uint8Array(new Int32Array([container]).buffer)));
    must(user.ioctl(container, ContainerIoctl.SET_IOMMU, type));
    return { user, container, group, device: must(user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(bdf))) };
  }

  [Symbol.dispose](): void {
    this.machine[Symbol.dispose]();
  }
}
