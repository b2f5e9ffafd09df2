/**
 * Config spaces to look at: of a model, of a device behind a socket, of a function in a machine
 * file, of this computer, or of dumps that lspci -xxx made.
 */
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Config, HeaderType } from '../../abi/pci.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { looksLikeFile, parseAddress } from '../../api/address.ts';
import { connect } from '../../api/connect.ts';
import { loadModel, machineAround } from '../../api/simulation.ts';
import { VfioError } from '../../base/errno.ts';
import { type TriedWrite, VirtualConfig, type VirtualConfigHooks } from '../../engine/device/virtual-config.ts';
import { Machine } from '../../engine/machine/machine.ts';
import type { HostPicture, HostResource } from '../../host/host-picture.ts';
import { parseBdf } from '../../pci/bdf.ts';
import { bridgeKind, bridgeRegisterAt } from '../../pci/decode/header-registers.ts';
import type { HostFacts, KnownIdentity } from '../../pci/decode.ts';
import { explainConfigWrite } from '../../pci/explain-write.ts';
import { parseHex } from '../../pci/hex-dump.ts';
import { PermissionMap } from '../../pci/permission-map.ts';
import { type KnownRegion, userCopy, userView } from '../../pci/user-view.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import { type PciResource, ResourceFlag, readPciDevice } from '../../sys/pci-device.ts';
import { fromNode } from '../../sys/system-error.ts';
import { machineSource } from '../host/host-source.ts';

export interface ConfigTarget {
  readonly bdf: string;
  /** The contents of the hardware's registers. */
  readonly bytes: Uint8Array;
  /** Facts of its BARs and ROM beside the registers. */
  readonly regions: readonly (KnownRegion | undefined)[];
  readonly identity?: KnownIdentity;
  readonly host: HostFacts;
  /**
   * A user's view through VFIO.
   *
   * @throws VfioError EINVAL for a bridge; ENODEV where the device does not answer; EACCES where
   * too little of it could be read
   */
  readonly userView: () => Uint8Array;
  /**
   * The effect that a write through VFIO would have. Nothing is carried out.
   *
   * @throws VfioError as `userView`, and as explainConfigWrite()
   */
  readonly explain: (offset: number, width: 1 | 2 | 4, value: number) => TriedWrite | Omit<TriedWrite, 'effects' | 'readsBack'>;
  /** Faults of its capabilities that decide what VFIO shows of it: a sentence each. */
  readonly warnings: () => readonly string[];
}

export interface ConfigTargetOptions {
  readonly machine?: string | undefined;
  /** VF token, for a function of an SR-IOV device behind a socket. */
  readonly token?: string | undefined;
  /**
   * The function to take of a dump of several; a dump of several machines can have more than one at
   * that address.
   */
  readonly select?: string | undefined;
  /** The directory of this computer's devices. Default: /sys/bus/pci/devices. */
  readonly sysfs?: string;
}

/** A device that no user has open: no interrupt is enabled, and nothing listens. */
const idle: VirtualConfigHooks = {
  memoryDisabled: () => {},
  intxDisable: () => {},
  setPowerState: () => {},
  functionReset: () => {},
  msiEnabled: () => false,
  msiQueueMax: () => 0,
};

/**
 * The functions at an address: one, or all that a dump holds.
 *
 * @param address a BDF (of the machine file when one is given, else of this computer), `sim:…`,
 * `unix:PATH`, or a file with a dump
 * @throws VfioError EINVAL, ENOENT, ENODEV; EACCES when this computer does not let us read
 */
export async function configTargets(address: string, options: ConfigTargetOptions = {}): Promise<ConfigTarget[]> {
  const isDump = options.machine === undefined && looksLikeFile(address);
  if (options.select !== undefined && !isDump) {
    throw new VfioError('EINVAL', `${address} is one function: there is nothing to select`, { fix: 'Leave --select out.' });
  }
  if (options.machine !== undefined) {
    const source = machineSource(options.machine);
    if (source.kind === 'host') {
      using host = await source.open();
      return [ofHost(host.picture, address)];
    }
    const { importMachine } = await import('../../api/machine.ts');
    using machine = await importMachine(options.machine);
    return [ofFunction(machine, address)];
  }
  if (isDump) return isRecording(address) ? await ofRecording(address, options.select) : ofDump(address, options.select);
  const parsed = parseAddress(address);
  switch (parsed.kind) {
    case 'model':
    case 'file': {
      const model = await loadModel(parsed);
      using _owns = model.owns;
      const { spec, bdf } = machineAround(model);
      using machine = new Machine(spec, { allocate: MemfdMemory.allocate });
      return [ofFunction(machine, bdf)];
    }
    case 'pci':
      return [ofThisComputer(parsed.bdf, options.sysfs)];
    case 'socket':
      return [ofServer(parsed.path, options.token)];
    case 'mdev':
    case 'lent':
      throw new VfioError('EINVAL', `the configuration of ${address} is known to the driver that opens it only`, {
        fix: 'Give the address of a PCI device of this computer, such as 0000:03:00.0.',
      });
  }
}

/**
 * As configTargets(), of exactly one function.
 *
 * @throws VfioError EINVAL where a dump holds several and none was selected
 */
export async function configTarget(address: string, options: ConfigTargetOptions = {}): Promise<ConfigTarget> {
  const targets = await configTargets(address, options);
  if (targets.length === 1) return targets[0]!;
  const [first] = targets;
  if (targets.every(({ bdf }) => bdf === first!.bdf)) {
    throw new VfioError('EINVAL', `${address} holds ${targets.length} functions at ${first!.bdf}`, {
      fix: 'Give a dump of one machine, made once: nothing else says which of them is meant.',
    });
  }
  throw new VfioError('EINVAL', `${address} holds ${targets.length} functions`, {
    fix: `Choose one with --select BDF: ${listed(targets)}.`,
  });
}

/** The directory of devices in a copy of a computer's files, or in a copy of /sys itself. */
export function devicesIn(root: string): string {
  const [own, inner] = [join(root, 'bus/pci/devices'), join(root, 'sys/bus/pci/devices')];
  return existsSync(own) ? own : inner;
}

function listed(targets: readonly { readonly bdf: string }[]): string {
  const shown = targets.slice(0, 8).map(({ bdf }) => bdf);
  return `${shown.join(', ')}${targets.length > shown.length ? `, and ${targets.length - shown.length} more` : ''}`;
}

function refuseBridge(bdf: string, bytes: Uint8Array, offset?: number): void {
  const type = bytes[Config.HEADER_TYPE]! & HeaderType.MASK;
  const kind = bridgeKind(type);
  if (kind === undefined) return;
  const register = offset === undefined ? undefined : bridgeRegisterAt(type, offset);
  const where = register === undefined ? '' : `, and 0x${offset!.toString(16).padStart(2, '0')} is its ${register}`;
  throw new VfioError('EINVAL', `${bdf} is ${kind}${where}: VFIO gives no bridge to a user (vfio-pci refuses to bind it)`, {
    fix: offset === undefined ? 'Without --user its own registers are printed.' : 'vfio config prints its own registers.',
  });
}

function refuseSilent(bdf: string, bytes: Uint8Array): void {
  if (bytes.every((byte) => byte === 0xff)) throw new VfioError('ENODEV', doesNotAnswer(bdf));
}

/** For a device whose every byte reads ones. */
export function doesNotAnswer(bdf: string): string {
  return `${bdf} does not answer: its config space reads all ones (it sleeps in D3cold, or it is gone)`;
}

function ofFunction(machine: Machine, bdf: string): ConfigTarget {
  const fn = machine.function(bdf);
  const isVirtualFunction = fn.physical !== null;
  const virtual = new VirtualConfig(fn.config, idle, { isVirtualFunction });
  const bytes = fn.config.bytes.slice();
  // Ids that the VF's hardware lacks come from the PF, as in what lspci prints.
  if (isVirtualFunction) bytes.set(virtual.bytes.subarray(0, 4));
  const regions: (KnownRegion | undefined)[] = [];
  for (const { index, size, type, prefetchable = false } of fn.declaration.bars ?? []) {
    const kind = type === 'io' ? 'io' : 'memory';
    regions[index] = { size: BigInt(size), kind, wide: type === 'mem64', prefetchable };
  }
  const { rom } = fn.declaration;
  if (rom !== undefined) regions[6] = { size: BigInt(rom.length), kind: 'memory', wide: false, prefetchable: false };
  return {
    bdf: fn.bdf,
    bytes,
    regions,
    host: {
      ...(fn.driver === null ? {} : { driver: fn.driver }),
      ...(fn.group === null ? {} : { iommuGroup: fn.group.id }),
    },
    userView: () => {
      refuseBridge(fn.bdf, bytes);
      const bytesSeen = new Uint8Array(virtual.size);
      virtual.read(0, bytesSeen);
      return bytesSeen;
    },
    explain: (offset, width, value) => {
      refuseBridge(fn.bdf, bytes, offset);
      return virtual.explain(offset, width, value);
    },
    warnings: () => virtual.map.warnings,
  };
}

interface Known {
  readonly regions?: readonly (KnownRegion | undefined)[];
  readonly identity?: KnownIdentity;
  readonly host?: HostFacts;
  readonly isVirtualFunction?: boolean;
}

/**
 * The bytes alone show which bits VFIO lets through, not their effect in the hardware, so every bit
 * counts as writable there. A virtual function shows itself by ids of all ones in a config space
 * that answers (SR-IOV 1.1, 3.4.1.1).
 */
function ofBytes(bdf: string, bytes: Uint8Array, known: Known = {}): ConfigTarget {
  const silentIds = bytes.subarray(0, 4).every((byte) => byte === 0xff);
  const isVirtualFunction = known.isVirtualFunction ?? (silentIds && (bytes[Config.HEADER_TYPE]! & HeaderType.MASK) === HeaderType.NORMAL);
  const vf = isVirtualFunction ? { vendor: known.identity?.vendor ?? 0xffff, device: known.identity?.device ?? 0xffff } : undefined;
  const regions = known.regions ?? [];
  const map = () => {
    refuseSilent(bdf, bytes);
    if (bytes.length >= 256) return new PermissionMap({ size: bytes.length, bytes });
    throw new VfioError('EACCES', `only ${bytes.length} bytes of the config space of ${bdf} could be read`, {
      fix: 'Linux shows the rest to root only: run as root, or give a dump that root made with lspci -xxxx.',
    });
  };
  // Of a virtual function's COMMAND, hardware has the bus master bit alone.
  const writableBits = (at: number) => (!isVirtualFunction || (at & ~1) !== Config.COMMAND ? 0xff : at === Config.COMMAND ? 0x04 : 0);
  return {
    bdf,
    bytes,
    regions,
    ...(known.identity === undefined ? {} : { identity: known.identity }),
    host: known.host ?? {},
    userView: () => {
      refuseSilent(bdf, bytes);
      refuseBridge(bdf, bytes);
      const permissions = map();
      return userView(permissions, userCopy(permissions, vf, regions), bytes, isVirtualFunction);
    },
    explain: (offset, width, value) => {
      refuseSilent(bdf, bytes);
      refuseBridge(bdf, bytes, offset);
      const permissions = map();
      const hardware = { bytes, writableBits, writeOneClearsBits: () => 0 };
      const target = { virtual: userCopy(permissions, vf, regions), hardware, isVirtualFunction };
      return explainConfigWrite(permissions, target, offset, width, value);
    },
    warnings: () => map().warnings,
  };
}

/** The server shows the user's view, and keeps its bus address to itself. */
function ofServer(path: string, token?: string): ConfigTarget {
  using device = connect(path, token === undefined ? {} : { token });
  const config = device.region(RegionIndex.CONFIG);
  const bytes = new Uint8Array(config.info.size);
  const read = config.read(0, bytes);
  const regions: (KnownRegion | undefined)[] = [];
  for (let index: number = RegionIndex.BAR0; index <= RegionIndex.ROM; index++) {
    const size = BigInt(device.region(index).info.size);
    if (size > 0n) regions[index] = { size, kind: 'memory', wide: false, prefetchable: false };
  }
  // Its ids come from the server, which knows them, so nothing of it is a virtual function's
  // hardware.
  return ofBytes('0000:00:00.0', bytes.subarray(0, read), { regions, isVirtualFunction: false });
}

function ofThisComputer(bdf: string, sysfs?: string): ConfigTarget {
  const files = readPciDevice(bdf, sysfs);
  const region = (resource: PciResource | null): KnownRegion | undefined => {
    if (resource === null) return undefined;
    const { start: address, size, flags } = resource;
    const kind = (flags & ResourceFlag.IO) !== 0 ? 'io' : 'memory';
    return { address, size, kind, wide: (flags & ResourceFlag.MEMORY_64) !== 0, prefetchable: (flags & ResourceFlag.PREFETCH) !== 0 };
  };
  const { vendor, device, subsystemVendor, subsystem, classCode } = files;
  const revision = files.revision ?? files.config[Config.REVISION_ID]!;
  const identity = { vendor, device, subsystemVendor, subsystem, classCode, revision };
  const answers = !files.config.every((byte) => byte === 0xff);
  return ofBytes(bdf, files.config, {
    // A device that does not answer has its regions nowhere.
    regions: answers ? files.resources.map(region) : [],
    identity,
    host: {
      irq: files.irq,
      ...(files.slot === null ? {} : { slot: files.slot }),
      ...(files.driver === null ? {} : { driver: files.driver }),
      ...(files.iommuGroup === null ? {} : { iommuGroup: files.iommuGroup }),
      ...(files.numaNode === null ? {} : { numaNode: files.numaNode }),
    },
    ...(files.isVirtualFunction ? { isVirtualFunction: true } : {}),
  });
}

/** A folder, or an archive, which does not begin as text does. */
function isRecording(path: string): boolean {
  if (path === '-') return false;
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || found.isDirectory()) return found !== undefined;
  const fd = openSync(path, 'r');
  try {
    const begun = Buffer.alloc(512);
    return (
      begun.subarray(0, readSync(fd, begun, 0, begun.length, 0)).some((byte) => byte === 0 || byte === 0x1f || byte >= 0xf8) ||
      /\.bz2$/.test(path)
    );
  } finally {
    closeSync(fd);
  }
}

/** The functions of a recording whose config spaces it has. */
async function ofRecording(path: string, select?: string): Promise<ConfigTarget[]> {
  const { readHost } = await import('../../host/read-host.ts');
  const picture = await readHost(path);
  if (select !== undefined) return [ofHost(picture, select)];
  const read = picture.functions.filter((fn) => fn.config.length > 0);
  if (read.length === 0) throw new VfioError('EINVAL', `${path} has no config spaces`, { fix: 'lspci prints them with -xxxx, as root.' });
  return read.map((fn) => ofHost(picture, fn.bdf));
}

/**
 * @throws VfioError ENODEV for a function that the computer does not have; EINVAL without its
 *   registers
 */
function ofHost({ functions, origin }: HostPicture, at: string): ConfigTarget {
  const bdf = parseBdf(at);
  const fn = functions.find((one) => one.bdf === bdf);
  if (fn === undefined) throw new VfioError('ENODEV', `${origin} has no ${bdf}`, { fix: `It has ${listed(functions)}.` });
  if (fn.config.length === 0) {
    throw new VfioError('EINVAL', `${origin} has no config space of ${bdf}`, { fix: 'lspci prints it with -xxxx, as root.' });
  }
  const { vendor, device, subsystemVendor, subsystem, classCode, revision } = fn;
  const answers = !fn.config.every((byte) => byte === 0xff);
  const region = (resource: HostResource | null): KnownRegion | undefined =>
    resource === null || resource.size === null
      ? undefined
      : {
          ...(resource.start === null ? {} : { address: resource.start }),
          size: resource.size,
          kind: resource.kind,
          wide: resource.wide,
          prefetchable: resource.prefetchable,
        };
  return ofBytes(bdf, fn.config, {
    regions: answers ? fn.resources.map(region) : [],
    ...(vendor === null || device === null
      ? {}
      : {
          identity: {
            vendor,
            device,
            subsystemVendor: subsystemVendor ?? 0,
            subsystem: subsystem ?? 0,
            classCode,
            revision: revision ?? fn.config[Config.REVISION_ID]!,
          },
        }),
    host: {
      ...(fn.irq === null ? {} : { irq: fn.irq }),
      ...(fn.slot === null ? {} : { slot: fn.slot }),
      ...(fn.driver === null ? {} : { driver: fn.driver }),
      ...(fn.group === null ? {} : { iommuGroup: fn.group }),
      ...(fn.numaNode === null ? {} : { numaNode: fn.numaNode }),
    },
    ...(fn.physicalFunction === null ? {} : { isVirtualFunction: true }),
  });
}

function ofDump(path: string, select?: string): ConfigTarget[] {
  let text: string;
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw fromNode(cause, `the dump ${path} cannot be read`);
  }
  const dumps = parseHex(text);
  if (select === undefined) return dumps.map(({ bdf, bytes }) => ofBytes(bdf, bytes));
  const bdf = parseBdf(select);
  const found = dumps.filter((dump) => dump.bdf === bdf);
  if (found.length === 0) throw new VfioError('ENODEV', `${path} has no ${bdf}`, { fix: `It has ${listed(dumps)}.` });
  return found.map((dump) => ofBytes(dump.bdf, dump.bytes));
}
