/** The models that come with the package, by the name that machines and `sim:` addresses use. */
import type { Storage } from '../abi/storage.ts';
import type { Wire } from '../abi/wire.ts';
import { hex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { SIZE_FORMS, sizeOf } from '../base/size.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { intel82576 } from './82576/82576.ts';
import { POOLS } from './82576/parts.ts';
import { bench } from './bench/bench.ts';
import { type EduOptions, edu } from './edu/edu.ts';
import { endpointTest } from './endpoint-test/endpoint-test.ts';
import { nvme } from './nvme/nvme.ts';
import { MemoryStorage } from './storage/memory-storage.ts';
import { virtioRng } from './virtio-rng/virtio-rng.ts';
import type { Impairments } from './wires/lane.ts';

/** Options as YAML or a command line gives them. */
export type ModelOptions = Readonly<Record<string, unknown>>;

/**
 * @throws VfioError EINVAL for an option that the model does not have, or a value it cannot take
 */
export type ModelFactory = (options?: ModelOptions) => DeviceModel;

/** The models that ship, by the name that addresses and machine files use. */
export const models = {
  /** QEMU's teaching device. Options: those of `EduOptions`, as text or numbers. */
  edu: (options = {}) =>
    edu(read<EduOptions>('edu', options, { dmaMask: u64, factorialMs: duration, dmaMs: duration, vfs: vfCount(MAX_VFS), migration: flag })),
  /** A device for measurements, without options. */
  bench: (options = {}) => {
    read<object>('bench', options, {});
    return bench();
  },
  /** The card of Linux's `pci_endpoint_test`, without options. */
  'endpoint-test': (options = {}) => {
    read<object>('endpoint-test', options, {});
    return endpointTest();
  },
  /** A disk in memory, sparse: it is gone with the process. */
  nvme: (options = {}) => nvmeOver(inMemory, options),
  /** Intel's gigabit Ethernet card. A wire is for `api` to open: without one it has no link. */
  '82576': (options = {}) => ethernetOver(noWires, options),
  /** Entropy of the computer, by virtio; without options. */
  'virtio-rng': (options = {}) => {
    read<object>('virtio-rng', options, {});
    return virtioRng();
  },
} as const satisfies Record<string, ModelFactory>;

/** Where a port is plugged in, as machine files and addresses say it. */
export interface WireOptions extends Impairments {
  /**
   * `switch:NAME`, `hub:NAME`, `cable:NAME`, `tap:INTERFACE`, `stream:PATH`, `stream-listen:PATH`,
   * `dgram:PATH`, `fd:NUMBER`, `pcap:FILE`. Default: nothing, so that there is no link.
   */
  readonly wire?: string;
  /** Of `dgram`: the peer's address. */
  readonly remote?: string;
  /** Of `pcap`: the times of its frames. Default: 'recorded'. */
  readonly pace?: 'recorded' | 'fast';
  /** A file for all frames of the port: pcapng. */
  readonly capture?: string;
}

/** A wire that was opened for one port. */
export interface OpenedWire {
  /** Disposed with the model. */
  readonly wire: Wire;
  /** See `DeviceModel.sharesWith`. */
  readonly sharesWith?: string;
}

/** Options of the Ethernet card. */
export interface EthernetModelOptions extends WireOptions {
  /** The address in its EEPROM. Default: a random one. */
  readonly mac?: string;
  /** How many virtual functions it can have, up to 8. Default: 8. */
  readonly vfs?: number;
}

/** Models know no wires of the computer. @throws VfioError EINVAL for an option of a wire */
function noWires(options: WireOptions): null {
  const [name] = Object.keys(options);
  if (name === undefined) return null;
  throw new VfioError('EINVAL', `this model has no wires for its option '${name}'`, {
    fix: 'Give it to vfio serve, open() or a machine in a file, or give a Wire to intel82576().',
  });
}

/**
 * The 82576 of the registry, on the wire that `open` opens; null: it has none.
 * @throws VfioError EINVAL for its options; what `open` throws
 */
export function ethernetOver(open: (wire: WireOptions) => OpenedWire | null, options: ModelOptions): DeviceModel {
  const { mac, vfs, ...wireOptions } = read<EthernetModelOptions>('82576', options, ethernetReaders);
  const opened = open(wireOptions);
  const card = given({ mac, vfs });
  if (opened === null) return intel82576(card);
  using undo = new Cleanup();
  const { wire, sharesWith } = opened;
  undo.use(wire);
  const model = { ...intel82576({ ...card, wire }), owns: wire, ...given({ sharesWith }) };
  undo.move();
  return model;
}

/** Options for the place of a disk's blocks. */
export interface DiskOptions {
  /** Files or block devices, a namespace each; none: memory. */
  readonly images?: readonly string[];
  /** Bytes of each; default in memory: 1 GiB. */
  readonly size?: number;
  readonly blockSize: 512 | 4096;
  /**
   * The images are raw, whatever they look like. Default: an image that looks like another format
   * is refused.
   */
  readonly format?: 'raw';
  /** It refuses writes. */
  readonly readonly?: boolean;
  /** Written data stays in memory, and the image as it is. */
  readonly overlay?: boolean;
}

/** A storage for each namespace. */
export interface OpenedDisks {
  readonly storages: readonly Storage[];
  /** Of the disk, by default: the same each time these are opened. */
  readonly serial?: string;
  readonly owns: Disposable;
}

/** Default size of a disk in memory; only written pages take room. */
const MEMORY_BYTES = 2 ** 30;

/** Models know no files. @throws VfioError EINVAL for what needs an image */
export function inMemory({ images, size = MEMORY_BYTES, format, readonly, overlay }: DiskOptions): OpenedDisks {
  if (images !== undefined || format !== undefined || readonly === true || overlay === true) {
    throw new VfioError('EINVAL', 'this disk is in memory: it has no image', {
      fix: 'Give an image, to vfio serve, open() or a machine in a file.',
    });
  }
  const storage = new MemoryStorage(size);
  return { storages: [storage], owns: storage };
}

/** Options of a disk. */
export interface NvmeModelOptions {
  readonly image?: readonly string[];
  readonly size?: number;
  readonly blockSize?: number;
  readonly format?: 'raw';
  readonly readonly?: boolean;
  readonly overlay?: boolean;
  /** I/O queues, and entries of each; MDTS. */
  readonly queues?: number;
  readonly queueEntries?: number;
  readonly mdts?: number;
  /** Whether users can map the doorbells. Default: 'registers'. */
  readonly doorbells?: 'registers' | 'mapped';
  readonly serial?: string;
  readonly model?: string;
  /** Virtual functions that it can have, each with a disk of its own. Default: 0. */
  readonly vfs?: number;
  /** Bytes of the disk of each VF, as `size`. */
  readonly vfSize?: number;
  /** Files or block devices, one for each VF; none: memory. */
  readonly vfImage?: readonly string[];
  /** Limits of the namespace, for testing drivers. */
  readonly iops?: number;
  readonly bytesPerSecond?: number;
  readonly latencyMs?: number;
}

/**
 * The nvme of the registry over whatever `open` opens.
 * @throws VfioError EINVAL for its options; what `open` throws
 */
export function nvmeOver(open: (disk: DiskOptions) => OpenedDisks, options: ModelOptions): DeviceModel {
  const {
    image,
    size,
    blockSize = 512,
    format,
    readonly,
    overlay,
    iops,
    bytesPerSecond,
    latencyMs,
    vfs: total = 0,
    vfSize,
    vfImage,
    ...rest
  } = read<NvmeModelOptions>('nvme', options, nvmeReaders);
  if (blockSize !== 512 && blockSize !== 4096) throw new VfioError('EINVAL', `nvme's blockSize is ${blockSize}; it is 512 or 4096`);
  const limits = given({ iops, bytesPerSecond, latencyMs });
  using undo = new Cleanup();
  const { storages, serial, owns } = open({
    blockSize,
    ...given({ images: image, size, format: image === undefined && vfImage !== undefined ? undefined : format, readonly, overlay }),
  });
  undo.use(owns);
  const namespaces = storages.map((storage) => ({ storage, blockSize, limits }) as const);
  const vfs =
    total === 0
      ? {}
      : {
          vfs: {
            total,
            namespaces: vfDisks(
              open,
              total,
              { blockSize, ...given({ size: vfSize, images: vfImage, format: vfImage === undefined ? undefined : format }) },
              undo,
            ),
          },
        };
  if (total === 0 && (vfSize !== undefined || vfImage !== undefined)) throw new VfioError('EINVAL', 'nvme has disks for VFs and no vfs');
  const all = undo.move();
  undo.use(all);
  const model = nvme({ ...given({ serial }), ...rest, ...vfs, namespaces, owns: all });
  undo.move();
  return model;
}

/**
 * The disks of virtual functions: images are opened now, so that an error in one is reported
 * now.
 * @throws VfioError EINVAL for too few images
 */
function vfDisks(open: (disk: DiskOptions) => OpenedDisks, total: number, disk: DiskOptions, undo: Cleanup) {
  const { images, blockSize } = disk;
  if (images !== undefined && images.length !== total) {
    throw new VfioError('EINVAL', `nvme has ${total} vfs and ${images.length} images for them`, {
      fix: 'Give vfImage once for each VF, or leave it out.',
    });
  }
  const disks = Array.from({ length: total }, (_, i) => {
    const { storages, owns } = open({ ...disk, ...given({ images: images?.slice(i, i + 1) }) });
    undo.use(owns);
    return storages.map((storage) => ({ storage, blockSize }));
  });
  return (index: number) => disks[index]!;
}

/** Without what is undefined. */
function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

type Reader<T> = (value: unknown, what: string) => T;

function read<T extends object>(model: string, options: ModelOptions, readers: { [K in keyof Required<T>]: Reader<T[K]> }): T {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(readers, name)) {
      const names = Object.keys(readers);
      throw new VfioError('EINVAL', `${model} has no option '${name}'`, {
        fix: names.length === 0 ? 'It has no options.' : `It has ${names.join(', ')}.`,
      });
    }
    out[name] = readers[name as keyof T](value, `${model}'s ${name}`);
  }
  return out as T;
}

const u64: Reader<bigint> = (value, what) => {
  const text = typeof value === 'bigint' || Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text === 'string' && /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text) && BigInt(text) < 2n ** 64n) return BigInt(text);
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be an integer from 0 to ${hex(2n ** 64n - 1n)}`);
};

const duration: Reader<number> = (value, what) => {
  const ms = typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  if (typeof ms === 'number' && ms >= 0 && ms <= 60_000) return ms;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be from 0 to 60000 milliseconds`);
};

/** Each is a model of its own. */
const MAX_VFS = 255;

const vfCount =
  (most: number): Reader<number> =>
  (value, what) => {
    const count = typeof value === 'string' && /^\d{1,3}$/.test(value) ? Number(value) : value;
    if (typeof count === 'number' && Number.isInteger(count) && count >= 0 && count <= most) return count;
    throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be from 0 to ${most} virtual functions`);
  };

const size: Reader<number> = (value, what) => {
  const bytes = typeof value === 'string' ? sizeOf(value) : value;
  if (typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; give ${SIZE_FORMS}`);
};

const integer: Reader<number> = (value, what) => {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be an integer`);
};

const string: Reader<string> = (value, what) => {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be text`);
};

const flag: Reader<boolean> = (value, what) => {
  if (value === true || value === 'true') return true;
  if (value === false || value === 'false') return false;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it is true or false`);
};

const rawFormat: Reader<'raw'> = (value, what) => {
  if (value === 'raw') return value;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; images are raw`, {
    fix: 'Make a raw image of another one: qemu-img convert -O raw image disk.img.',
  });
};

const doorbellKind: Reader<'registers' | 'mapped'> = (value, what) => {
  if (value === 'registers' || value === 'mapped') return value;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it is registers or mapped`);
};

const texts: Reader<readonly string[]> = (value, what) => (Array.isArray(value) ? value : [value]).map((each) => string(each, what));

const chance: Reader<number> = (value, what) => {
  const number = typeof value === 'string' && /^(\d+(\.\d+)?|\.\d+)$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && number >= 0 && number <= 1) return number;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it is a probability, from 0 to 1`, { fix: 'One of a hundred is 0.01.' });
};

const pace: Reader<'recorded' | 'fast'> = (value, what) => {
  if (value === 'recorded' || value === 'fast') return value;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it is recorded or fast`);
};

/** As tc(8) writes it: `100mbit`, or bits per second. */
const bitRate: Reader<number> = (value, what) => {
  const [, digits, unit = ''] = typeof value === 'string' ? (/^(\d+(?:\.\d+)?)([kmg]?bit)?$/i.exec(value) ?? []) : [];
  const factor = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 }[unit.toLowerCase()] ?? 1;
  const bits = digits === undefined ? value : Number(digits) * factor;
  if (typeof bits === 'number' && bits > 0 && bits <= 1e15) return bits;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it is no number of bits per second`, {
    fix: 'Give bits per second, or 64kbit, 100mbit, 1gbit.',
  });
};

const ethernetReaders = {
  mac: string,
  vfs: vfCount(POOLS),
  wire: string,
  remote: string,
  pace,
  capture: string,
  loss: chance,
  duplicate: chance,
  reorder: chance,
  delayMs: duration,
  jitterMs: duration,
  rate: bitRate,
  seed: integer,
} satisfies { [K in keyof Required<EthernetModelOptions>]: Reader<NonNullable<EthernetModelOptions[K]>> };

const nvmeReaders = {
  image: texts,
  size,
  blockSize: size,
  format: rawFormat,
  readonly: flag,
  overlay: flag,
  queues: integer,
  queueEntries: integer,
  mdts: integer,
  doorbells: doorbellKind,
  serial: string,
  model: string,
  vfs: vfCount(MAX_VFS),
  vfSize: size,
  vfImage: texts,
  iops: integer,
  bytesPerSecond: size,
  latencyMs: duration,
} satisfies { [K in keyof Required<NvmeModelOptions>]: Reader<NonNullable<NvmeModelOptions[K]>> };

function shown(value: unknown): string {
  return String(value).slice(0, 40);
}
