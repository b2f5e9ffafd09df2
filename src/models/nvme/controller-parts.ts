/**
 * Makes the parts of an NVMe controller and connects them. The controller decides when each part
 * acts.
 */
import type { DeviceHost, DmaPort } from '../../abi/device-host.ts';
import { Cc, EventNotice, EventType, LogId, NvmeReg, regField } from '../../abi/nvme.ts';
import { Oaes } from '../../abi/nvme-identify.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { AdminCommands } from './admin/admin-commands.ts';
import { FeatureEffects } from './admin/feature-effects.ts';
import { Features } from './admin/features.ts';
import { Identify, type Identity } from './admin/identify.ts';
import { LogPages } from './admin/log-pages.ts';
import { QueueCommands, type QueueLimits } from './admin/queue-commands.ts';
import { AsyncEvents } from './async-events.ts';
import { Command } from './command.ts';
import { CommandEvents } from './command-events.ts';
import { DataTransfer } from './data-transfer.ts';
import { ErrorLog } from './error-log.ts';
import type { Health } from './health.ts';
import { Interrupts } from './interrupts.ts';
import { KeepAlive } from './keep-alive.ts';
import { MappedDoorbells } from './mapped-doorbells.ts';
import type { NamespaceOptions } from './namespace.ts';
import { Namespaces } from './namespaces.ts';
import { NvmCommands } from './nvm-commands.ts';
import { Queues } from './queues.ts';
import { Registers } from './registers.ts';
import { ShadowDoorbells } from './shadow-doorbells.ts';
import { StorageFaults } from './storage-faults.ts';

export interface ControllerOptions {
  readonly identity: Identity;
  readonly namespaces: readonly NamespaceOptions[];
  /** I/O queues of each kind, and entries of each. */
  readonly ioQueues: number;
  readonly entries: number;
  readonly health: Health;
  /** The host can map the doorbells. */
  readonly mappedDoorbells: boolean;
}

/** Reports of the parts to the controller. */
export interface ControllerHooks {
  /** 3.1.6, CFS: nothing but a reset helps. */
  fatal(reason: string): void;
  /** `ControllerParts.shutdownFlush` has ended. */
  flushed(status: number): void;
}

/** The Flush of a shutdown comes from no queue. */
const SHUTDOWN_SLOT = -1;

export class ControllerParts {
  readonly options: ControllerOptions;
  readonly dma: DmaPort;
  readonly registers: Registers;
  readonly namespaces: Namespaces;
  readonly queues: Queues;
  readonly interrupts: Interrupts;
  readonly shadow: ShadowDoorbells;
  /** Null: doorbells are registers alone. */
  readonly mapped: MappedDoorbells | null;
  readonly events: AsyncEvents;
  readonly errors = new ErrorLog();
  readonly effects: FeatureEffects;
  readonly features: Features;
  readonly keepAlive: KeepAlive;
  readonly transfer: DataTransfer;
  readonly admin: AdminCommands;
  readonly io: NvmCommands;
  readonly shutdownFlush = new Command(SHUTDOWN_SLOT);
  /** Namespaces of the Changed Namespace List log. */
  readonly changed = new Set<number>();
  readonly #host: DeviceHost;
  #bornNs: number;

  /** @throws VfioError EINVAL for options that make no controller */
  constructor(host: DeviceHost, options: ControllerOptions, hooks: ControllerHooks) {
    const { identity, ioQueues, entries, health } = options;
    const count = ioQueues + 1;
    const maxTransferBytes = 4096 * 2 ** identity.mdts;
    this.#host = host;
    this.#bornNs = host.clock.nowNs();
    this.options = options;
    this.dma = host.dma;
    this.registers = new Registers(entries);
    this.shadow = new ShadowDoorbells(host.dma);
    const commandEvents = new CommandEvents(host);
    this.queues = new Queues(host, count, this.shadow, commandEvents, {
      failed: (command, status) => this.#failed(command, status),
      invalidDoorbell: (error) => this.#invalidDoorbell(error),
      fatal: (reason) => hooks.fatal(reason),
    });
    this.mapped = options.mappedDoorbells ? new MappedDoorbells(host, this.queues) : null;
    this.queues.doorbells.mapped = this.mapped;
    const { shutdownFlush } = this;
    const { completions } = this.queues;
    const complete = (command: Command, status: number, result?: number) => {
      if (command === shutdownFlush) hooks.flushed(status);
      else completions.complete(command, status, result);
    };
    this.interrupts = new Interrupts(host, count, this.queues.cq);
    this.events = new AsyncEvents(complete);
    this.keepAlive = new KeepAlive(host.clock, () => {
      this.errors.record(null, Status.KEEP_ALIVE_EXPIRED);
      hooks.fatal('the host sent no Keep Alive in time');
    });
    this.namespaces = new Namespaces(options.namespaces);
    const faults = new StorageFaults(host);
    this.namespaces.onFailed = ({ storage }, result) => faults.tell(storage.name, result);
    this.namespaces.onChanged = () => this.events.notice(EventNotice.NAMESPACE_CHANGED, LogId.CHANGED_NAMESPACES, Oaes.NAMESPACE_CHANGED);
    this.effects = new FeatureEffects({
      ioQueues,
      queues: this.queues,
      interrupts: this.interrupts,
      events: this.events,
      keepAlive: this.keepAlive,
      namespaces: this.namespaces,
      health,
      setWriteCache: (on) => {
        this.io.writeCache = on;
      },
    });
    this.features = new Features(this.effects, host.clock);
    this.effects.features = this.features;
    this.transfer = new DataTransfer(host, maxTransferBytes, commandEvents);
    this.io = new NvmCommands(host, this.namespaces, complete, { maxTransferBytes }, commandEvents);
    this.admin = new AdminCommands({
      complete,
      queues: this.queues,
      queueCommands: new QueueCommands(host.dma, this.queues, this.interrupts, this.#queueLimits()),
      // Known hosts have all of their memory at once, or none: the admin queue's memory stands for
      // the rest. A host that maps doorbells has no use for shadows of them.
      identify: new Identify(identity, this.namespaces, () => this.mapped === null && (this.queues.cq[0]?.ring.words() ?? null) !== null),
      features: this.features,
      logs: this.#logPages(),
      events: this.events,
      keepAlive: this.keepAlive,
      shadow: this.mapped === null ? this.shadow : null,
      transfer: this.transfer,
      namespaces: this.namespaces,
      pageSize: () => this.registers.pageSize,
    });
    this.queues.admin = this.admin;
    this.queues.io = this.io;
    this.queues.fast = this.io;
    completions.interrupts = this.interrupts;
  }

  /** Nanoseconds since it came. */
  get poweredNs(): number {
    return this.#host.clock.nowNs() - this.#bornNs;
  }

  set poweredNs(ns: number) {
    this.#bornNs = this.#host.clock.nowNs() - ns;
  }

  /** CC.MPS has its value. */
  setPageSize(): void {
    this.io.pageSize = this.registers.pageSize;
    this.transfer.pageSize = this.registers.pageSize;
  }

  /**
   * Commands in flight no longer complete, and touch no memory except by DMA that was already sent.
   */
  forgetCommands(): void {
    this.admin.reset();
    this.io.reset();
    this.namespaces.reset();
  }

  /** Settles when what was sent to remote memory has landed. Null: all has. */
  quiet(): Promise<unknown> | null {
    const parts = [this.queues.remote.quiet(), this.transfer.quiet(), this.io.quiet()].filter((quiet) => quiet !== null);
    return parts.length === 0 ? null : Promise.all(parts);
  }

  /** For good: nothing of the storages is in use any more. */
  [Symbol.dispose](): void {
    this.io[Symbol.dispose]();
    this.namespaces[Symbol.dispose]();
    this.options.health.add(this.io.counters, this.errors.count, this.poweredNs);
  }

  /** A command failed: the log has it, and its completion says so. */
  #failed(command: Command, status: number): number {
    const code = status & StatusBit.CODE;
    if (code === Status.ABORT_REQUESTED || code === Status.ABORTED_SQ_DELETION) return status;
    this.errors.record(command, status | StatusBit.MORE);
    return status | StatusBit.MORE;
  }

  #invalidDoorbell(error: number): void {
    this.errors.record(null, Status.INVALID_FIELD);
    this.events.post(EventType.ERROR, error, LogId.ERROR_INFORMATION);
  }

  #queueLimits(): QueueLimits {
    const { registers, options, features } = this;
    const field = (f: (typeof Cc)[keyof typeof Cc]) => regField(registers.get(NvmeReg.CC), f);
    return {
      entries: options.entries,
      get submissionQueues() {
        return features.submissionQueues;
      },
      get completionQueues() {
        return features.completionQueues;
      },
      get pageSize() {
        return registers.pageSize;
      },
      get iosqes() {
        return field(Cc.IOSQES);
      },
      get iocqes() {
        return field(Cc.IOCQES);
      },
    };
  }

  #logPages(): LogPages {
    const { changed, errors, events, namespaces } = this;
    const { health, identity } = this.options;
    return new LogPages({
      firmware: () => identity.firmware,
      errorPage: () => errors.page(),
      smartPage: () => health.page(this.io.counters, this.effects.criticalWarning, errors.count, this.poweredNs),
      changedNamespaces: () => {
        for (const nsid of namespaces.takeChanged()) changed.add(nsid);
        return [...changed].sort((a, b) => a - b);
      },
      forgetChanged: () => changed.clear(),
      adminEffects: () => this.admin.effects(),
      ioEffects: () => this.io.effects(),
      clearEvents: (type) => events.clear(type),
    });
  }
}
