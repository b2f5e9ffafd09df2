/**
 * An NVMe controller (NVMe 1.4): its registers and its life: enabled, reset, shut down, failed. Queues, interrupts and commands are in the files beside.
 */
import type { DeviceHost, Model, Width } from '../../abi/device-host.ts';
import {
  Aqa,
  Cc,
  Csts,
  EventNotice,
  EventType,
  LogId,
  NSID_ALL,
  NSSR_VALUE,
  NvmeReg,
  NvmOpcode,
  Oaes,
  regBits,
  regField,
  Shn,
  Shst,
} from '../../abi/nvme.ts';
import { Status, StatusBit } from '../../abi/nvme-status.ts';
import { AdminCommands } from './admin/admin-commands.ts';
import { FeatureEffects } from './admin/feature-effects.ts';
import { Features } from './admin/features.ts';
import { Identify, type Identity } from './admin/identify.ts';
import { LogPages } from './admin/log-pages.ts';
import { QueueCommands, type QueueLimits } from './admin/queue-commands.ts';
import { AsyncEvents } from './async-events.ts';
import { Command } from './command.ts';
import { CompletionQueue } from './completion-queue.ts';
import { DataTransfer } from './data-transfer.ts';
import { ErrorLog } from './error-log.ts';
import type { Health } from './health.ts';
import { Interrupts } from './interrupts.ts';
import { KeepAlive } from './keep-alive.ts';
import { NvmeMigration } from './migration/nvme-migration.ts';
import type { NamespaceOptions } from './namespace.ts';
import { Namespaces } from './namespaces.ts';
import { NvmCommands } from './nvm-commands.ts';
import { iovaOf } from './pieces.ts';
import { Queues } from './queues.ts';
import { Registers } from './registers.ts';
import { ShadowDoorbells } from './shadow-doorbells.ts';
import { SubmissionQueue } from './submission-queue.ts';

export interface ControllerOptions {
  readonly identity: Identity;
  readonly namespaces: readonly NamespaceOptions[];
  /** I/O queues of each kind, and entries of each. */
  readonly ioQueues: number;
  readonly entries: number;
  readonly health: Health;
}

/** Bits of CC that there are. */
const CC_MASK = 0x00ff_fff1;
/** Of them, those that count only when EN is set (3.1.5): CSS, MPS, AMS. */
const CC_FIXED = 0x0000_3ff0;
const AQA_MASK = 0x0fff_0fff;
const EN = regBits(Cc.EN, 1);
const RDY = regBits(Csts.RDY, 1);
const CFS = regBits(Csts.CFS, 1);
const NSSRO = regBits(Csts.NSSRO, 1);
const SHST = regBits(Csts.SHST, 3);
/** The Flush of a shutdown comes from no queue. */
const SHUTDOWN_SLOT = -1;

export class NvmeController implements Model {
  readonly #host: DeviceHost;
  readonly #options: ControllerOptions;
  readonly #registers: Registers;
  readonly #namespaces: Namespaces;
  readonly #queues: Queues;
  readonly #interrupts: Interrupts;
  readonly #shadow: ShadowDoorbells;
  readonly #events: AsyncEvents;
  readonly #errors = new ErrorLog();
  readonly #effects: FeatureEffects;
  readonly #features: Features;
  readonly #keepAlive: KeepAlive;
  readonly #transfer: DataTransfer;
  readonly #admin: AdminCommands;
  readonly #io: NvmCommands;
  readonly #shutdownFlush = new Command(SHUTDOWN_SLOT);
  readonly migration?: NvmeMigration;
  #bornNs: number;
  /** Namespaces of the Changed Namespace List log. */
  readonly #changed = new Set<number>();
  /** The last life was reset, but something it sent to remote memory has not landed: until then it is not over. */
  #landing: Promise<void> | null = null;
  #disposed = false;

  /** @throws VfioError EINVAL for options that make no controller */
  constructor(host: DeviceHost, options: ControllerOptions) {
    const { identity, ioQueues, entries, health } = options;
    const count = ioQueues + 1;
    const maxTransferBytes = 4096 * 2 ** identity.mdts;
    const complete = (command: Command, status: number, result?: number) => {
      if (command === this.#shutdownFlush) this.#flushed(status);
      else this.#queues.complete(command, status, result);
    };
    this.#host = host;
    this.#options = options;
    this.#bornNs = host.clock.nowNs();
    this.#registers = new Registers(entries);
    this.#shadow = new ShadowDoorbells(host.dma);
    this.#queues = new Queues(host, count, this.#shadow, {
      failed: (command, status) => this.#failed(command, status),
      invalidDoorbell: (error) => this.#invalidDoorbell(error),
      fatal: (reason) => this.#fatal(reason),
    });
    this.#interrupts = new Interrupts(host, count, this.#queues.cq);
    this.#events = new AsyncEvents(complete);
    this.#keepAlive = new KeepAlive(host.clock, () => {
      this.#errors.record(null, Status.KEEP_ALIVE_EXPIRED);
      this.#fatal('the host sent no Keep Alive in time');
    });
    this.#namespaces = new Namespaces(options.namespaces);
    this.#namespaces.onChanged = () => this.#events.notice(EventNotice.NAMESPACE_CHANGED, LogId.CHANGED_NAMESPACES, Oaes.NAMESPACE_CHANGED);
    this.#effects = new FeatureEffects({
      ioQueues,
      queues: this.#queues,
      interrupts: this.#interrupts,
      events: this.#events,
      keepAlive: this.#keepAlive,
      namespaces: this.#namespaces,
      health,
      setWriteCache: (on) => {
        this.#io.writeCache = on;
      },
    });
    this.#features = new Features(this.#effects, host.clock);
    this.#effects.features = this.#features;
    this.#transfer = new DataTransfer(host, maxTransferBytes);
    this.#io = new NvmCommands(host, this.#namespaces, complete, { maxTransferBytes });
    this.#admin = new AdminCommands({
      complete,
      queues: this.#queues,
      queueCommands: new QueueCommands(host.dma, this.#queues, this.#interrupts, this.#queueLimits()),
      // What holds for the admin queue's memory holds for all that a host has, as far as hosts are known.
      identify: new Identify(identity, this.#namespaces, () => (this.#queues.cq[0]?.ring.words() ?? null) !== null),
      features: this.#features,
      logs: this.#logPages(),
      events: this.#events,
      keepAlive: this.#keepAlive,
      shadow: this.#shadow,
      transfer: this.#transfer,
      namespaces: this.#namespaces,
      pageSize: () => this.#registers.pageSize,
    });
    this.#queues.admin = this.#admin;
    this.#queues.io = this.#io;
    this.#queues.interrupts = this.#interrupts;
    const migration = this.#moved();
    if (migration !== null) this.migration = migration;
    health.powerCycles++;
  }

  read(bar: number, offset: number, width: Width): number {
    return bar === 0 ? this.#registers.read(offset, width) : 0;
  }

  /** Registers take 32 bits at a time (3.1: other widths are undefined; they do nothing here). */
  write(bar: number, offset: number, width: Width, value: number): void {
    if (bar !== 0 || width !== 4) return;
    if (offset >= NvmeReg.DOORBELLS) {
      this.#queues.ring((offset - NvmeReg.DOORBELLS) >>> 2, value);
      return;
    }
    switch (offset) {
      case NvmeReg.INTMS:
        this.#interrupts.setMask(value);
        this.#showMask();
        break;
      case NvmeReg.INTMC:
        this.#interrupts.clearMask(value);
        this.#showMask();
        break;
      case NvmeReg.CC:
        this.#writeCc(value);
        break;
      case NvmeReg.CSTS:
        this.#changeCsts(value & NSSRO, 0);
        break;
      case NvmeReg.NSSR:
        if (value === NSSR_VALUE) this.#subsystemReset();
        break;
      case NvmeReg.AQA:
        this.#writeDisabled(offset, value & AQA_MASK);
        break;
      case NvmeReg.ASQ:
      case NvmeReg.ACQ:
        this.#writeDisabled(offset, value & ~0xfff);
        break;
      case NvmeReg.ASQ_HIGH:
      case NvmeReg.ACQ_HIGH:
        this.#writeDisabled(offset, value);
        break;
    }
  }

  reset(): void {
    this.#controllerReset();
    this.#registers.clearAdminQueues();
    this.#registers.set(NvmeReg.CSTS, 0);
    if (this.#landing !== null) this.#host.answerAfter(this.#landing);
  }

  configWritten(): void {
    this.#interrupts.updateLevel();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { health } = this.#options;
    const csts = this.#registers.get(NvmeReg.CSTS);
    if ((csts & RDY) !== 0 && regField(csts, Csts.SHST) !== Shst.COMPLETE) health.unsafeShutdowns++;
    this.#controllerReset();
    this.#io[Symbol.dispose]();
    this.#namespaces[Symbol.dispose]();
    health.add(this.#io.counters, this.#errors.count, this.#host.clock.nowNs() - this.#bornNs);
  }

  #showMask(): void {
    this.#registers.set(NvmeReg.INTMS, this.#interrupts.mask);
    this.#registers.set(NvmeReg.INTMC, this.#interrupts.mask);
  }

  #changeCsts(clear: number, set: number): void {
    this.#registers.set(NvmeReg.CSTS, (this.#registers.get(NvmeReg.CSTS) & ~clear) | set);
  }

  /** AQA, ASQ and ACQ are only to be changed while EN is 0 (3.1.8 to 3.1.10). */
  #writeDisabled(offset: number, value: number): void {
    if ((this.#registers.get(NvmeReg.CC) & EN) === 0) this.#registers.set(offset, value);
  }

  /** 3.1.5. */
  #writeCc(value: number): void {
    const before = this.#registers.get(NvmeReg.CC);
    if ((value & EN) === 0 && (before & EN) !== 0) {
      this.#controllerReset();
      return;
    }
    const enabled = (before & EN) !== 0;
    const after = enabled ? (value & CC_MASK & ~CC_FIXED) | (before & CC_FIXED) : value & CC_MASK;
    this.#registers.set(NvmeReg.CC, after);
    if ((after & EN) !== 0 && !enabled) {
      if (this.#landing === null) this.#enable();
      else this.#changeCsts(RDY, 0);
    }
    const shn = regField(after, Cc.SHN);
    if (isShutdown(shn) && regField(before, Cc.SHN) !== shn) this.#shutdown();
  }

  #enable(): void {
    const wrong = this.#registers.whyNotEnabled();
    if (wrong !== null) {
      this.#fatal(`cannot be enabled: ${wrong}`);
      return;
    }
    const { dma } = this.#host;
    const aqa = this.#registers.get(NvmeReg.AQA);
    const address = (low: number) => iovaOf(this.#registers.get(low), this.#registers.get(low + 4));
    const cq = new CompletionQueue(dma, 0, address(NvmeReg.ACQ), regField(aqa, Aqa.ACQS) + 1, 0, true);
    const sq = new SubmissionQueue(dma, 0, address(NvmeReg.ASQ), regField(aqa, Aqa.ASQS) + 1, cq);
    this.#queues.createCq(cq);
    this.#queues.createSq(sq);
    this.#setPageSize();
    this.#features.reset();
    this.#queues.start();
    this.#changeCsts(SHST, RDY);
  }

  #setPageSize(): void {
    this.#io.pageSize = this.#registers.pageSize;
    this.#transfer.pageSize = this.#registers.pageSize;
  }

  /** EN from 1 to 0 (7.3.2): everything but AQA, ASQ and ACQ, and what outlives it (saved features, logs). */
  #controllerReset(): void {
    this.#queues.reset();
    this.#forgetCommands();
    this.#shadow.disable();
    this.#interrupts.reset();
    this.#features.reset();
    this.#effects.warnings = 0;
    this.#changed.clear();
    this.#shutdownFlush.life = -1;
    this.#showMask();
    this.#registers.set(NvmeReg.CC, 0);
    const landing = this.#quiet()?.then(() => {
      if (this.#landing === landing) this.#landed();
    });
    this.#landing = landing ?? null;
    // A host waits for RDY to become 0 before it uses its memory again (3.1.6).
    this.#registers.set(NvmeReg.CSTS, this.#registers.get(NvmeReg.CSTS) & (this.#landing === null ? NSSRO : NSSRO | RDY));
  }

  /** The life that was reset is over. What the host has asked for since begins now. */
  #landed(): void {
    this.#landing = null;
    this.#changeCsts(RDY, 0);
    const cc = this.#registers.get(NvmeReg.CC);
    if ((cc & EN) === 0) return;
    this.#enable();
    if (isShutdown(regField(cc, Cc.SHN))) this.#shutdown();
  }

  /** What is under way is not told any more, and touches no memory but what has been sent already. */
  #forgetCommands(): void {
    this.migration?.forget();
    this.#admin.reset();
    this.#io.reset();
    this.#namespaces.reset();
  }

  /** Settles when what was sent to remote memory has landed. Null: all has. */
  #quiet(): Promise<unknown> | null {
    const parts = [this.#queues.quiet(), this.#transfer.quiet(), this.#io.quiet()].filter((quiet) => quiet !== null);
    return parts.length === 0 ? null : Promise.all(parts);
  }

  /** 7.3.1: all of the subsystem, which is this controller. */
  #subsystemReset(): void {
    this.#controllerReset();
    this.#registers.clearAdminQueues();
    this.#changeCsts(0, NSSRO);
  }

  /** CC.SHN (7.6.2): no more commands; what is cached goes to the disk, in an abrupt shutdown as well. */
  #shutdown(): void {
    this.#stop();
    this.#changeCsts(SHST, regBits(Csts.SHST, Shst.OCCURRING));
    this.#flush();
  }

  #flush(): void {
    const flush = this.#shutdownFlush;
    flush.dw.fill(0);
    flush.dw[0] = NvmOpcode.FLUSH;
    flush.dw[1] = NSID_ALL;
    flush.life = this.#queues.life;
    this.#io.start(flush);
    this.#io.submit();
  }

  /** What could not be flushed cannot be told but by the log. */
  #flushed(status: number): void {
    if (this.#shutdownFlush.life !== this.#queues.life) return;
    const { life } = this.#shutdownFlush;
    if (status !== Status.SUCCESS) this.#errors.record(null, status);
    const complete = () => {
      if (this.#shutdownFlush.life === life) this.#changeCsts(SHST, regBits(Csts.SHST, Shst.COMPLETE));
    };
    const quiet = this.#quiet();
    if (quiet === null) complete();
    else void quiet.then(complete);
  }

  /** No more commands, interrupts, or data, until a reset. */
  #stop(): void {
    this.#queues.stop();
    this.#forgetCommands();
    this.#interrupts.silence();
    this.#keepAlive.reset();
  }

  /** 3.1.6, CFS: nothing but a reset helps. */
  #fatal(reason: string): void {
    if ((this.#registers.get(NvmeReg.CSTS) & CFS) !== 0) return;
    this.#host.log.log('warn', `nvme: the controller has failed: ${reason}`);
    this.#stop();
    this.#changeCsts(0, CFS);
  }

  /** A command failed: the log has it, and its completion says so. */
  #failed(command: Command, status: number): number {
    const code = status & StatusBit.CODE;
    if (code === Status.ABORT_REQUESTED || code === Status.ABORTED_SQ_DELETION) return status;
    this.#errors.record(command, status | StatusBit.MORE);
    return status | StatusBit.MORE;
  }

  #invalidDoorbell(error: number): void {
    this.#errors.record(null, Status.INVALID_FIELD);
    this.#events.post(EventType.ERROR, error, LogId.ERROR_INFORMATION);
  }

  #queueLimits(): QueueLimits {
    const controller = this;
    const field = (f: (typeof Cc)[keyof typeof Cc]) => regField(controller.#registers.get(NvmeReg.CC), f);
    return {
      entries: this.#options.entries,
      get submissionQueues() {
        return controller.#features.submissionQueues;
      },
      get completionQueues() {
        return controller.#features.completionQueues;
      },
      get pageSize() {
        return controller.#registers.pageSize;
      },
      get iosqes() {
        return field(Cc.IOSQES);
      },
      get iocqes() {
        return field(Cc.IOCQES);
      },
    };
  }

  /** Null: it cannot be moved. */
  #moved(): NvmeMigration | null {
    const controller = this;
    const { identity, namespaces: options, ioQueues, entries, health } = this.#options;
    return NvmeMigration.of({
      dma: this.#host.dma,
      identity,
      options,
      limits: { ioQueues, entries },
      registers: this.#registers,
      namespaces: this.#namespaces,
      queues: this.#queues,
      interrupts: this.#interrupts,
      shadow: this.#shadow,
      events: this.#events,
      errors: this.#errors,
      features: this.#features,
      keepAlive: this.#keepAlive,
      admin: this.#admin,
      io: this.#io,
      health,
      owner: {
        changed: this.#changed,
        get warnings() {
          return controller.#effects.warnings;
        },
        set warnings(warnings) {
          controller.#effects.warnings = warnings;
        },
        get poweredNs() {
          return controller.#host.clock.nowNs() - controller.#bornNs;
        },
        set poweredNs(ns) {
          controller.#bornNs = controller.#host.clock.nowNs() - ns;
        },
        quiet: () => this.#landing ?? this.#quiet(),
        setPageSize: () => this.#setPageSize(),
        flushAgain: () => {
          if (regField(this.#registers.get(NvmeReg.CSTS), Csts.SHST) === Shst.OCCURRING) this.#flush();
        },
      },
    });
  }

  #logPages(): LogPages {
    const { health, identity } = this.#options;
    const changed = this.#changed;
    return new LogPages({
      firmware: () => identity.firmware,
      errorPage: () => this.#errors.page(),
      smartPage: () => {
        const powered = this.#host.clock.nowNs() - this.#bornNs;
        return health.page(this.#io.counters, this.#effects.criticalWarning, this.#errors.count, powered);
      },
      changedNamespaces: () => {
        for (const nsid of this.#namespaces.takeChanged()) changed.add(nsid);
        return [...changed].sort((a, b) => a - b);
      },
      forgetChanged: () => changed.clear(),
      adminEffects: () => this.#admin.effects(),
      ioEffects: () => this.#io.effects(),
      clearEvents: (type) => this.#events.clear(type),
    });
  }
}

function isShutdown(shn: number): boolean {
  return shn === Shn.NORMAL || shn === Shn.ABRUPT;
}
