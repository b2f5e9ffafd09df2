/**
 * The controller's commands as events: one for each command at its end, with its latency from the
 * doorbell that announced it. The doorbell is the cause of the command and of its DMA; the command
 * is the cause of its completion and of the interrupt for it. Commands under way remember their
 * cause as a number, so nothing is allocated for them.
 */
import type { DeviceHost, DmaPort } from '../../abi/device-host.ts';
import type { EventPort, EventShape } from '../../abi/event.ts';
import { AdminOpcode, NvmOpcode, opcodeName, queueName } from '../../abi/nvme.ts';
import { Status, statusName } from '../../abi/nvme-status.ts';
import type { Command } from './command.ts';
import { RungEntries, UNSEEN } from './rung-entries.ts';
import type { SubmissionQueue } from './submission-queue.ts';

const OK = 'ok';
/** CDW11 of a first block that a double holds exactly is below it. */
const HIGH_MAX = 2 ** 21;
const ranged = ['cid', 'nsid', 'slba', 'blocks'];

type Fields = Readonly<Record<string, number | bigint>>;

/** Fields beside the command's identifier, by opcode. */
const adminFields: Readonly<Record<number, (dw: Uint32Array) => Fields>> = {
  [AdminOpcode.IDENTIFY]: (dw) => ({ nsid: dw[1]!, cns: dw[10]! & 0xff }),
  [AdminOpcode.GET_LOG_PAGE]: (dw) => ({ nsid: dw[1]!, lid: dw[10]! & 0xff }),
  [AdminOpcode.GET_FEATURES]: (dw) => ({ nsid: dw[1]!, fid: dw[10]! & 0xff }),
  [AdminOpcode.SET_FEATURES]: (dw) => ({ nsid: dw[1]!, fid: dw[10]! & 0xff, value: dw[11]! }),
  [AdminOpcode.CREATE_CQ]: (dw) => ({ qid: dw[10]! & 0xffff, entries: (dw[10]! >>> 16) + 1, vector: dw[11]! >>> 16 }),
  [AdminOpcode.CREATE_SQ]: (dw) => ({ qid: dw[10]! & 0xffff, entries: (dw[10]! >>> 16) + 1, cqid: dw[11]! >>> 16 }),
  [AdminOpcode.DELETE_CQ]: (dw) => ({ qid: dw[10]! & 0xffff }),
  [AdminOpcode.DELETE_SQ]: (dw) => ({ qid: dw[10]! & 0xffff }),
  [AdminOpcode.ABORT]: (dw) => ({ sqid: dw[10]! & 0xffff, target: dw[10]! >>> 16 }),
  [AdminOpcode.FORMAT_NVM]: (dw) => ({ nsid: dw[1]!, lbaf: dw[10]! & 0xf, ses: (dw[10]! >>> 9) & 7 }),
};

const namespaceOnly = (dw: Uint32Array): Fields => ({ nsid: dw[1]! });

export class CommandEvents {
  readonly port: EventPort;
  readonly #clock: DeviceHost['clock'];
  /** Of I/O commands that succeed, by queue and opcode. */
  readonly #shapes: EventShape[] = [];

  constructor({ events, clock }: Pick<DeviceHost, 'events' | 'clock'>) {
    this.port = events;
    this.#clock = clock;
  }

  /** Whether there is a reader: only then the other methods are called. */
  get on(): boolean {
    return this.port.on;
  }

  /** The host has announced the entries of `sq` up to `tail`. */
  rung(sq: SubmissionQueue, tail: number): void {
    sq.rung ??= new RungEntries(sq.size);
    const { timesNs, causes } = sq.rung;
    const now = this.#clock.nowNs();
    const { cause } = this.port;
    for (let at = sq.tail; at !== tail; at = at + 1 === sq.size ? 0 : at + 1) {
      timesNs[at] = now;
      causes[at] = cause;
    }
  }

  /** `command` was fetched from the entry before the head of `sq`. */
  began(command: Command, sq: SubmissionQueue): void {
    const at = (sq.head === 0 ? sq.size : sq.head) - 1;
    const rungNs = sq.rung === null ? UNSEEN : sq.rung.timesNs[at]!;
    if (rungNs === UNSEEN) this.arrived(command);
    else {
      command.sinceNs = rungNs;
      command.cause = sq.rung!.causes[at]!;
    }
  }

  /** `command` begins now: it came with a controller that was moved, or its doorbell is unknown. */
  arrived(command: Command): void {
    command.sinceNs = this.#clock.nowNs();
    command.cause = this.port.cause;
  }

  /**
   * `command` has ended with `status`.
   * @returns its event; 0: a reader was not there for all of it
   */
  ended(command: Command, status: number): number {
    return this.#emit(command, status === Status.SUCCESS ? OK : statusName(status));
  }

  /** `command` never ends: `why`. */
  dropped(command: Command, why: string): void {
    this.#emit(command, why);
  }

  /** Does a part of the work of `command` that other work had interrupted. */
  within<R>(command: Command, work: (command: Command) => R): R {
    const { port } = this;
    if (!port.on) return work(command);
    const before = port.cause;
    port.cause = command.cause;
    try {
      return work(command);
    } finally {
      port.cause = before;
    }
  }

  /** `dma` for remote transfers of `command`, of which some begin when other work is under way. */
  dmaOf(command: Command, dma: DmaPort): Pick<DmaPort, 'read' | 'write'> {
    const { port } = this;
    if (!port.on) return dma;
    const { cause } = command;
    const caused = (begin: () => Promise<void>) => port.during(cause, begin);
    return { read: (iova, into) => caused(() => dma.read(iova, into)), write: (iova, from) => caused(() => dma.write(iova, from)) };
  }

  #emit(command: Command, status: string): number {
    const { sinceNs, cause } = command;
    if (sinceNs < 0) return 0;
    command.sinceNs = UNSEEN;
    const { port } = this;
    const before = port.cause;
    port.cause = cause;
    const seq = this.#emitAs(command, status, this.#clock.nowNs() - sinceNs);
    port.cause = before;
    return seq;
  }

  #emitAs(command: Command, status: string, latencyNs: number): number {
    const { port } = this;
    const { queueId, opcode, dw } = command;
    if (status === OK && queueId !== 0 && dw[11]! < HIGH_MAX) {
      const shape = this.#shapes[queueId * 256 + opcode] ?? this.#shape(queueId, opcode);
      return port.emitShaped(shape, latencyNs, command.id, dw[1], third(opcode, dw), (dw[12]! & 0xffff) + 1);
    }
    const queue = queueName(queueId);
    return port.emit('command', { name: opcodeName(opcode, queueId === 0), queue, fields: fieldsOf(command), status, latencyNs });
  }

  #shape(queueId: number, opcode: number): EventShape {
    const queue = queueName(queueId);
    const shape: EventShape = { kind: 'command', name: opcodeName(opcode, false), queue, status: OK, fields: ioFieldsOf(opcode) };
    this.#shapes[queueId * 256 + opcode] = shape;
    return shape;
  }
}

function fieldsOf({ dw, id, opcode, queueId }: Command): Fields {
  if (queueId === 0) return { cid: id, ...(adminFields[opcode] ?? namespaceOnly)(dw) };
  const slba = dw[11]! < HIGH_MAX ? third(opcode, dw) : (BigInt(dw[11]!) << 32n) | BigInt(dw[10]!);
  const values = [id, dw[1]!, ioFieldsOf(opcode) === ranged ? slba : third(opcode, dw), (dw[12]! & 0xffff) + 1];
  return Object.fromEntries(ioFieldsOf(opcode).map((field, i) => [field, values[i]!]));
}

/** Fields of I/O commands: the first of identifier, namespace, `third`, number of blocks. */
function ioFieldsOf(opcode: number): readonly string[] {
  switch (opcode) {
    case NvmOpcode.READ:
    case NvmOpcode.WRITE:
    case NvmOpcode.COMPARE:
    case NvmOpcode.WRITE_ZEROES:
    case NvmOpcode.VERIFY:
      return ranged;
    case NvmOpcode.DATASET_MANAGEMENT:
      return ['cid', 'nsid', 'ranges'];
    default:
      return ['cid', 'nsid'];
  }
}

/** The first block, or the number of ranges. CDW11 is below `HIGH_MAX`. */
function third(opcode: number, dw: Uint32Array): number {
  return opcode === NvmOpcode.DATASET_MANAGEMENT ? (dw[10]! & 0xff) + 1 : dw[11]! * 2 ** 32 + dw[10]!;
}
