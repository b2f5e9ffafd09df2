/** Features: what the host may set, and reads back (NVMe 1.4, 5.13, 5.21, 7.8). */

import { FEATURE_SAVE, FeatureCapability, FeatureId, FeatureSelect, NSID_ALL } from '../../../abi/nvme.ts';
import { refused, Status } from '../../../abi/nvme-status.ts';
import { Timestamp } from '../../../abi/nvme-structs.ts';
import type { Clock } from '../../../base/clock.ts';
import type { Command } from '../command.ts';
import { WARNING_TEMPERATURE } from '../health.ts';
import { roundKeepAlive } from '../keep-alive.ts';

/** The parts that features act on. */
export interface FeatureTarget {
  /** I/O queues of each kind that there are. */
  readonly ioQueues: number;
  /** I/O queues exist: their number is not to be changed any more. */
  readonly hasIoQueues: boolean;
  /** Interrupt vectors of MSI-X. */
  readonly vectors: number;
  /** There is a volatile write cache. */
  readonly writeCache: boolean;
  hasNamespace(nsid: number): boolean;
  /** The current value of `id` has changed: by the host, or because of a reset. */
  changed(id: number): void;
}

/** One feature of one value. */
interface Feature {
  readonly initial: number;
  /** Bits of CDW11 that are kept. */
  readonly mask: number;
  readonly saveable: boolean;
  readonly perNamespace?: boolean;
}

const SAVED = { saveable: true } as const;
const NOT_SAVED = { saveable: false } as const;

/** Arbitration: a burst without limit. */
export const BURST_UNLIMITED = 7;

const table: Readonly<Record<number, Feature>> = {
  [FeatureId.ARBITRATION]: { initial: BURST_UNLIMITED, mask: 0xffff_ff07, ...SAVED },
  [FeatureId.POWER_MANAGEMENT]: { initial: 0, mask: 0xff, ...SAVED },
  [FeatureId.TEMPERATURE_THRESHOLD]: { initial: WARNING_TEMPERATURE, mask: 0xffff, ...SAVED },
  [FeatureId.ERROR_RECOVERY]: { initial: 0, mask: 0xffff, ...SAVED, perNamespace: true },
  [FeatureId.VOLATILE_WRITE_CACHE]: { initial: 1, mask: 1, ...SAVED },
  [FeatureId.NUMBER_OF_QUEUES]: { initial: 0, mask: 0xffff_ffff, ...NOT_SAVED },
  [FeatureId.INTERRUPT_COALESCING]: { initial: 0, mask: 0xffff, ...SAVED },
  [FeatureId.INTERRUPT_VECTOR_CONFIGURATION]: { initial: 0, mask: 0x1_ffff, ...NOT_SAVED },
  [FeatureId.WRITE_ATOMICITY_NORMAL]: { initial: 0, mask: 1, ...SAVED },
  [FeatureId.ASYNC_EVENT_CONFIGURATION]: { initial: 0, mask: 0x13f, ...SAVED },
  [FeatureId.TIMESTAMP]: { initial: 0, mask: 0, ...NOT_SAVED },
  [FeatureId.KEEP_ALIVE_TIMER]: { initial: 0, mask: 0xffff_ffff, ...NOT_SAVED },
};

/** Power states: NPSS is 0. */
const POWER_STATES = 1;
/**
 * Temperature Threshold, CDW11: TMPSEL in 19:16 (0 composite, 15 all), THSEL in 21:20 (0 over, 1
 * under).
 */
const ALL_SENSORS = 15;
/** Error Recovery, DULBE: errors for deallocated blocks, which NSFEAT does not offer. */
const DULBE = 0x1_0000;

export class Features {
  /** Temperature Threshold: over and under, Kelvin. */
  over = WARNING_TEMPERATURE;
  under = 0;
  /** I/O queues that the host was given. */
  submissionQueues: number;
  completionQueues: number;
  /** Interrupt Vector Configuration: the vector that was set last, for `changed`. */
  vector = 0;
  readonly #target: FeatureTarget;
  readonly #clock: Clock;
  /** By feature; those of namespaces by feature and NSID. */
  readonly #current = new Map<number, number>();
  readonly #saved = new Map<number, number>();
  readonly #uncoalesced: Uint8Array;
  /** Timestamp: what was set, and when. */
  #stamp = 0;
  #stampOrigin = 0n;
  #stampNs: number;

  constructor(target: FeatureTarget, clock: Clock) {
    this.#target = target;
    this.#clock = clock;
    this.#uncoalesced = new Uint8Array(target.vectors);
    this.submissionQueues = target.ioQueues;
    this.completionQueues = target.ioQueues;
    this.#stampNs = clock.nowNs();
  }

  /** The current value of a feature of one value. */
  value(id: number, nsid = 0): number {
    return this.#current.get(key(id, nsid)) ?? this.#fallback(id, nsid);
  }

  /** Whether coalescing is disabled for `vector`. */
  uncoalesced(vector: number): boolean {
    return this.#uncoalesced[vector] === 1;
  }

  /** Controller reset (7.8): what was saved is current, else the default. */
  reset(): void {
    this.#current.clear();
    this.#uncoalesced.fill(0);
    this.submissionQueues = this.#target.ioQueues;
    this.completionQueues = this.#target.ioQueues;
    this.over = this.#saved.get(TEMPERATURE_OVER) ?? WARNING_TEMPERATURE;
    this.under = this.#saved.get(TEMPERATURE_UNDER) ?? 0;
    this.#stamp = 0;
    this.#stampOrigin = 0n;
    this.#stampNs = this.#clock.nowNs();
    for (const id of Object.keys(table)) this.#target.changed(Number(id));
  }

  /** Bytes that Set Features brings, or Get Features gives, beside dword 0. */
  dataSize(id: number): number {
    return id === FeatureId.TIMESTAMP ? Timestamp.SIZE : 0;
  }

  /**
   * Why `command` cannot set its feature; SUCCESS when `set` may.
   *
   * @param command  Set Features   @returns a status
   */
  check(command: Command): number {
    const { dw, nsid } = command;
    const id = dw[10]! & 0xff;
    const value = dw[11]!;
    const feature = this.#feature(id);
    if (feature === undefined) return refused(Status.INVALID_FIELD);
    if (dw[10]! >= FEATURE_SAVE && !feature.saveable) return refused(Status.FEATURE_NOT_SAVEABLE);
    if (feature.perNamespace === true) {
      if (nsid !== 0 && nsid !== NSID_ALL && !this.#target.hasNamespace(nsid)) return refused(Status.INVALID_NAMESPACE);
    } else if (nsid !== 0 && nsid !== NSID_ALL) return refused(Status.FEATURE_NOT_NAMESPACE_SPECIFIC);
    switch (id) {
      case FeatureId.POWER_MANAGEMENT:
        return (value & 0x1f) < POWER_STATES ? Status.SUCCESS : refused(Status.INVALID_FIELD);
      case FeatureId.TEMPERATURE_THRESHOLD: {
        const sensor = (value >>> 16) & 0xf;
        return ((value >>> 20) & 3) < 2 && (sensor === 0 || sensor === ALL_SENSORS) ? Status.SUCCESS : refused(Status.INVALID_FIELD);
      }
      case FeatureId.ERROR_RECOVERY:
        return (value & DULBE) === 0 ? Status.SUCCESS : refused(Status.INVALID_FIELD);
      case FeatureId.NUMBER_OF_QUEUES:
        if ((value & 0xffff) === 0xffff || value >>> 16 === 0xffff) return refused(Status.INVALID_FIELD);
        return this.#target.hasIoQueues ? refused(Status.COMMAND_SEQUENCE_ERROR) : Status.SUCCESS;
      case FeatureId.INTERRUPT_VECTOR_CONFIGURATION:
        return (value & 0xffff) < this.#target.vectors ? Status.SUCCESS : refused(Status.INVALID_FIELD);
      default:
        return Status.SUCCESS;
    }
  }

  /**
   * Sets a feature. `check` has returned SUCCESS.
   * @param data the command's data
   * @returns dword 0 of the completion
   */
  set(command: Command, data: Uint8Array): number {
    const { dw, nsid } = command;
    const id = dw[10]! & 0xff;
    const value = dw[11]!;
    const save = dw[10]! >= FEATURE_SAVE;
    let result = 0;
    switch (id) {
      case FeatureId.TEMPERATURE_THRESHOLD: {
        const under = ((value >>> 20) & 3) === 1;
        if (under) this.under = value & 0xffff;
        else this.over = value & 0xffff;
        if (save) this.#saved.set(under ? TEMPERATURE_UNDER : TEMPERATURE_OVER, value & 0xffff);
        break;
      }
      case FeatureId.NUMBER_OF_QUEUES:
        this.submissionQueues = Math.min((value & 0xffff) + 1, this.#target.ioQueues);
        this.completionQueues = Math.min((value >>> 16) + 1, this.#target.ioQueues);
        result = this.#numberOfQueues();
        break;
      case FeatureId.INTERRUPT_VECTOR_CONFIGURATION:
        this.vector = value & 0xffff;
        this.#uncoalesced[this.vector] = (value >>> 16) & 1;
        break;
      case FeatureId.TIMESTAMP:
        this.#stamp = Number(new DataView(data.buffer, data.byteOffset, Timestamp.SIZE).getBigUint64(0, true) & Timestamp.VALUE_MASK);
        this.#stampOrigin = Timestamp.ORIGIN_HOST;
        this.#stampNs = this.#clock.nowNs();
        break;
      default: {
        const feature = table[id]!;
        const kept = id === FeatureId.KEEP_ALIVE_TIMER ? roundKeepAlive(value) : (value & feature.mask) >>> 0;
        if (feature.perNamespace !== true) this.#store(key(id, 0), kept, save);
        else if (nsid !== 0 && nsid !== NSID_ALL) this.#store(key(id, nsid), kept, save);
        else for (let n = 1; this.#target.hasNamespace(n); n++) this.#store(key(id, n), kept, save);
      }
    }
    this.#target.changed(id);
    return result;
  }

  /** Get Features: a status, and dword 0 in `result`. A feature with data is read with `data`. */
  get(command: Command): { status: number; result: number } {
    const { dw, nsid } = command;
    const id = dw[10]! & 0xff;
    const select = (dw[10]! >>> 8) & 7;
    const feature = this.#feature(id);
    const no = (status: number) => ({ status: refused(status), result: 0 });
    if (feature === undefined || select > FeatureSelect.CAPABILITIES) return no(Status.INVALID_FIELD);
    if (select === FeatureSelect.CAPABILITIES) {
      const result =
        FeatureCapability.CHANGEABLE |
        (feature.saveable ? FeatureCapability.SAVEABLE : 0) |
        (feature.perNamespace === true ? FeatureCapability.NAMESPACE_SPECIFIC : 0);
      return { status: Status.SUCCESS, result };
    }
    if (feature.perNamespace === true && !this.#target.hasNamespace(nsid)) return no(Status.INVALID_NAMESPACE);
    if (id === FeatureId.INTERRUPT_VECTOR_CONFIGURATION && (dw[11]! & 0xffff) >= this.#target.vectors) return no(Status.INVALID_FIELD);
    if (id === FeatureId.TEMPERATURE_THRESHOLD && (((dw[11]! >>> 20) & 3) > 1 || ((dw[11]! >>> 16) & 0xf) !== 0)) {
      return no(Status.INVALID_FIELD);
    }
    return { status: Status.SUCCESS, result: this.#selected(id, select, dw[11]!, feature.perNamespace === true ? nsid : 0) };
  }

  /** The data of Get Features beside dword 0. @param select not CAPABILITIES, which gives none */
  data(id: number, select: number): Uint8Array {
    const bytes = new Uint8Array(this.dataSize(id));
    // The default is the value after a reset: 0, not set by the host. The feature is not saveable,
    // so its saved value is the default (5.13.1).
    if (id === FeatureId.TIMESTAMP && select === FeatureSelect.CURRENT) {
      const ms = this.#stamp + Math.floor((this.#clock.nowNs() - this.#stampNs) / 1e6);
      new DataView(bytes.buffer).setBigUint64(0, (BigInt(ms) & Timestamp.VALUE_MASK) | this.#stampOrigin, true);
    }
    return bytes;
  }

  /** The values that the host has set. Values by key, in pairs. */
  get state(): FeatureState {
    const stamp = this.#stamp + Math.floor((this.#clock.nowNs() - this.#stampNs) / 1e6);
    return {
      current: Float64Array.from([...this.#current].flat()),
      saved: Float64Array.from([...this.#saved].flat()),
      thresholds: [this.over, this.under],
      queues: [this.submissionQueues, this.completionQueues],
      uncoalesced: this.#uncoalesced,
      stamp,
      stampByHost: this.#stampOrigin !== 0n,
    };
  }

  /** @param state  checked: `FeatureState.current` and `saved` by `isFeatureKey` */
  set state(state: FeatureState) {
    for (const [map, pairs] of [
      [this.#current, state.current],
      [this.#saved, state.saved],
    ] as const) {
      map.clear();
      for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i]!, pairs[i + 1]!);
    }
    [this.over, this.under] = state.thresholds;
    [this.submissionQueues, this.completionQueues] = state.queues;
    this.#uncoalesced.set(state.uncoalesced);
    this.#stamp = state.stamp;
    this.#stampOrigin = state.stampByHost ? Timestamp.ORIGIN_HOST : 0n;
    this.#stampNs = this.#clock.nowNs();
    for (const id of Object.keys(table)) this.#target.changed(Number(id));
  }

  /** Undefined: it is not there. */
  #feature(id: number): Feature | undefined {
    return id === FeatureId.VOLATILE_WRITE_CACHE && !this.#target.writeCache ? undefined : table[id];
  }

  #selected(id: number, select: number, cdw11: number, nsid: number): number {
    const { initial } = table[id]!;
    switch (id) {
      case FeatureId.TEMPERATURE_THRESHOLD: {
        const under = ((cdw11 >>> 20) & 3) === 1;
        const fallback = under ? 0 : initial;
        if (select === FeatureSelect.CURRENT) return under ? this.under : this.over;
        return select === FeatureSelect.SAVED ? (this.#saved.get(under ? TEMPERATURE_UNDER : TEMPERATURE_OVER) ?? fallback) : fallback;
      }
      case FeatureId.NUMBER_OF_QUEUES:
        return select === FeatureSelect.CURRENT ? this.#numberOfQueues() : both(this.#target.ioQueues, this.#target.ioQueues);
      case FeatureId.INTERRUPT_VECTOR_CONFIGURATION: {
        const vector = cdw11 & 0xffff;
        return select === FeatureSelect.CURRENT && this.uncoalesced(vector) ? 0x1_0000 | vector : vector;
      }
      case FeatureId.TIMESTAMP:
        return 0;
      default:
        if (select === FeatureSelect.CURRENT) return this.value(id, nsid);
        return select === FeatureSelect.SAVED ? this.#fallback(id, nsid) : initial;
    }
  }

  #numberOfQueues(): number {
    return both(this.submissionQueues, this.completionQueues);
  }

  #store(at: number, value: number, save: boolean): void {
    this.#current.set(at, value);
    if (save) this.#saved.set(at, value);
  }

  /** The values that a reset makes current. */
  #fallback(id: number, nsid: number): number {
    return this.#saved.get(key(id, nsid)) ?? table[id]!.initial;
  }
}

/** Features as they are moved. */
export interface FeatureState {
  readonly current: Float64Array;
  readonly saved: Float64Array;
  /** Temperature Threshold: over and under. */
  readonly thresholds: readonly [number, number];
  /** Number of Queues: submission and completion. */
  readonly queues: readonly [number, number];
  readonly uncoalesced: Uint8Array;
  /** Milliseconds, as Get Features would tell now. */
  readonly stamp: number;
  readonly stampByHost: boolean;
}

/**
 * Whether `at` is the key of a value: of a feature, or of a feature of one of `namespaces`
 * namespaces.
 * @param saved whether to look among the saved values
 */
export function isFeatureKey(at: number, namespaces: number, saved: boolean): boolean {
  if (saved && (at === TEMPERATURE_OVER || at === TEMPERATURE_UNDER)) return true;
  const id = at % 0x200;
  const nsid = (at - id) / 0x200;
  const feature = table[id];
  if (feature === undefined || nsid > namespaces) return false;
  return (nsid === 0 || feature.perNamespace === true) && (!saved || feature.saveable);
}

/** Keys of `saved` for the two thresholds; features end at FFh. */
const TEMPERATURE_OVER = 0x100;
const TEMPERATURE_UNDER = 0x101;

function key(id: number, nsid: number): number {
  return nsid === 0 ? id : nsid * 0x200 + id;
}

/** NSQA and NCQA, zero-based. */
function both(submission: number, completion: number): number {
  return (((completion - 1) << 16) | (submission - 1)) >>> 0;
}
