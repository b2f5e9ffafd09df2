/**
 * A user-level driver for NVMe controllers, ours and any other. It stands on `Device` alone.
 *
 *     await using nvme = await NvmeDriver.start(await open('sim:nvme,size=1G'));
 *     const [ns] = nvme.namespaces;
 *     await ns.write(0, new Uint8Array(4096));
 *     await ns.flush();
 *
 * @see NVM Express Base Specification, revision 1.4
 */

import { AdminOpcode, FormatCdw10, LogId, NSID_ALL, regBits } from '../../abi/nvme.ts';
import { Lpa } from '../../abi/nvme-identify.ts';
import { COMMANDS_SUPPORTED_SIZE, ErrorLogEntry, FirmwareSlotLog, SmartLog } from '../../abi/nvme-structs.ts';
import { checkIndex } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import type { Logger } from '../../base/log.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import { checkTimeout } from '../kit/interrupts.ts';
import type { CommandRequest, GetFeatureOptions, LogOptions, SetFeatureOptions } from './admin.ts';
import { AsyncEvents } from './async-events.ts';
import { QUEUE_ENTRIES_MAX } from './command-slots.ts';
import type { SignalKind } from './completion-signals.ts';
import type { ControllerInfo } from './controller-info.ts';
import { EventListeners, type NvmeListener, type SessionState } from './events.ts';
import type { IoQueue } from './io-queue.ts';
import type { NvmeNamespace } from './namespace.ts';
import { type NamespaceChanges, NamespaceList } from './namespace-list.ts';
import { Session } from './session.ts';

/** How the driver starts a controller and waits for it. */
export interface NvmeDriverOptions {
  /**
   * Default: the best kind that the device has. 'poll' uses no interrupt and polls while commands
   * are in flight.
   */
  readonly interrupts?: SignalKind;
  /** I/O queues to ask for. The controller may grant fewer. Default: 1. */
  readonly queues?: number;
  /** Commands in flight on each queue. The controller may take fewer. Default: 255. */
  readonly depth?: number;
  /**
   * How long a command may take before it is aborted, and an abort before the controller is reset.
   * Default: 10000.
   */
  readonly timeoutMs?: number;
  /** The most bytes that one command moves. The controller's MDTS limits it too. Default: 1 MiB. */
  readonly maxTransfer?: number;
  /**
   * Whether to use shadow doorbells. Default: where the controller has them and registers are slow
   * to reach.
   */
  readonly doorbells?: 'auto' | 'shadow' | 'registers';
  /**
   * The log for messages about a controller that misbehaves. Default: they are notes in the
   * device's stream of events, which go to the log that `open` was given.
   */
  readonly log?: Logger;
}

/** Fields of Format NVM. */
export interface FormatOptions {
  /** The index of an LBA format of the namespace. Default: its present one. */
  readonly format?: number;
  /** Secure Erase Settings: 0 none, 1 user data, 2 cryptographic. */
  readonly secureErase?: number;
  /** Default: ten minutes. */
  readonly timeoutMs?: number;
}

const FORMAT_MS = 600_000;

/** A driver for NVMe controllers, of models and of hardware alike. */
export class NvmeDriver implements AsyncDisposable, Disposable {
  /**
   * Class code of every NVMe controller, `dev.config.classCode`: mass storage, non-volatile memory,
   * NVM Express.
   */
  static readonly classCode = 0x01_0802;
  readonly #session: Session;
  readonly #namespaces: NamespaceList;
  readonly #listeners: EventListeners;

  private constructor(session: Session, namespaces: NamespaceList, listeners: EventListeners) {
    this.#session = session;
    this.#namespaces = namespaces;
    this.#listeners = listeners;
  }

  /**
   * Take over a controller in any state: disable it, enable it, identify it and its namespaces. The
   * device is closed with the driver, and when this fails.
   *
   * @throws VfioError EINVAL for an option; ENODEV when nothing answers; EIO for a controller that
   * fails, or is none; ETIMEDOUT for one that does not become ready; ENOSPC without the interrupts
   * that were asked for
   */
  static async start(dev: DriverDevice, options: NvmeDriverOptions = {}): Promise<NvmeDriver> {
    let session: Session | null = null;
    try {
      const listeners = new EventListeners();
      session = new Session(
        dev,
        {
          interrupts: options.interrupts,
          queues: 1 + checkIndex((options.queues ?? 1) - 1, 0xfffe, 'queues - 1'),
          depth: 1 + checkIndex((options.depth ?? 255) - 1, QUEUE_ENTRIES_MAX - 2, 'depth - 1'),
          timeoutMs: Math.max(1, checkTimeout(options.timeoutMs ?? 10_000)),
          maxTransfer: 4096 + checkIndex((options.maxTransfer ?? 2 ** 20) - 4096, 2 ** 30, 'maxTransfer - 4096'),
          doorbells: options.doorbells ?? 'auto',
          log: options.log ?? null,
        },
        listeners,
      );
      const namespaces = new NamespaceList(session);
      const events = new AsyncEvents(session, namespaces, listeners);
      session.onEnabled = async () => {
        await events.arm();
        await namespaces.scan();
      };
      await session.start();
      return new NvmeDriver(session, namespaces, listeners);
    } catch (error) {
      if (session === null) dev.close();
      else session.closeNow();
      throw error;
    }
  }

  /** The device that the driver stands on. */
  get dev(): DriverDevice {
    return this.#session.dev;
  }

  /** The answer of Identify Controller, as of the last reset. */
  get controller(): ControllerInfo {
    return this.#session.info;
  }

  /** `1.4.0` (VS). */
  get version(): string {
    return this.#session.controller.version;
  }

  /** How the driver notices completions. */
  get interrupts(): SignalKind {
    return this.#session.signals.kind;
  }

  /** Interrupt vectors in use. Queues share them when there are more queues. */
  get vectors(): number {
    return this.#session.signals.vectors;
  }

  /** The controller reads doorbells from memory (NVMe, "Doorbell Buffer Config"). */
  get shadowDoorbells(): boolean {
    return this.#session.shadowDoorbells;
  }

  /** Doorbell registers written since the start. */
  get doorbellWrites(): number {
    return this.#session.doorbellWrites;
  }

  /** The most bytes that one command moves. */
  get maxTransfer(): number {
    return this.#session.maxTransfer;
  }

  /** The page size in use (CC.MPS). */
  get pageSize(): number {
    return this.#session.controller.capabilities.pageSize;
  }

  /** The state of the session with the controller. */
  get state(): SessionState {
    return this.#session.state;
  }

  /** Active namespaces, by identifier. */
  get namespaces(): readonly NvmeNamespace[] {
    return this.#namespaces.all;
  }

  /** @throws VfioError ENXIO when the controller has no such namespace active */
  namespace(id: number): NvmeNamespace {
    const ns = this.#namespaces.get(id);
    if (ns !== undefined) return ns;
    const ids = this.namespaces.map((n) => n.id);
    const has = ids.length === 0 ? 'It has none at all' : `It has ${ids.slice(0, 16).join(', ')}${ids.length > 16 ? ', …' : ''}`;
    const hidden = this.#session.controller.capabilities.otherSets ? '; zoned ones, and those of other command sets, are not shown' : '';
    throw new VfioError('ENXIO', `${this.dev.name} has no namespace ${String(id)}`, { fix: `${has}${hidden}.` });
  }

  /**
   * I/O queues that were granted. 0: the controller can be administered only, and `io` says why.
   */
  get queueCount(): number {
    return this.#session.ioQueues.usable ? this.#session.queues.length : 0;
  }

  /**
   * An I/O queue as a ring. The first is 0. The object stays the same over resets.
   * @throws VfioError EINVAL; EIO when the controller refuses all
   */
  queue(index = 0): IoQueue {
    if (!this.#session.ioQueues.usable) throw this.#session.ioQueues.whyNone;
    return this.#session.queues[checkIndex(index, this.#session.queues.length - 1, 'queue')]!;
  }

  /** Listen to events: health, errors, namespaces that change, resets. */
  on(listener: NvmeListener): Disposable {
    return this.#listeners.on(listener);
  }

  /** Scan the namespaces again. Events of the controller start a scan too. */
  async rescan(): Promise<NamespaceChanges> {
    await this.#session.ready();
    return this.#namespaces.scan();
  }

  /** SMART / Health Information (5.14.1.2). @param nsid Default: the controller. */
  async smart(nsid = NSID_ALL): Promise<SmartLog> {
    return SmartLog.decode(viewOf(await this.log(LogId.SMART, SmartLog.layoutSize, { nsid })));
  }

  /**
   * Error Information (5.14.1.1), newest first, without empty entries.
   * @param count Default: as many as the controller has and can give.
   */
  async errorLog(count?: number): Promise<ErrorLogEntry[]> {
    const has = this.controller.errorLogEntries;
    const most = Math.floor(this.#session.admin.logMax / ErrorLogEntry.layoutSize);
    const entries = count === undefined ? Math.min(has, most) : Math.min(1 + checkIndex(count - 1, 0xffff, 'count - 1'), has);
    const view = viewOf(await this.log(LogId.ERROR_INFORMATION, entries * ErrorLogEntry.layoutSize));
    const all = Array.from({ length: entries }, (_, i) => ErrorLogEntry.decode(view, i * ErrorLogEntry.layoutSize));
    return all.filter((entry) => entry.errorCount !== 0n);
  }

  /** Firmware Slot Information (5.14.1.3). */
  async firmwareLog(): Promise<FirmwareSlotLog> {
    return FirmwareSlotLog.decode(viewOf(await this.log(LogId.FIRMWARE_SLOT, FirmwareSlotLog.layoutSize)));
  }

  /**
   * Commands Supported and Effects (5.14.1.5): 256 dwords for admin opcodes, 256 for I/O opcodes.
   * @throws VfioError EOPNOTSUPP
   */
  async commandsSupported(): Promise<{ readonly admin: Uint32Array; readonly io: Uint32Array }> {
    if ((this.controller.identify.lpa & Lpa.COMMANDS_SUPPORTED) === 0) {
      throw new VfioError('EOPNOTSUPP', `${this.dev.name} does not have the Commands Supported and Effects log`);
    }
    const bytes = await this.log(LogId.COMMANDS_SUPPORTED, COMMANDS_SUPPORTED_SIZE);
    return { admin: new Uint32Array(bytes.buffer, 0, 256), io: new Uint32Array(bytes.buffer, 1024, 256) };
  }

  /** Any log page, raw. @param size bytes, a multiple of 4 */
  async log(id: number, size: number, options: LogOptions = {}): Promise<Uint8Array> {
    await this.#session.ready();
    return this.#session.admin.log(id, size, options);
  }

  /** Identify, raw: 4096 bytes. @param cns one of `Cns` */
  async identify(cns: number, nsid = 0, cntid = 0): Promise<Uint8Array> {
    await this.#session.ready();
    return this.#session.admin.identify(cns, nsid, cntid);
  }

  /**
   * Get Features (5.13): dword 0 of the answer, and the feature's data, where it has any.
   *
   * @param id one of `FeatureId`
   * @throws VfioError EOPNOTSUPP for a value other than the current one, when the controller keeps
   * no others
   */
  async getFeature(id: number, options: GetFeatureOptions = {}): Promise<{ readonly value: number; readonly data: Uint8Array }> {
    await this.#session.ready();
    return this.#session.admin.getFeature(id, options);
  }

  /** Set Features (5.21). @returns dword 0 of the answer */
  async setFeature(id: number, value: number, options: SetFeatureOptions = {}): Promise<number> {
    await this.#session.ready();
    return this.#session.admin.setFeature(id, value, options);
  }

  /**
   * Run any admin command. Queues and doorbell buffers belong to the driver: a command that changes
   * them breaks it.
   * @returns dword 0 of its completion
   * @throws NvmeError
   */
  async admin(request: CommandRequest): Promise<number> {
    await this.#session.ready();
    return this.#session.admin.execute(request);
  }

  /**
   * Run any I/O command, without a check of its fields.
   * @returns dword 0 of its completion
   * @throws NvmeError
   */
  async io(request: CommandRequest): Promise<number> {
    const queue = await this.#session.live();
    return this.#session.admin.execute(request, queue);
  }

  /**
   * Format NVM (5.23): everything on the namespace is lost.
   * @throws VfioError EOPNOTSUPP; NvmeError
   */
  async format(nsid: number, options: FormatOptions = {}): Promise<void> {
    const ns = this.namespace(nsid);
    if (!this.controller.has.format) throw new VfioError('EOPNOTSUPP', `${this.dev.name} does not have Format NVM`);
    const format = checkIndex(options.format ?? ns.identify.flbas & 15, Math.min(ns.identify.nlbaf, 15), 'format');
    const erase = checkIndex(options.secureErase ?? 0, 2, 'secureErase');
    const cdw10 = regBits(FormatCdw10.LBAF, format) | regBits(FormatCdw10.SES, erase);
    await this.admin({ opcode: AdminOpcode.FORMAT_NVM, nsid, cdw10, timeoutMs: options.timeoutMs ?? FORMAT_MS });
    await this.rescan();
  }

  /**
   * Reset the controller and start it again: commands in flight fail.
   * @throws VfioError when it does not come back
   */
  async reset(): Promise<void> {
    await this.#session.recover('it was asked for', true);
    await this.#session.ready();
  }

  /**
   * Wait for commands in flight, shut the controller down and close the device. A second call waits
   * for the same end.
   */
  close(): Promise<void> {
    return this.#session.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** End at once: commands in flight fail, and the controller is stopped without a shutdown. */
  [Symbol.dispose](): void {
    this.#session.closeNow();
  }
}
