/**
 * An NVMe controller (NVMe 1.4): its registers and its states: enabled, reset, shut down, failed.
 * Other files of this folder have queues, interrupts and commands.
 */
import type { DeviceHost, Model, Width } from '../../abi/device-host.ts';
import { Aqa, Cc, Csts, NSID_ALL, NSSR_VALUE, NvmeReg, NvmOpcode, regBits, regField, Shn, Shst } from '../../abi/nvme.ts';
import { Status } from '../../abi/nvme-status.ts';
import { CompletionQueue } from './completion-queue.ts';
import { type ControllerOptions, ControllerParts } from './controller-parts.ts';
import type { Doorbells } from './doorbells.ts';
import { NvmeMigration } from './migration/nvme-migration.ts';
import { iovaOf } from './pieces.ts';
import type { Queues } from './queues.ts';
import { CC_MASK, CFS, EN, NSSRO, narrowed, RDY, type Registers, SHST } from './registers.ts';
import { SubmissionQueue } from './submission-queue.ts';

/** Bits of CC that count only when EN is set (3.1.5): CSS, MPS, AMS. */
const CC_FIXED = 0x0000_3ff0;
const AQA_MASK = 0x0fff_0fff;

export class NvmeController implements Model {
  readonly #host: DeviceHost;
  readonly #parts: ControllerParts;
  readonly #registers: Registers;
  readonly #queues: Queues;
  readonly #doorbells: Doorbells;
  readonly migration?: NvmeMigration;
  /**
   * The controller was reset, but DMA to remote memory has not landed yet: the reset is complete
   * when it has.
   */
  #landing: Promise<void> | null = null;
  #disposed = false;

  /** @throws VfioError EINVAL for options that make no controller */
  constructor(host: DeviceHost, options: ControllerOptions) {
    const parts = new ControllerParts(host, options, {
      fatal: (reason) => this.#fatal(reason),
      flushed: (status) => this.#flushed(status),
    });
    this.#host = host;
    this.#parts = parts;
    this.#registers = parts.registers;
    this.#queues = parts.queues;
    this.#doorbells = parts.queues.doorbells;
    const migration = NvmeMigration.of(parts, {
      quiet: () => this.#landing ?? parts.quiet(),
      flushAgain: () => {
        if (regField(this.#registers.get(NvmeReg.CSTS), Csts.SHST) === Shst.OCCURRING) this.#flush();
      },
    });
    if (migration !== null) this.migration = migration;
    options.health.powerCycles++;
  }

  read(bar: number, offset: number, width: Width): number {
    if (bar !== 0) return 0;
    const { mapped } = this.#parts;
    if (mapped === null || offset < NvmeReg.DOORBELLS) return this.#registers.read(offset, width);
    return narrowed(mapped.read((offset - NvmeReg.DOORBELLS) >>> 2), offset, width);
  }

  /** Registers take 32 bits at a time (3.1: other widths are undefined; they do nothing here). */
  write(bar: number, offset: number, width: Width, value: number): void {
    if (bar !== 0 || width !== 4) return;
    if (offset >= NvmeReg.DOORBELLS) {
      this.#doorbells.ring((offset - NvmeReg.DOORBELLS) >>> 2, value);
      return;
    }
    switch (offset) {
      case NvmeReg.INTMS:
        this.#parts.interrupts.setMask(value);
        this.#showMask();
        break;
      case NvmeReg.INTMC:
        this.#parts.interrupts.clearMask(value);
        this.#showMask();
        break;
      case NvmeReg.CC:
        // Doorbells that the host rang before this write come before it.
        this.#parts.mapped?.look(true);
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
    this.#parts.interrupts.updateLevel();
    this.#parts.mapped?.configWritten();
  }

  power(state: 'D0' | 'D3hot'): void {
    this.#parts.mapped?.power(state);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const csts = this.#registers.get(NvmeReg.CSTS);
    if ((csts & RDY) !== 0 && regField(csts, Csts.SHST) !== Shst.COMPLETE) this.#parts.options.health.unsafeShutdowns++;
    this.#controllerReset();
    this.#parts[Symbol.dispose]();
  }

  #showMask(): void {
    this.#registers.set(NvmeReg.INTMS, this.#parts.interrupts.mask);
    this.#registers.set(NvmeReg.INTMC, this.#parts.interrupts.mask);
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
    this.#parts.setPageSize();
    this.#parts.features.reset();
    this.#queues.start();
    this.#parts.mapped?.update();
    this.#changeCsts(SHST, RDY);
  }

  /**
   * EN from 1 to 0 (7.3.2): resets everything except AQA, ASQ, ACQ, saved features and logs.
   */
  #controllerReset(): void {
    const { shadow, mapped, interrupts, features, effects, changed, shutdownFlush } = this.#parts;
    this.#queues.reset();
    this.#forgetCommands();
    shadow.disable();
    mapped?.reset();
    interrupts.reset();
    features.reset();
    effects.warnings = 0;
    changed.clear();
    shutdownFlush.life = -1;
    this.#showMask();
    this.#registers.set(NvmeReg.CC, 0);
    const landing = this.#parts.quiet()?.then(() => {
      if (this.#landing === landing) this.#landed();
    });
    this.#landing = landing ?? null;
    // A host waits for RDY to become 0 before it uses its memory again (3.1.6).
    this.#registers.set(NvmeReg.CSTS, this.#registers.get(NvmeReg.CSTS) & (this.#landing === null ? NSSRO : NSSRO | RDY));
  }

  /** The life that was reset is over. Requests of the host since then begin now. */
  #landed(): void {
    this.#landing = null;
    this.#changeCsts(RDY, 0);
    const cc = this.#registers.get(NvmeReg.CC);
    if ((cc & EN) === 0) return;
    this.#enable();
    if (isShutdown(regField(cc, Cc.SHN))) this.#shutdown();
  }

  #forgetCommands(): void {
    this.migration?.forget();
    this.#parts.forgetCommands();
  }

  /** 7.3.1: all of the subsystem, which is this controller. */
  #subsystemReset(): void {
    this.#controllerReset();
    this.#registers.clearAdminQueues();
    this.#changeCsts(0, NSSRO);
  }

  /**
   * CC.SHN (7.6.2): the controller takes no more commands and flushes its cache, also in an abrupt
   * shutdown.
   */
  #shutdown(): void {
    this.#stop();
    this.#changeCsts(SHST, regBits(Csts.SHST, Shst.OCCURRING));
    this.#flush();
  }

  #flush(): void {
    const { shutdownFlush: flush, io } = this.#parts;
    flush.dw.fill(0);
    flush.dw[0] = NvmOpcode.FLUSH;
    flush.dw[1] = NSID_ALL;
    flush.life = this.#queues.life;
    io.start(flush);
    io.submit();
  }

  /** Only the log can report data that could not be flushed. */
  #flushed(status: number): void {
    const { shutdownFlush, errors } = this.#parts;
    const { life } = shutdownFlush;
    if (life !== this.#queues.life) return;
    if (status !== Status.SUCCESS) errors.record(null, status);
    const complete = () => {
      if (shutdownFlush.life === life) this.#changeCsts(SHST, regBits(Csts.SHST, Shst.COMPLETE));
    };
    const quiet = this.#parts.quiet();
    if (quiet === null) complete();
    else void quiet.then(complete);
  }

  /** No more commands, interrupts, or data, until a reset. */
  #stop(): void {
    this.#queues.stop();
    this.#parts.mapped?.update();
    this.#forgetCommands();
    this.#parts.interrupts.silence();
    this.#parts.keepAlive.reset();
  }

  /** 3.1.6, CFS: nothing but a reset helps. */
  #fatal(reason: string): void {
    if ((this.#registers.get(NvmeReg.CSTS) & CFS) !== 0) return;
    this.#host.log.log('warn', `nvme: the controller has failed: ${reason}`);
    this.#stop();
    this.#changeCsts(0, CFS);
  }
}

function isShutdown(shn: number): boolean {
  return shn === Shn.NORMAL || shn === Shn.ABRUPT;
}
