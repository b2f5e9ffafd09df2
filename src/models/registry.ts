/** The models that come with the package, by the name that machines and `sim:` addresses use. */
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { bench } from './bench/bench.ts';
import { type EduOptions, edu } from './edu/edu.ts';

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
} as const satisfies Record<string, ModelFactory>;

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

function shown(value: unknown): string {
  return String(value).slice(0, 40);
}
