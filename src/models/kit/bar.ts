/**
 * A model's BARs, declared: `bar('4K', Card, { ident: { reset: 1 } })` for registers of a map, with
 * the behaviour laid over them, and `memory('16M')` for plain memory.
 */
import type { Doorbell } from '../../abi/device.ts';
import { type Check, flag, integer, keys, listOf, mapOf, oneOf, shownValue } from '../../base/declared.ts';
import { VfioError } from '../../base/errno.ts';
import { checkRegisters, type ModelView, type Registers } from '../../base/registers.ts';
import { type SizeText, sizeOf } from '../../base/size.ts';
import type { Behaviours } from './register.ts';
import { RegisterLayout } from './register-layout.ts';

/** Bytes, or '4K', '1M', '2G'. */
export type BarSize = number | SizeText;

/** The kind of a BAR. */
export interface BarPlacement {
  /** Default: 'mem32', or 'mem64' above 2 GiB. A 64-bit BAR takes the next index too. */
  readonly type?: 'mem32' | 'mem64' | 'io';
  /** Reads have no side effects (PCI, "Base Address Registers"). Default: false. */
  readonly prefetchable?: boolean;
  /**
   * False: the BAR cannot be mapped. Drivers and peers then reach it by reads and writes alone,
   * which a vfio-user client may post. Default: true.
   */
  readonly mappable?: boolean;
}

/** Where a BAR lies and what accesses between its registers do. */
export interface BarOptions extends BarPlacement {
  /**
   * The bits that a read finds where no register is; writes there are dropped. Default: 'zeros'.
   */
  readonly holes?: 'zeros' | 'ones';
  /** Registers whose writes may come as signals: see `Doorbell`. */
  readonly doorbells?: readonly Doorbell[];
}

/** A BAR of registers. */
export class RegisterBar<R extends Registers = Registers> {
  readonly backing = 'registers';
  readonly size: number;
  readonly type: 'mem32' | 'mem64' | 'io';
  readonly prefetchable: boolean;
  readonly mappable: boolean;
  readonly doorbells: readonly Doorbell[];
  readonly layout: RegisterLayout;
  readonly registers: R;

  constructor(size: number, registers: R, behaviours: Behaviours<R>, options: BarOptions) {
    this.size = size;
    this.type = options.type ?? placeFor(size);
    this.prefetchable = options.prefetchable ?? false;
    this.mappable = options.mappable ?? true;
    this.doorbells = options.doorbells ?? [];
    this.registers = registers;
    this.layout = new RegisterLayout(registers, behaviours, { end: size, room: 'its BAR', holesReadOnes: options.holes === 'ones' });
  }
}

/** A BAR of plain memory. */
export class MemoryBar {
  readonly backing = 'memory';
  readonly size: number;
  readonly type: 'mem32' | 'mem64';
  readonly prefetchable: boolean;
  readonly mappable: boolean;
  readonly doorbells: readonly Doorbell[] = [];

  constructor(size: number, options: BarPlacement) {
    if (options.type === 'io')
      throw new VfioError('EINVAL', 'an I/O BAR cannot be plain memory: it is not mapped, so every access reaches the model');
    this.size = size;
    this.type = options.type ?? placeFor(size);
    this.prefetchable = options.prefetchable ?? false;
    this.mappable = options.mappable ?? true;
  }
}

export type AnyBar = RegisterBar | MemoryBar;

/** A BAR as its model sees it: registers by name, or bytes. */
export type BarView<B> = B extends RegisterBar<infer R> ? ModelView<R> : B extends MemoryBar ? Uint8Array : never;

const placement = {
  type: oneOf('mem32', 'mem64', 'io'),
  prefetchable: flag,
  mappable: flag,
} satisfies Record<keyof BarPlacement, Check>;

/**
 * A BAR of registers.
 *
 * @param size bytes, a power of two, or '4K', '1M', '2G'
 * @param map the registers, as the device's drivers use them too
 * @param behaviours the behaviour of each, where it is more than to keep bits
 * @throws VfioError EINVAL for registers that overlap or do not lie in the BAR
 */
export function bar<R extends Registers>(size: BarSize, map: R, behaviours: Behaviours<R> = {}, options: BarOptions = {}): RegisterBar<R> {
  checkRegisters('bar()', map);
  keys({ ...placement, holes: oneOf('zeros', 'ones'), doorbells: listOf(mapOf(integer(0, 2 ** 48))) })(options, 'options of bar()');
  return new RegisterBar(barSize(size), map, behaviours, options);
}

/**
 * A BAR of plain memory, which drivers and peers may map. Its bytes survive a reset, as those of a
 * card do.
 */
export function memory(size: BarSize, options: BarPlacement = {}): MemoryBar {
  keys(placement)(options, 'options of memory()');
  return new MemoryBar(barSize(size), options);
}

/** Bytes of a region: a number, or text such as '4K'. NaN for anything else. */
export function regionSize(size: BarSize): number {
  return typeof size === 'number' ? size : typeof size === 'string' ? sizeOf(size) : Number.NaN;
}

function barSize(size: BarSize): number {
  const bytes = regionSize(size);
  if (!Number.isSafeInteger(bytes) || bytes < 4 || !Number.isInteger(Math.log2(bytes))) {
    throw new VfioError('EINVAL', `BAR size ${shownValue(size)}: give a power of two, in bytes or as '4K', '1M', '2G'`);
  }
  return bytes;
}

function placeFor(size: number): 'mem32' | 'mem64' {
  return size > 2 ** 31 ? 'mem64' : 'mem32';
}
