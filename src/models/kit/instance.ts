/** One device of a kind, from its other side: a UART's line, a disk's lamp. */
import type { Model } from '../../abi/device-host.ts';

/** Functions of `outputs`. */
export type Outputs = Readonly<Record<string, (...args: never) => unknown>>;

type ArgumentsOf<A> = A extends readonly unknown[] ? A : never;

/**
 * Functions of `inputs`, whose first parameter is the device. @typeParam I the other parameters of
 * each, by name
 */
export type Inputs<I, D> = { readonly [K in keyof I]: (dev: D, ...args: ArgumentsOf<I[K]>) => unknown };

/**
 * One device that `device()` declared. Its `Model` half is for the bus; a program reaches the other
 * half: `open(model)`, `serve(model)` and `TestHost` hand the instance out. It stays the same
 * through resets.
 */
export interface Instance<I = unknown, O = unknown> extends Model {
  /** The world's effects on the device. */
  readonly inputs: { readonly [K in keyof I]: (...args: ArgumentsOf<I[K]>) => void };
  /**
   * Calls `listener` at each output of that name.
   * @throws VfioError EINVAL for an output that the device does not have
   */
  on<K extends keyof O & string>(
    output: K,
    listener: (...args: O[K] extends (...args: infer A) => unknown ? A : never) => unknown,
  ): Disposable;
  /** Handlers that wait, and how many of them wait for the device's clock. */
  readonly waiting: { readonly handlers: number; readonly clock: number };
}
