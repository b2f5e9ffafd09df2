/** The models that come with the package, by the name that machines and `sim:` addresses use. */
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { bench } from './bench/bench.ts';
import { type EduOptions, edu } from './edu/edu.ts';
import { nvme } from './nvme/nvme.ts';
import { MemoryStorage } from './storage/memory-storage.ts';

/** Options as YAML or a command line gives them. */
export type ModelOptions = Readonly<Record<string, unknown>>;

/** @throws VfioError EINVAL for an option that the model does not have, or a value it cannot take */
export type ModelFactory = (options?: ModelOptions) => DeviceModel;

export const models = {
  edu: (options = {}) => edu(read<EduOptions>('edu', options, { dmaMask: u64, factorialMs: duration, dmaMs: duration, vfs: vfCount })),
  bench: (options = {}) => {
    read<object>('bench', options, {});
    return bench();
  },
  /** A disk in memory, sparse: it is gone with the process. */
  nvme: (options = {}) => memoryDisk(read<NvmeModelOptions>('nvme', options, nvmeReaders)),
} as const satisfies Record<string, ModelFactory>;

/** What can be told of a disk in memory. */
export interface NvmeModelOptions {
  /** Bytes of the namespace; 1 GiB unless told. */
  readonly size?: number;
  readonly blockSize?: number;
  /** I/O queues, and entries of each; MDTS. */
  readonly queues?: number;
  readonly queueEntries?: number;
  readonly mdts?: number;
  readonly serial?: string;
  readonly model?: string;
  /** Limits of the namespace, for testing drivers. */
  readonly iops?: number;
  readonly bytesPerSecond?: number;
  readonly latencyMs?: number;
}

function memoryDisk(options: NvmeModelOptions): DeviceModel {
  const { size = 2 ** 30, blockSize = 512, iops, bytesPerSecond, latencyMs, ...rest } = options;
  if (blockSize !== 512 && blockSize !== 4096) throw new VfioError('EINVAL', `nvme's blockSize is ${blockSize}; it is 512 or 4096`);
  const limits = {
    ...(iops === undefined ? {} : { iops }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
  };
  const storage = new MemoryStorage(size);
  return nvme({ ...rest, namespaces: [{ storage, blockSize, limits }], owns: storage });
}

type Reader<T> = (value: unknown, what: string) => T;

function read<T extends object>(model: string, options: ModelOptions, readers: { [K in keyof Required<T>]: Reader<T[K]> }): T {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(readers, name)) {
      throw new VfioError('EINVAL', `${model} has no option '${name}'`, { fix: `It has ${Object.keys(readers).join(', ')}.` });
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

/** One bus holds no more behind a root port. */
const MAX_VFS = 255;

const vfCount: Reader<number> = (value, what) => {
  const count = typeof value === 'string' && /^\d{1,3}$/.test(value) ? Number(value) : value;
  if (typeof count === 'number' && Number.isInteger(count) && count >= 0 && count <= MAX_VFS) return count;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; it must be from 0 to ${MAX_VFS} virtual functions`);
};

const size: Reader<number> = (value, what) => {
  const match = typeof value === 'string' ? /^(\d{1,15})([KMGT]?)$/i.exec(value) : null;
  const bytes = match === null ? value : Number(match[1]) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf(match[2]!.toUpperCase());
  if (typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new VfioError('EINVAL', `${what} is ${shown(value)}; write a size such as 4096, 64M or 1G`);
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

const nvmeReaders = {
  size,
  blockSize: size,
  queues: integer,
  queueEntries: integer,
  mdts: integer,
  serial: string,
  model: string,
  iops: integer,
  bytesPerSecond: size,
  latencyMs: duration,
} satisfies { [K in keyof Required<NvmeModelOptions>]: Reader<NonNullable<NvmeModelOptions[K]>> };

function shown(value: unknown): string {
  return String(value).slice(0, 40);
}
