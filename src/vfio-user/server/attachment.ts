/**
 * A client and the device it uses, from VERSION to the end: everything that its commands need, and
 * that is released with it.
 */
import type { Device } from '../../abi/device.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { ServerLimits } from '../limits.ts';
import type { AnswerContext } from '../messages/answer-context.ts';
import type { VersionMessage } from '../messages/version.ts';
import { DmaCommands } from './dma-commands.ts';
import { mayBeQemu } from './dma-layout.ts';
import { DmaMappings } from './dma-mappings.ts';
import type { CommandEvents } from './dma-transfer.ts';
import { Features } from './features.ts';
import { IrqLines } from './irq-lines.ts';
import { MigrationMessages } from './migration-messages.ts';
import { RegionFiles } from './region-files.ts';
import { RegionMessages } from './region-messages.ts';

export interface AttachmentOptions {
  readonly device: Device;
  /** The client's VERSION. */
  readonly client: VersionMessage;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  /** The writer of the server's own commands. */
  readonly writer: FrameWriter;
  readonly events: CommandEvents;
  readonly carriesFds: boolean;
  /** A command of the server waits to be sent. */
  readonly onQueued: () => void;
  /**
   * The machine sleeps, or is awake again.
   *
   * @param holds the client gets no answers during the sleep
   */
  readonly onSleep: (asleep: boolean, holds: boolean) => void;
  /** The device is gone. */
  readonly onGone: (reason: string) => void;
  /**
   * A failure that is no answer to any request, and where it happened: it is logged, and ends
   * nothing.
   */
  readonly onBug: (what: string, error: unknown) => void;
}

export class Attachment implements AnswerContext {
  readonly device: Device;
  readonly regions: RegionMessages;
  readonly dma: DmaCommands;
  readonly mappings: DmaMappings;
  readonly irqs: IrqLines;
  readonly regionFiles: RegionFiles;
  readonly stream: MigrationMessages;
  readonly features: Features;
  readonly #events: Disposable;
  readonly #onBug: (what: string, error: unknown) => void;

  /** @throws VfioError what the device throws; the caller keeps the device then */
  constructor(options: AttachmentOptions) {
    const { device, client, limits, clock, writer, events, carriesFds, onQueued, onSleep, onGone, onBug } = options;
    const { maxMsgFds, maxDataXferSize } = client.capabilities;
    const maxDataBytes = Math.min(maxDataXferSize, limits.maxDataBytes);
    this.device = device;
    this.#onBug = onBug;
    this.regions = new RegionMessages(device, limits.maxDataBytes);
    const readBytes = client.dmaReadBytes ?? null;
    this.dma = new DmaCommands({ writer, events, clock, maxDataBytes, readBytes, askLayout: mayBeQemu(client), onQueued });
    this.mappings = new DmaMappings(device, this.dma, limits, clock);
    this.irqs = new IrqLines(device);
    this.regionFiles = new RegionFiles({
      device,
      region: (index) => this.regions.region(index),
      maxFds: carriesFds ? Math.min(maxMsgFds, limits.maxMsgFds) : 0,
      onBug,
    });
    this.stream = new MigrationMessages(device, limits.maxDataBytes);
    this.features = new Features(device, this.stream, limits.maxDataBytes);
    this.#events = device.on(
      (event) => {
        if (event.kind === 'suspend') {
          this.features.knowsOfSleep = false;
          event.acknowledge();
        } else if (event.kind === 'gone') onGone(event.reason);
        // The protocol has no message for a sleep. A client that has not acknowledged by a feature
        // of ours is frozen as programs are: the server answers its requests after the sleep.
        else onSleep(event.kind === 'asleep', !this.features.knowsOfSleep);
      },
      ['suspend', 'asleep', 'resume', 'gone'],
    );
  }

  /**
   * Releases everything: doorbells and interrupts first, so that nothing signals any more; the
   * device last, when the client can reach nothing through it. A step that fails is logged, and the
   * others are done all the same.
   */
  end(reason: string): void {
    const steps: [string, () => void][] = [
      ['ending DMA', () => this.dma.fail(new VfioError('ENODEV', `the client is gone: ${reason}`))],
      ['leaving the events', () => this.#events[Symbol.dispose]()],
      ['closing doorbells', () => this.regionFiles[Symbol.dispose]()],
      ['ending its migration', () => this.stream[Symbol.dispose]()],
      ['releasing interrupts', () => this.irqs[Symbol.dispose]()],
      ['unmapping', () => this.mappings[Symbol.dispose]()],
      ['closing the device', () => this.device[Symbol.dispose]()],
    ];
    for (const [what, act] of steps) {
      try {
        act();
      } catch (error) {
        this.#onBug(what, error);
      }
    }
  }
}
