/** A client and the device it uses, from VERSION to the end: everything that its commands need, and that must be let go with it. */
import type { Device } from '../../abi/device.ts';
import { Command, commandName } from '../../abi/vfio-user.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { ServerLimits } from '../limits.ts';
import type { VersionMessage } from '../version.ts';
import { type Answer, DeviceMessages } from './device-messages.ts';
import { DmaCommands } from './dma-commands.ts';
import { mayBeQemu } from './dma-layout.ts';
import { DmaMappings } from './dma-mappings.ts';
import { IrqMessages } from './irq-messages.ts';
import { MigrationMessages } from './migration-messages.ts';
import { RegionMessages } from './region-messages.ts';

export interface AttachmentOptions {
  readonly device: Device;
  /** What the client said of itself. */
  readonly client: VersionMessage;
  readonly limits: ServerLimits;
  readonly clock: Clock;
  /** Where the server's own commands go. */
  readonly writer: FrameWriter;
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
  /** What went wrong that is no errno for anybody, and where: it is told, and ends nothing. */
  readonly onBug: (what: string, error: unknown) => void;
}

const EMPTY = new Uint8Array(0);

export class Attachment {
  readonly device: Device;
  readonly regions: RegionMessages;
  readonly dma: DmaCommands;
  readonly mappings: DmaMappings;
  readonly #irqs: IrqMessages;
  readonly #messages: DeviceMessages;
  readonly #migration: MigrationMessages;
  readonly #events: Disposable;
  readonly #onBug: (what: string, error: unknown) => void;

  /** @throws VfioError what the device throws: it is the caller's still */
  constructor(options: AttachmentOptions) {
    const { device, client, limits, clock, writer, carriesFds, onQueued, onSleep, onGone, onBug } = options;
    const { maxMsgFds, maxDataXferSize } = client.capabilities;
    const maxDataBytes = Math.min(maxDataXferSize, limits.maxDataBytes);
    this.device = device;
    this.#onBug = onBug;
    this.regions = new RegionMessages(device, limits.maxDataBytes);
    const readBytes = client.dmaReadBytes ?? null;
    this.dma = new DmaCommands({ writer, clock, maxDataBytes, readBytes, askLayout: mayBeQemu(client), onQueued });
    this.mappings = new DmaMappings(device, this.dma, { ...limits, maxReplyBytes: limits.maxDataBytes });
    this.#irqs = new IrqMessages(device);
    this.#messages = new DeviceMessages({
      device,
      region: (index) => this.regions.region(index),
      maxFds: carriesFds ? Math.min(maxMsgFds, limits.maxMsgFds) : 0,
      maxReplyBytes: limits.maxDataBytes,
      onBug,
    });
    this.#migration = new MigrationMessages(device, limits.maxDataBytes);
    this.#events = device.on(
      (event) => {
        if (event.kind === 'suspend') {
          this.#messages.knowsOfSleep = false;
          event.acknowledge();
        } else if (event.kind === 'gone') onGone(event.reason);
        // The protocol has no message for a sleep. A client that has not acknowledged by a feature
        // of ours is frozen as programs are: the server answers its requests after the sleep.
        else onSleep(event.kind === 'asleep', !this.#messages.knowsOfSleep);
      },
      ['suspend', 'asleep', 'resume', 'gone'],
    );
  }

  /**
   * One call of the device each, and its answer.
   *
   * @param fds those that came along; the caller closes those that are still open afterwards
   * @throws VfioError the errno to answer; EINVAL for a command that does not exist, or is not a client's
   */
  answer(command: number, payload: Uint8Array, fds: readonly OwnedFd[]): Answer {
    switch (command) {
      case Command.DMA_MAP:
        this.mappings.map(payload, fds);
        return { payload: EMPTY };
      case Command.DMA_UNMAP:
        return { payload: this.mappings.unmap(payload) };
      case Command.DIRTY_PAGES:
        return { payload: this.mappings.dirtyPages(payload) };
      case Command.DEVICE_GET_INFO:
        return this.#messages.info(payload);
      case Command.DEVICE_GET_REGION_INFO:
        return this.#messages.regionInfo(payload);
      case Command.DEVICE_GET_REGION_IO_FDS:
        return this.#messages.ioFds(payload);
      case Command.DEVICE_GET_IRQ_INFO:
        return { payload: this.#irqs.info(payload) };
      case Command.DEVICE_SET_IRQS:
        this.#irqs.set(payload, fds);
        return { payload: EMPTY };
      case Command.DEVICE_RESET:
        this.device.reset();
        return { payload: EMPTY };
      case Command.DEVICE_FEATURE:
        return this.#migration.feature(payload) ?? this.#messages.feature(payload, fds);
      case Command.MIG_DATA_READ:
        return this.#migration.read(payload);
      case Command.MIG_DATA_WRITE:
        return this.#migration.write(payload);
      case Command.MIG_GET_PRECOPY_INFO:
        return this.#migration.precopyInfo(payload);
      case Command.VERSION:
        throw new VfioError('EINVAL', 'VERSION comes once');
      default:
        throw new VfioError('EINVAL', `${commandName(command)} is not one for a server`);
    }
  }

  /**
   * Let go of everything: doorbells and interrupts first, so that nothing is signalled any more; the device last, when nothing of the client can be
   * reached through it. What cannot be done is told, and the rest is done all the same.
   */
  end(reason: string): void {
    const steps: [string, () => void][] = [
      ['ending DMA', () => this.dma.fail(new VfioError('ENODEV', `the client is gone: ${reason}`))],
      ['leaving the events', () => this.#events[Symbol.dispose]()],
      ['letting go of doorbells', () => this.#messages[Symbol.dispose]()],
      ['ending its migration', () => this.#migration[Symbol.dispose]()],
      ['letting go of interrupts', () => this.#irqs[Symbol.dispose]()],
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
