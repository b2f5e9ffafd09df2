/**
 * The features of a device file, by name. Each use goes through the file (is the device there?
 * what does its mediator say? does it have the feature?), and then to the part of the engine that
 * has it.
 */
import type {
  DmaLogging,
  DmaLogReport,
  DmaRange,
  InterruptSink,
  LowPower,
  MigrationControl,
  MigrationStream,
  SleepNotice,
} from '../../abi/device.ts';
import { Feature } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import type { HostDma } from '../../hardware/host-dma.ts';
import { sinkAt } from '../interrupts/interrupt-request.ts';
import type { DeviceMigration } from '../migration/device-migration.ts';
import { reportLogging, startLogging } from '../migration/dma-logging.ts';
import type { FeatureOp } from './features.ts';
import type { DevicePower } from './power.ts';

/** The device behind the features; `VfioPciDevice` is one. */
export interface FeaturedDevice {
  readonly bdf: string;
  readonly host: { readonly dma: HostDma; readonly events: EventSource; answerAfter(work: Promise<unknown>): void };
  readonly power: DevicePower;
  readonly openState: { readonly migration: DeviceMigration | null };
}

/** Use a feature: `run` is called when the device has the feature, and may be used now. */
export type UseFeature = <T>(feature: number, op: FeatureOp, run: () => T) => T;

export class FileMigration implements MigrationControl {
  readonly #device: FeaturedDevice;
  readonly #use: UseFeature;

  constructor(device: FeaturedDevice, use: UseFeature) {
    this.#device = device;
    this.#use = use;
  }

  /** Only where the device has the feature. */
  get #migration(): DeviceMigration {
    return this.#device.openState.migration!;
  }

  get flags(): number {
    return this.#use(Feature.MIGRATION, 'get', () => this.#migration.flags);
  }

  get state(): number {
    return this.#use(Feature.MIG_DEVICE_STATE, 'get', () => this.#migration.state);
  }

  get stopCopyBytes(): bigint {
    return this.#use(Feature.MIG_DATA_SIZE, 'get', () => BigInt(this.#migration.stopCopyBytes));
  }

  readPrecopyFlags(): void {
    this.#use(Feature.MIG_PRECOPY_INFO_V2, 'set', () => this.#migration.readPrecopyFlags());
  }

  setState(state: number): MigrationStream | null {
    return this.#use(Feature.MIG_DEVICE_STATE, 'set', () => {
      const { host } = this.#device;
      try {
        return this.#migration.setState(state);
      } finally {
        // A transport that waits for answers reports the stop when no DMA is in flight any more.
        const drained = host.dma.drained();
        if (drained !== null && this.#migration.draining) host.answerAfter(drained);
      }
    });
  }
}

export class FileDmaLogging implements DmaLogging {
  readonly #device: FeaturedDevice;
  readonly #use: UseFeature;

  constructor(device: FeaturedDevice, use: UseFeature) {
    this.#device = device;
    this.#use = use;
  }

  start(ranges: ArrayLike<DmaRange>, pageSize: bigint): bigint {
    const { bdf, host } = this.#device;
    return this.#use(Feature.DMA_LOGGING_START, 'set', () => startLogging(bdf, host.dma, ranges, pageSize));
  }

  stop(): void {
    this.#use(Feature.DMA_LOGGING_STOP, 'set', () => {
      this.#device.host.dma.writes = null;
    });
  }

  report(request: DmaLogReport): void {
    const { bdf, host } = this.#device;
    this.#use(Feature.DMA_LOGGING_REPORT, 'get', () => reportLogging(bdf, host.dma, request));
  }
}

export class FileLowPower implements LowPower {
  readonly #device: FeaturedDevice;
  readonly #use: UseFeature;

  constructor(device: FeaturedDevice, use: UseFeature) {
    this.#device = device;
    this.#use = use;
  }

  enter(): void {
    this.#use(Feature.LOW_POWER_ENTRY, 'set', () => this.#device.power.enterLowPower(null));
  }

  /** @throws VfioError EINVAL without a sink */
  enterWithWakeup(wakeup: InterruptSink): void {
    const { bdf, host, power } = this.#device;
    this.#use(Feature.LOW_POWER_ENTRY_WITH_WAKEUP, 'set', () => {
      const sink = sinkAt(bdf, host.events, [wakeup], 0);
      if (sink === null) throw new VfioError('EINVAL', `${bdf}: LOW_POWER_ENTRY_WITH_WAKEUP needs an eventfd to signal`);
      power.enterLowPower(sink);
    });
  }

  exit(): void {
    this.#use(Feature.LOW_POWER_EXIT, 'set', () => this.#device.power.exitLowPower());
  }
}

/** The sleep notice of a file, which is made when it is first used. */
export class FileSleepNotice implements SleepNotice {
  readonly #device: FeaturedDevice;
  readonly #use: UseFeature;
  readonly #notice: () => SleepNotice;

  constructor(device: FeaturedDevice, use: UseFeature, notice: () => SleepNotice) {
    this.#device = device;
    this.#use = use;
    this.#notice = notice;
  }

  arm(suspend: InterruptSink | null, resume: InterruptSink | null): void {
    const { bdf, host } = this.#device;
    this.#use(Feature.SYSTEM_SLEEP, 'set', () => {
      const [first, second] = [0, 1].map((i) => sinkAt(bdf, host.events, [suspend, resume], i));
      this.#notice().arm(first!, second!);
    });
  }

  acknowledge(count?: bigint): void {
    this.#use(Feature.SYSTEM_SLEEP_ACK, 'set', () => this.#notice().acknowledge(count));
  }
}
