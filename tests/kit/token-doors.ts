/**
 * One machine with functions of every kind, and the four ways to open them: in process, by ioctls
 * of groups, by iommufd, through sockets.
 */

import { inspect } from 'node:util';
import type { Device } from '../../src/abi/device.ts';
import type { VfioEvent } from '../../src/abi/event.ts';
import { parseVfToken } from '../../src/abi/vf-token.ts';
import { BindIommufdFlags, ContainerIoctl, DeviceIoctl, Extension, Feature, FeatureFlags, GroupIoctl } from '../../src/abi/vfio.ts';
import { DeviceBindIommufd, DeviceFeature } from '../../src/abi/vfio-structs.ts';
import { parseMachine } from '../../src/api/machine-file.ts';
import { errnoName, VfioError } from '../../src/base/errno.ts';
import { featureBytes } from '../../src/device/feature-bytes.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import { Process } from '../../src/engine/dma/process.ts';
import type { GroupFile } from '../../src/engine/machine/group-file.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { formats } from '../../src/events/printers/formats.ts';
import { EventStream } from '../../src/events/stream.ts';
import { KernelDoor } from '../../src/ioctl/kernel-door.ts';
import { cString } from '../../src/ioctl/user-buffer.ts';
import type { UserProcess } from '../../src/ioctl/user-process.ts';
import { models } from '../../src/models/registry.ts';
import { HeapMemory } from '../../src/sys/fake.ts';
import { VfioUserDevice } from '../../src/vfio-user/client.ts';
import { bytesOf, fdBytes } from './ioctl-bytes.ts';
import type { MachineProcess } from './machine-process.ts';

/**
 * 01:00.0 is a PF under vfio-pci; 02:00.0 one of the host, whose VF a user may have; 04.0 neither.
 */
export const tokenMachine = `
enableSriov: true
devices:
  - { at: 01.0, kind: root-port, devices: [{ at: 00.0, model: edu, options: { vfs: 4 }, driver: vfio-pci, numVfs: 2 }] }
  - { at: 02.0, kind: root-port, devices: [{ at: 00.0, model: edu, options: { vfs: 2 }, driver: pci-pf-stub, vfDriver: vfio-pci, numVfs: 1 }] }
  - { at: 04.0, model: edu, driver: vfio-pci }
`;
export const NATIVE_VF = '0000:02:00.1';
export const NEITHER = '0000:00:04.0';

export interface TokenHandle {
  /** VFIO_DEVICE_FEATURE with `flags` and `data`: 'ok', or the errno. */
  feature(flags: number, data: Uint8Array): string;
  /** Resolves when the server has closed the device. */
  close(): Promise<void>;
}

export interface TokenDoor extends AsyncDisposable {
  /** A device that stays open, or the errno. */
  open(bdf: string, token?: string): TokenHandle | string;
  setNumVfs(bdf: string, count: number): Promise<unknown>;
  /** Unbind and bind again. */
  rebind(bdf: string): Promise<unknown>;
  /** All texts that any reader has got so far: logs, and every error. */
  readonly told: readonly string[];
}

export const SET_TOKEN = FeatureFlags.SET | Feature.PCI_VF_TOKEN;

/** Everything that a reader of the machine's events gets goes to `told` as the machine ends. */
function localMachine(told: string[]): { readonly machine: Machine; end(): void } {
  const events = new EventStream({ log: { log: (_level, text) => void told.push(text) } });
  const reader = events.read({ data: true });
  const machine = new Machine(parseMachine(tokenMachine), { allocate: HeapMemory.allocate, models, events });
  const end = () => {
    machine[Symbol.dispose]();
    told.push(...eventTexts(reader.take()));
    events[Symbol.dispose]();
  };
  return { machine, end };
}

/** Every field of every event, as printers and programs show it. */
function eventTexts(events: readonly VfioEvent[]): string[] {
  if (!events.some(({ kind }) => kind === 'plug')) throw new Error('the reader saw nothing');
  return formats
    .map((format) => format.make({ about: { program: 'test', epochNs: 0n } }))
    .flatMap((printer) => events.map((event) => Buffer.from(printer.event(event)).toString('latin1')))
    .concat(events.map((event) => inspect(event, { depth: 5, maxArrayLength: null })));
}

function told(error: unknown, lines: string[]): string {
  if (!(error instanceof VfioError)) throw error;
  lines.push(`${error.explain()} ${error.stack} ${String(error.cause)}`);
  return error.code;
}

/** `flags` of VFIO_DEVICE_FEATURE: the feature, and the operation. */
function featureOf(device: Device, flags: number, data: Uint8Array, lines: string[]): string {
  try {
    featureBytes(device, {
      feature: flags & FeatureFlags.MASK,
      get: (flags & FeatureFlags.GET) !== 0,
      set: (flags & FeatureFlags.SET) !== 0,
      probe: (flags & FeatureFlags.PROBE) !== 0,
      data,
    });
    return 'ok';
  } catch (error) {
    return told(error, lines);
  }
}

export async function inProcess(): Promise<TokenDoor> {
  const lines: string[] = [];
  const { machine, end } = localMachine(lines);
  const open = (bdf: string, token?: string): TokenHandle | string => {
    const group = machine.group(machine.function(bdf).group!.id);
    const file = (group.file as GroupFile | null) ?? machine.openGroup(group.id);
    if (file.container === null) {
      const container = machine.openContainer();
      file.setContainer(container);
      container.setIommu(Extension.TYPE1v2_IOMMU);
    }
    let device: DeviceFile;
    try {
      device = file.openDevice(token === undefined ? bdf : `${bdf} vf_token=${token}`);
    } catch (error) {
      return told(error, lines);
    }
    return {
      feature: (flags, data) => featureOf(device, flags, data, lines),
      close: async () => device.close(),
    };
  };
  return {
    open,
    setNumVfs: (bdf, count) => machine.setNumVfs(bdf, count),
    rebind: async (bdf) => {
      for (const g of machine.groups.values()) g.file?.close();
      await machine.unbind(bdf);
      machine.bind(bdf, 'vfio-pci');
    },
    told: lines,
    [Symbol.asyncDispose]: async () => end(),
  };
}

export async function byIoctl(): Promise<TokenDoor> {
  const lines: string[] = [];
  const { machine, end } = localMachine(lines);
  const door = new KernelDoor(machine, {
    onRefusal: (_process, call, error) => void lines.push(`${call} ${error.explain()} ${error.stack}`),
  });
  const user: UserProcess = door.process(Process.root({ pid: 42, allocate: HeapMemory.allocate }));
  const groups = new Map<string, number>();
  const code = (result: number) => (result < 0 ? errnoName(result)! : 'ok');
  const groupOf = (bdf: string): number => {
    const known = groups.get(bdf);
    if (known !== undefined) return known;
    const group = user.open(`/dev/vfio/${machine.function(bdf).group!.id}`);
    const container = user.open('/dev/vfio/vfio');
    user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(container));
    user.ioctl(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    groups.set(bdf, group);
    return group;
  };
  return {
    open: (bdf, token) => {
      const name = token === undefined ? bdf : `${bdf} vf_token=${token}`;
      const fd = user.ioctl(groupOf(bdf), GroupIoctl.GET_DEVICE_FD, cString(name));
      if (fd < 0) return code(fd);
      return {
        feature: (flags, data) =>
          code(user.ioctl(fd, DeviceIoctl.FEATURE, bytesOf(DeviceFeature, { argsz: 8 + data.length, flags }, data))),
        close: async () => void user.close(fd),
      };
    },
    setNumVfs: (bdf, count) => {
      for (const [of, fd] of groups) {
        if (of !== bdf) user.close(fd);
        if (of !== bdf) groups.delete(of);
      }
      return machine.setNumVfs(bdf, count);
    },
    rebind: async (bdf) => {
      for (const fd of groups.values()) user.close(fd);
      groups.clear();
      await machine.unbind(bdf);
      machine.bind(bdf, 'vfio-pci');
    },
    told: lines,
    [Symbol.asyncDispose]: async () => end(),
  };
}

/** By the devices' own files, each opened anew. */
export async function byIommufd(): Promise<TokenDoor> {
  const lines: string[] = [];
  const { machine, end } = localMachine(lines);
  const door = new KernelDoor(machine, {
    onRefusal: (_process, call, error) => void lines.push(`${call} ${error.explain()} ${error.stack}`),
  });
  const user: UserProcess = door.process(Process.root({ pid: 42, allocate: HeapMemory.allocate }));
  const code = (result: number) => (result < 0 ? errnoName(result)! : 'ok');
  const iommufd = user.open('/dev/iommu');
  const memory = user.memory.mapAnonymous(4096, 3);
  const open = new Set<number>();
  return {
    open: (bdf, token) => {
      // The kernel gets 16 bytes: a text that is no UUID is refused by the program itself.
      const uuid = token === undefined ? new Uint8Array(0) : parseVfToken(token);
      if (uuid === null) return 'EINVAL';
      const fd = user.open(`/dev/vfio/devices/vfio${machine.function(bdf).vfioIndex}`);
      if (fd < 0) return code(fd);
      for (const [i, byte] of uuid.entries()) user.store(memory + i, 1, byte);
      const flags = token === undefined ? 0 : BindIommufdFlags.TOKEN;
      const bind = bytesOf(DeviceBindIommufd, { argsz: 24, flags, iommufd, token_uuid_ptr: BigInt(memory) });
      const result = user.ioctl(fd, DeviceIoctl.BIND_IOMMUFD, bind);
      if (result < 0) {
        user.close(fd);
        return code(result);
      }
      open.add(fd);
      return {
        feature: (flags, data) =>
          code(user.ioctl(fd, DeviceIoctl.FEATURE, bytesOf(DeviceFeature, { argsz: 8 + data.length, flags }, data))),
        close: async () => {
          open.delete(fd);
          user.close(fd);
        },
      };
    },
    setNumVfs: (bdf, count) => machine.setNumVfs(bdf, count),
    rebind: async (bdf) => {
      for (const fd of open) user.close(fd);
      open.clear();
      await machine.unbind(bdf);
      machine.bind(bdf, 'vfio-pci');
    },
    told: lines,
    [Symbol.asyncDispose]: async () => end(),
  };
}

/** In one process; each door switches the machine off and on. */
export async function bySocket(process: MachineProcess): Promise<TokenDoor> {
  const { lines } = await process.ask({ ask: 'fresh' });
  const all = [...lines];
  const connect = (bdf: string, token?: string) =>
    VfioUserDevice.connect(process.pathOf(bdf), { timeoutMs: 120_000, ...(token === undefined ? {} : { token }) });
  return {
    open: (bdf, token) => {
      let device: VfioUserDevice;
      try {
        device = connect(bdf, token);
      } catch (error) {
        return told(error, all);
      }
      return {
        feature: (flags, data) => featureOf(device, flags, data, all),
        close: async () => {
          device.close();
          // The server lets the next client in, here to refuse it, when it has closed the device of
          // this one. No token is a valid request everywhere.
          try {
            connect(bdf).close();
          } catch (error) {
            told(error, all);
          }
        },
      };
    },
    setNumVfs: (bdf, count) => process.ask({ ask: 'numvfs', bdf, count }),
    rebind: (bdf) => process.ask({ ask: 'rebind', bdf }),
    get told() {
      return all;
    },
    [Symbol.asyncDispose]: async () => void all.push(...(await process.ask({ ask: 'look' })).lines),
  };
}

export const tokenBytes = (uuid: string): Uint8Array => parseVfToken(uuid)!;
