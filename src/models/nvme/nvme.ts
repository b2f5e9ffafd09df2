/**
 * An NVMe disk: a PCI function with a controller of NVM Express 1.4 over any number of storages,
 * each of them a namespace.
 *
 *     nvme({ namespaces: [{ storage: new MemoryStorage(2 ** 30), blockSize: 4096 }] })
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { NvmeReg } from '../../abi/nvme.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import { classCodes } from '../../pci/class-codes.ts';
import type { DeviceModel, PciDeclaration, SriovDeclaration } from '../../pci/declaration.ts';
import { aer } from '../../pci/extended-capabilities.ts';
import type { Identity } from './admin/identify.ts';
import { NvmeController } from './controller.ts';
import type { ControllerOptions } from './controller-parts.ts';
import { Health } from './health.ts';
import { type IdentityOptions, makeIdentity, withIdentifiers } from './identity.ts';
import { checkLimits } from './limiter.ts';
import { DOORBELL_BYTES } from './mapped-doorbells.ts';
import type { NamespaceOptions } from './namespace.ts';

/** A controller: its identity, its namespaces and its limits. */
export interface NvmeOptions extends IdentityOptions {
  /** Namespace 1, 2, …: none is fine, though no host can store anything then. */
  readonly namespaces: readonly NamespaceOptions[];
  /** I/O queues of each kind: 1 to 64. Default: 64. */
  readonly queues?: number;
  /** Entries of an I/O queue at most: 2 to 1024. Default: 1024. */
  readonly queueEntries?: number;
  /** Maximum Data Transfer Size, 4096 · 2^mdts bytes: 1 to 13. Default: 7 (512 KiB). */
  readonly mdts?: number;
  /**
   * 'mapped': users can map the doorbells (a page of BAR 0) and store to them, and the controller
   * polls. 'registers': each write of a doorbell is an access. Default: 'registers'.
   */
  readonly doorbells?: 'registers' | 'mapped';
  /** With some it is a physical function. */
  readonly vfs?: NvmeVirtualFunctions;
  /**
   * A resource that outlives each controller, such as an image. It is disposed together with the
   * model's `owns`.
   */
  readonly owns?: Disposable;
}

const NVME_IO_QUEUES_MAX = 64;
const NVME_QUEUE_ENTRIES_MAX = 1024;
const MDTS_MAX = 13;
/** Each is a controller with queues and storage of its own. */
const VFS_MAX = 255;
const VF_IO_QUEUES = 8;

const PCI = { vendor: 0x1234, device: 0x4e56, subsystemVendor: 0x1af4, subsystem: 0x1100 } as const;
const VF_DEVICE = 0x4e57;
/** The BAR of MSI-X: registers keep one to themselves, which is the shortest way for doorbells. */
const MSIX_BAR = 4;
const PAGE = 4096;

/**
 * Virtual functions: each is a controller of its own, with a subsystem, namespaces and a serial
 * number of its own.
 */
export interface NvmeVirtualFunctions {
  /** That it can have: 1 to 255. */
  readonly total: number;
  /**
   * Namespaces of VF `index`, from 0. The model calls this once, when the VF first exists, and
   * keeps the result as long as the device. No two functions may share a storage: a controller does
   * not notice another controller's writes.
   */
  readonly namespaces: (index: number) => readonly NamespaceOptions[];
  /** I/O queues of each VF: default: 8. */
  readonly queues?: number;
}

/** A disk as it lasts from one controller to the next: each moves it on. */
interface Disk {
  readonly identity: Identity;
  readonly namespaces: readonly NamespaceOptions[];
  readonly health: Health;
}

/** @throws VfioError EINVAL for options out of range */
export function nvme(options: NvmeOptions): DeviceModel {
  const ioQueues = between(options.queues ?? NVME_IO_QUEUES_MAX, 1, NVME_IO_QUEUES_MAX, 'queues');
  const entries = between(options.queueEntries ?? NVME_QUEUE_ENTRIES_MAX, 2, NVME_QUEUE_ENTRIES_MAX, 'queueEntries');
  const mdts = between(options.mdts ?? 7, 1, MDTS_MAX, 'mdts');
  const mappedDoorbells = mapsDoorbells(options.doorbells ?? 'registers');
  const disk = makeDisk(options, mdts, options.namespaces);
  const shape = { entries, mappedDoorbells };
  const sriov = options.vfs === undefined ? {} : { sriov: virtualFunctions(options, options.vfs, disk.identity.serial, shape, mdts) };
  return {
    declaration: declare(ioQueues + 1, 'physical', mappedDoorbells),
    create: (host: DeviceHost) => new NvmeController(host, { ...disk, ioQueues, ...shape }),
    ...sriov,
    ...(options.owns === undefined ? {} : { owns: options.owns }),
  };
}

function makeDisk(options: IdentityOptions, mdts: number, given: readonly NamespaceOptions[]): Disk {
  const identity = makeIdentity(options, PCI, mdts);
  const namespaces = given.map((n, i) => ({ ...withIdentifiers(n, identity.serial, i + 1) }));
  for (const { limits } of namespaces) if (limits !== undefined) checkLimits(limits);
  return { identity, namespaces, health: new Health() };
}

function virtualFunctions(
  options: IdentityOptions,
  vfs: NvmeVirtualFunctions,
  serial: string,
  shape: Pick<ControllerOptions, 'entries' | 'mappedDoorbells'>,
  mdts: number,
): SriovDeclaration {
  const totalVfs = between(vfs.total, 1, VFS_MAX, 'vfs');
  const ioQueues = between(vfs.queues ?? VF_IO_QUEUES, 1, NVME_IO_QUEUES_MAX, 'queues of a virtual function');
  const disks: Disk[] = [];
  const diskOf = (index: number) => {
    // A subsystem name in the options applies to the physical function alone.
    const { nqn: _, ...rest } = options;
    disks[index] ??= makeDisk({ ...rest, serial: vfSerial(serial, index) }, mdts, vfs.namespaces(index));
    return disks[index];
  };
  return {
    totalVfs,
    vf: {
      declaration: declare(ioQueues + 1, 'virtual', shape.mappedDoorbells),
      create: (host, index) => new NvmeController(host, { ...diskOf(index), ioQueues, ...shape }),
    },
  };
}

/** 20 characters at most. */
function vfSerial(serial: string, index: number): string {
  const suffix = `V${index + 1}`;
  return serial.slice(0, 20 - suffix.length) + suffix;
}

/**
 * @param vectors one for each completion queue
 * @param kind a virtual function has MSI-X alone, and no pin
 */
function declare(vectors: number, kind: 'physical' | 'virtual', mappedDoorbells: boolean): PciDeclaration {
  const registers = NvmeReg.DOORBELLS + 8 * vectors;
  const pbaOffset = Math.ceil((16 * vectors) / 8) * 8;
  const physical = kind === 'physical';
  return {
    name: physical ? 'nvme' : 'nvme-vf',
    ...PCI,
    ...(physical ? {} : { device: VF_DEVICE }),
    revision: 1,
    classCode: classCodes.nvme,
    bars: [
      {
        index: 0,
        size: powerOfTwo(registers),
        type: 'mem64',
        ...(mappedDoorbells ? { sparseAreas: [{ offset: NvmeReg.DOORBELLS, size: DOORBELL_BYTES }] } : {}),
      },
      { index: MSIX_BAR, size: Math.max(PAGE, powerOfTwo(pbaOffset + Math.ceil(vectors / 64) * 8)), type: 'mem32' },
    ],
    ...(physical ? { interruptPin: 1 as const } : {}),
    capabilities: [
      ...(physical ? [pm(), msi({ vectors: Math.min(32, powerOfTwo(vectors)) })] : []),
      pcie({ flr: true, maxPayload: 256, linkSpeed: 3, linkWidth: 4 }),
      msix({ vectors, tableBar: MSIX_BAR, tableOffset: 0, pbaBar: MSIX_BAR, pbaOffset }),
    ],
    // Linux's aer-inject, which tests a driver's recovery, needs AER.
    ...(physical ? { extendedCapabilities: [aer()] } : {}),
  };
}

/** The next power of two. */
function powerOfTwo(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}

function mapsDoorbells(doorbells: string): boolean {
  if (doorbells === 'mapped' || doorbells === 'registers') return doorbells === 'mapped';
  throw new VfioError('EINVAL', `doorbells is ${String(doorbells)}; it is registers or mapped`);
}

function between(value: number, min: number, max: number, what: string): number {
  checkIndex(value, max, what);
  if (value < min) throw new VfioError('EINVAL', `${what} is ${value}; it must be an integer from ${min} to ${max}`);
  return value;
}
