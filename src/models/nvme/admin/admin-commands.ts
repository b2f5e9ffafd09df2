/**
 * Commands of the admin queue (NVMe 1.4, 5): a table by opcode. The other files of this folder
 * execute them.
 */
import { AdminOpcode, FeatureSelect, FormatCdw10, regField } from '../../../abi/nvme.ts';
import { Cns, IDENTIFY_SIZE } from '../../../abi/nvme-identify.ts';
import { refused, Status } from '../../../abi/nvme-status.ts';
import { CommandEffects } from '../../../abi/nvme-structs.ts';
import type { AsyncEvents } from '../async-events.ts';
import type { Command, CommandSet, Complete } from '../command.ts';
import type { DataTransfer } from '../data-transfer.ts';
import type { KeepAlive } from '../keep-alive.ts';
import type { Namespaces } from '../namespaces.ts';
import { iovaOf } from '../pieces.ts';
import type { Queues } from '../queues.ts';
import type { ShadowDoorbells } from '../shadow-doorbells.ts';
import type { Features } from './features.ts';
import type { Identify } from './identify.ts';
import type { LogPages } from './log-pages.ts';
import type { QueueCommands } from './queue-commands.ts';

export interface AdminParts {
  readonly complete: Complete;
  readonly queues: Queues;
  readonly queueCommands: QueueCommands;
  readonly identify: Identify;
  readonly features: Features;
  readonly logs: LogPages;
  readonly events: AsyncEvents;
  readonly keepAlive: KeepAlive;
  /** Null: shadow doorbells are not offered. */
  readonly shadow: ShadowDoorbells | null;
  readonly transfer: DataTransfer;
  readonly namespaces: Namespaces;
  /** CC.MPS in bytes. */
  readonly pageSize: () => number;
}

interface AdminCommand {
  /** A status, or null: it ends the command itself, now or later. */
  readonly run: (command: Command) => number | null;
  /** NSID is not used: it must be 0 (6.1.5). */
  readonly noNamespace?: boolean;
  /** Bits of the Commands Supported and Effects log, CSUPP aside. */
  readonly effects?: number;
}

/** Format NVM, SES: none, or all user data; cryptographic erase is not offered (FNA). */
const USER_DATA_ERASE = 1;

export class AdminCommands implements CommandSet {
  readonly #parts: AdminParts;
  readonly #commands: Readonly<Record<number, AdminCommand>>;
  #pending = 0;

  constructor(parts: AdminParts) {
    const { queueCommands, shadow } = parts;
    this.#parts = parts;
    this.#commands = {
      [AdminOpcode.DELETE_SQ]: { run: (c) => this.#deleteSq(c), noNamespace: true },
      [AdminOpcode.CREATE_SQ]: { run: (c) => queueCommands.createSq(c), noNamespace: true },
      [AdminOpcode.GET_LOG_PAGE]: { run: (c) => this.#getLogPage(c) },
      [AdminOpcode.DELETE_CQ]: { run: (c) => queueCommands.deleteCq(c), noNamespace: true },
      [AdminOpcode.CREATE_CQ]: { run: (c) => queueCommands.createCq(c), noNamespace: true },
      [AdminOpcode.IDENTIFY]: { run: (c) => this.#identify(c) },
      [AdminOpcode.ABORT]: { run: (c) => this.#abort(c), noNamespace: true },
      [AdminOpcode.SET_FEATURES]: { run: (c) => this.#setFeatures(c) },
      [AdminOpcode.GET_FEATURES]: { run: (c) => this.#getFeatures(c) },
      [AdminOpcode.ASYNC_EVENT_REQUEST]: { run: (c) => this.#asyncEventRequest(c), noNamespace: true },
      [AdminOpcode.KEEP_ALIVE]: { run: () => this.#keepAlive() },
      ...(shadow === null
        ? {}
        : { [AdminOpcode.DOORBELL_BUFFER_CONFIG]: { run: (c: Command) => this.#doorbellBufferConfig(shadow, c), noNamespace: true } }),
      [AdminOpcode.FORMAT_NVM]: {
        run: (c) => this.#format(c),
        effects: (1 << CommandEffects.LBCC.lsb) | (1 << CommandEffects.NCC.lsb) | (1 << CommandEffects.CSE.lsb),
      },
    };
  }

  get pending(): number {
    return this.#pending;
  }

  /** The admin half of the Commands Supported and Effects log: a dword for each opcode. */
  effects(): Uint32Array {
    const effects = new Uint32Array(256);
    for (const [opcode, command] of Object.entries(this.#commands)) {
      effects[Number(opcode)] = (1 << CommandEffects.CSUPP.lsb) | (command.effects ?? 0);
    }
    return effects;
  }

  start(command: Command): void {
    this.#pending++;
    const status = this.#run(command);
    if (status !== null) this.#end(command, status);
  }

  /** Only requests for events wait; all else is under way. */
  abort(command: Command): boolean {
    return this.#parts.events.abort(command);
  }

  /** Nothing is queued. */
  submit(): void {}

  /**
   * Takes out the commands in flight, which were moving data and are to be executed again. Formats
   * have ended.
   */
  suspend(): void {
    this.#pending = 0;
    this.#parts.transfer.reset();
  }

  reset(): void {
    this.#pending = 0;
    this.#parts.transfer.reset();
    this.#parts.events.reset();
  }

  #run(command: Command): number | null {
    const found = this.#commands[command.opcode];
    if (found === undefined) return refused(Status.INVALID_OPCODE);
    // The controller does not support fused operations (FUSES), and admin commands use PRPs on PCIe
    // (4.4).
    if (command.fused !== 0 || command.dataPointerType !== 0) return refused(Status.INVALID_FIELD);
    if (found.noNamespace === true && command.nsid !== 0) return refused(Status.INVALID_FIELD);
    return found.run(command);
  }

  #end(command: Command, status: number, result = 0): void {
    this.#pending--;
    this.#parts.complete(command, status, result);
  }

  #identify(command: Command): null {
    const bytes = new Uint8Array(IDENTIFY_SIZE);
    const cns = command.dw[10]! & 0xff;
    const status = this.#parts.identify.build(cns, cns === Cns.CONTROLLER ? 0 : command.nsid, bytes);
    if (status !== Status.SUCCESS) this.#end(command, status);
    else this.#parts.transfer.toHost(command, bytes, bytes.length, (done) => this.#end(command, done));
    return null;
  }

  #getLogPage(command: Command): null {
    const { logs, transfer } = this.#parts;
    const { status, bytes } = logs.read(command);
    if (status !== Status.SUCCESS) {
      this.#end(command, status);
      return null;
    }
    transfer.toHost(command, bytes, bytes.length, (done) => {
      if (done === Status.SUCCESS) logs.wasRead(command);
      this.#end(command, done);
    });
    return null;
  }

  #setFeatures(command: Command): null {
    const { features, transfer } = this.#parts;
    const status = features.check(command);
    const size = features.dataSize(command.dw[10]! & 0xff);
    if (status !== Status.SUCCESS) this.#end(command, status);
    else if (size === 0) this.#end(command, Status.SUCCESS, features.set(command, NO_DATA));
    else {
      const data = new Uint8Array(size);
      transfer.fromHost(command, data, size, (done) => this.#end(command, done, done === Status.SUCCESS ? features.set(command, data) : 0));
    }
    return null;
  }

  #getFeatures(command: Command): null {
    const { features, transfer } = this.#parts;
    const { status, result } = features.get(command);
    const id = command.dw[10]! & 0xff;
    const select = (command.dw[10]! >>> 8) & 7;
    if (status !== Status.SUCCESS || select === FeatureSelect.CAPABILITIES || features.dataSize(id) === 0)
      this.#end(command, status, result);
    else {
      const data = features.data(id, select);
      transfer.toHost(command, data, data.length, (done) => this.#end(command, done, result));
    }
    return null;
  }

  /** 5.1: best effort. Dword 0 says in bit 0 that the command was not aborted. */
  #abort(command: Command): null {
    const { queues } = this.#parts;
    const target = queues.find(command.dw[10]! & 0xffff, command.dw[10]! >>> 16);
    const aborted = target !== null && (target.queueId === 0 ? this : queues.io).abort(target);
    this.#end(command, Status.SUCCESS, aborted ? 0 : 1);
    return null;
  }

  #asyncEventRequest(command: Command): null {
    // The request may wait without limit, so it does not count as in flight.
    this.#pending--;
    this.#parts.events.request(command);
    return null;
  }

  #keepAlive(): number {
    this.#parts.keepAlive.restart();
    return Status.SUCCESS;
  }

  #deleteSq(command: Command): number | null {
    const { queueCommands } = this.#parts;
    // The queues end the command, maybe at once.
    this.#pending--;
    const status = queueCommands.deleteSq(command);
    if (status === Status.SUCCESS) return null;
    this.#pending++;
    return status;
  }

  /** 5.7: both buffers start at a page. */
  #doorbellBufferConfig(shadow: ShadowDoorbells, { dw }: Command): number {
    const { queues, pageSize } = this.#parts;
    const mask = pageSize() - 1;
    if ((dw[6]! & mask) !== 0 || (dw[8]! & mask) !== 0) return refused(Status.INVALID_FIELD);
    // The controller reads the buffers after every batch of commands, so remote memory is refused.
    if (!shadow.configure(iovaOf(dw[6]!, dw[7]!), iovaOf(dw[8]!, dw[9]!), 2 * queues.sq.length)) return Status.DATA_TRANSFER_ERROR;
    queues.doorbells.shadowsConfigured();
    return Status.SUCCESS;
  }

  /** 5.23. */
  #format(command: Command): null {
    const cdw10 = command.dw[10]!;
    if (regField(cdw10, FormatCdw10.SES) > USER_DATA_ERASE) this.#end(command, refused(Status.INVALID_FIELD));
    // The controller does not support protection information (DPC).
    else if (regField(cdw10, FormatCdw10.PI) !== 0) this.#end(command, refused(Status.INVALID_FORMAT));
    else this.#parts.namespaces.format(command.nsid, regField(cdw10, FormatCdw10.LBAF), (status) => this.#end(command, status));
    return null;
  }
}

const NO_DATA = new Uint8Array(0);
