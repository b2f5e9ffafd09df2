/**
 * A device's file without a kernel's VFIO: memory in the place of the device, in which region
 * `index` begins at `index` MiB, and the answers of VFIO_DEVICE_GET_REGION_INFO.
 */
import { RegionFlags } from '../../src/abi/vfio.ts';
import { InfoCapHeader, RegionInfo, RegionInfoCapSparseMmap, SparseMmapArea } from '../../src/abi/vfio-structs.ts';
import { Cleanup } from '../../src/base/cleanup.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EventStream } from '../../src/events/stream.ts';
import type { KernelPort } from '../../src/kernel/device-port.ts';
import { addon, Sys } from '../../src/sys/addon.ts';
import { KernelFile } from '../../src/sys/kernel-file.ts';
import { OwnedFd } from '../../src/sys/owned-fd.ts';

const MIB = 2 ** 20;
const { READ, WRITE, MMAP, CAPS } = RegionFlags;

export interface RigRegion {
  readonly size: number;
  /** Default: READ, WRITE and MMAP. */
  readonly flags?: number;
  readonly sparse?: readonly (readonly [offset: number, size: number])[];
  readonly msixMappable?: boolean;
}

export class KernelRig implements Disposable {
  readonly file: KernelFile;
  readonly stream = new EventStream();
  readonly port: KernelPort;
  /** Requests of the device. */
  calls = 0;
  /** Errnos of accesses, as the device heard of them. */
  readonly failures: number[] = [];
  readonly mappings = new Set<object>();
  closed = false;
  /** The kernel has removed the device. */
  gone = false;
  readonly #undo = new Cleanup();

  /** @param file in place of memory */
  constructor(regions: Readonly<Record<number, RigRegion>>, file?: KernelFile) {
    this.#undo.use(this.stream);
    const memory = () => KernelFile.own(OwnedFd.own(addon().memfdCreate('device', Sys.MFD_CLOEXEC), 'a device'), 'the device');
    this.file = this.#undo.use(file ?? memory());
    if (file === undefined) this.resize(16 * MIB);
    const rig = this;
    this.port = {
      name: '0000:03:00.0',
      file: this.file,
      source: this.stream.source('0000:03:00.0'),
      get closed() {
        return rig.closed;
      },
      checkOpen: () => {
        if (this.closed || this.gone) throw new VfioError('ENODEV', '0000:03:00.0: the device is closed');
      },
      call: (_, argument) => {
        this.calls++;
        const view = new DataView((argument as Uint8Array).buffer);
        const region = regions[RegionInfo.index.get(view, 0)];
        if (region === undefined) throw new VfioError('EINVAL', 'there is no such region');
        answer(view, region);
        return 0;
      },
      failed: (result) => void this.failures.push(result),
      held: (mapping) => void this.mappings.add(mapping),
      dropped: (mapping) => void this.mappings.delete(mapping),
    };
  }

  /** The file ends there: accesses behind it fail. */
  resize(bytes: number): void {
    addon().ftruncate(this.file.fd.number, bytes);
  }

  bytes(region: number, offset: number, size: number): number[] {
    const into = new Uint8Array(size);
    this.file.pread(region * MIB + offset, into);
    return [...into];
  }

  fill(region: number, offset: number, bytes: readonly number[]): void {
    this.file.pwrite(region * MIB + offset, Uint8Array.from(bytes));
  }

  [Symbol.dispose](): void {
    this.#undo[Symbol.dispose]();
  }
}

/** As linux/drivers/vfio/vfio_main.c: without room for the chain, its size alone. */
function answer(view: DataView, { size, flags = READ | WRITE | MMAP, sparse, msixMappable }: RigRegion): void {
  const room = RegionInfo.argsz.get(view, 0);
  const index = RegionInfo.index.get(view, 0);
  const sparseBytes = sparse === undefined ? 0 : RegionInfoCapSparseMmap.structSize + sparse.length * SparseMmapArea.structSize;
  const whole = RegionInfo.structSize + sparseBytes + (msixMappable === true ? InfoCapHeader.structSize : 0);
  const has = whole > RegionInfo.structSize;
  const fits = room >= whole;
  RegionInfo.encode(view, 0, {
    argsz: fits ? room : whole,
    flags: flags | (has ? CAPS : 0),
    index,
    cap_offset: has && fits ? RegionInfo.structSize : 0,
    size: BigInt(size),
    offset: BigInt(index * MIB),
  });
  if (!has || !fits) return;
  let at = RegionInfo.structSize;
  if (sparse !== undefined) {
    RegionInfoCapSparseMmap.encode(view, at, {
      id: 1,
      version: 1,
      next: msixMappable === true ? at + sparseBytes : 0,
      nr_areas: sparse.length,
    });
    sparse.forEach(([offset, length], i) => {
      const to = at + RegionInfoCapSparseMmap.structSize + i * SparseMmapArea.structSize;
      SparseMmapArea.encode(view, to, { offset: BigInt(offset), size: BigInt(length) });
    });
    at += sparseBytes;
  }
  if (msixMappable === true) InfoCapHeader.encode(view, at, { id: 3, version: 1, next: 0 });
}
