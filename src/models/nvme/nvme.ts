/**
 * An NVMe disk: a PCI function with a controller of NVM Express 1.4 over any number of storages, each of them a namespace.
 *
 *     nvme({ namespaces: [{ storage: new MemoryStorage(2 ** 30), blockSize: 4096 }] })
 */
import type { DeviceHost } from '../../abi/device-host.ts';
import { NvmeReg } from '../../abi/nvme.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import type { DeviceModel, PciDeclaration } from '../../pci/declaration.ts';
import { classCodes } from '../kit/class-codes.ts';
import { NvmeController } from './controller.ts';
import { Health } from './health.ts';
import { type IdentityOptions, makeIdentity, withIdentifiers } from './identity.ts';
import { checkLimits } from './limiter.ts';
import type { NamespaceOptions } from './namespace.ts';

export interface NvmeOptions extends IdentityOptions {
  /** Namespace 1, 2, …: none is fine, though nobody can store anything then. */
  readonly namespaces: readonly NamespaceOptions[];
  /** I/O queues of each kind: 1 to 64, 64 unless told. */
  readonly queues?: number;
  /** Entries of an I/O queue at most: 2 to 1024, 1024 unless told. */
  readonly queueEntries?: number;
  /** Maximum Data Transfer Size, 4096 · 2^mdts bytes: 1 to 13, 7 (512 KiB) unless told. */
  readonly mdts?: number;
  /** What outlives each controller, such as an image: disposed by whoever disposes of the model's `owns`. */
  readonly owns?: Disposable;
}

export const NVME_IO_QUEUES_MAX = 64;
export const NVME_QUEUE_ENTRIES_MAX = 1024;
const MDTS_MAX = 13;

const PCI = { vendor: 0x1234, device: 0x4e56, subsystemVendor: 0x1af4, subsystem: 0x1100 } as const;
/** The BAR of MSI-X: registers keep one to themselves, which is the shortest way for doorbells. */
const MSIX_BAR = 4;
const PAGE = 4096;

/** @throws VfioError EINVAL for options out of range */
export function nvme(options: NvmeOptions): DeviceModel {
  const ioQueues = between(options.queues ?? NVME_IO_QUEUES_MAX, 1, NVME_IO_QUEUES_MAX, 'queues');
  const entries = between(options.queueEntries ?? NVME_QUEUE_ENTRIES_MAX, 2, NVME_QUEUE_ENTRIES_MAX, 'queueEntries');
  const mdts = between(options.mdts ?? 7, 1, MDTS_MAX, 'mdts');
  const identity = makeIdentity(options, PCI, mdts);
  const namespaces = options.namespaces.map((n, i) => ({ ...withIdentifiers(n, identity.serial, i + 1) }));
  for (const { limits } of namespaces) if (limits !== undefined) checkLimits(limits);
  const health = new Health();
  return {
    declaration: declare(ioQueues + 1),
    create: (host: DeviceHost) => new NvmeController(host, { identity, namespaces, ioQueues, entries, health }),
    ...(options.owns === undefined ? {} : { owns: options.owns }),
  };
}

/** @param vectors  one for each completion queue */
function declare(vectors: number): PciDeclaration {
  const registers = NvmeReg.DOORBELLS + 8 * vectors;
  const pbaOffset = Math.ceil((16 * vectors) / 8) * 8;
  return {
    name: 'nvme',
    ...PCI,
    revision: 1,
    classCode: classCodes.nvme,
    bars: [
      { index: 0, size: powerOfTwo(registers), type: 'mem64' },
      { index: MSIX_BAR, size: Math.max(PAGE, powerOfTwo(pbaOffset + Math.ceil(vectors / 64) * 8)), type: 'mem32' },
    ],
    interruptPin: 1,
    capabilities: [
      pm(),
      msi({ vectors: Math.min(32, powerOfTwo(vectors)) }),
      pcie({ flr: true, maxPayload: 256, linkSpeed: 3, linkWidth: 4 }),
      msix({ vectors, tableBar: MSIX_BAR, tableOffset: 0, pbaBar: MSIX_BAR, pbaOffset }),
    ],
  };
}

/** The next power of two. */
function powerOfTwo(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}

function between(value: number, min: number, max: number, what: string): number {
  checkIndex(value, max, what);
  if (value < min) throw new VfioError('EINVAL', `${what} is ${value}; it must be an integer from ${min} to ${max}`);
  return value;
}
