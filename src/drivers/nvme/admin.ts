/**
 * Admin commands with their data (NVMe 1.4, 5). Data goes through the driver's own memory, because
 * no admin command is on a fast path.
 */
import { AdminOpcode, CreateCq, CreateSq, FEATURE_SAVE, FeatureSelect, featureDataSize, regBits } from '../../abi/nvme.ts';
import { Cns, IDENTIFY_SIZE, Lpa, Oncs } from '../../abi/nvme-identify.ts';
import { checkIndex, checkU32 } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { BouncePool } from './bounce-pool.ts';
import type { QueuePair } from './queue-pair.ts';
import { type CommandFields, Submission } from './submission.ts';

/** A command that the caller builds: opcode, dwords and data. */
export interface CommandRequest extends CommandFields {
  /** Data to the controller. */
  readonly write?: Uint8Array;
  /**
   * Data from the controller, filled when the command succeeds. A command has `write` or `read`,
   * not both: NVMe has none with data both ways.
   */
  readonly read?: Uint8Array;
  /** How long the command may take. Default: the driver's `timeoutMs`. */
  readonly timeoutMs?: number;
}

/** Fields of Get Log Page (NVMe base spec 5.16). */
export interface LogOptions {
  /** Default: every namespace, or the controller. */
  readonly nsid?: number;
  /** First byte, a multiple of 4; needs Log Page Attributes, extended data. */
  readonly offset?: number;
  /** Log Specific Field, bits 11:8. */
  readonly lsp?: number;
  /** Retain Asynchronous Event: the event of this log does not count as answered. */
  readonly retain?: boolean;
}

/** Fields of Get Features (NVMe base spec 5.15). */
export interface GetFeatureOptions {
  readonly nsid?: number;
  /** `FeatureSelect`. Default: the current value. */
  readonly select?: number;
  readonly cdw11?: number;
  /** Bytes of data that come with the feature. Default: the size in NVMe 1.4. */
  readonly size?: number;
}

/** Fields of Set Features (NVMe base spec 5.27). */
export interface SetFeatureOptions {
  readonly nsid?: number;
  readonly save?: boolean;
  readonly cdw12?: number;
  readonly data?: Uint8Array;
}

/** Bytes of a log that one command asks for. Every controller can move a page. */
const LOG_PIECE = 4096;
/**
 * Without extended data NUMD has 12 bits and there is no offset: one command gives all that can be
 * had (figure 187).
 */
const LOG_UNEXTENDED = 0x4000;
/** Largest size of a log, which no real log reaches, and which is small enough to allocate. */
const LOG_MAX = 64 * 2 ** 20;

export class AdminCommands {
  readonly #queue: QueuePair;
  readonly #pool: BouncePool;
  readonly #ticks: (ms: number | undefined) => number;
  /** MDTS, as soon as it is known. */
  maxTransfer = LOG_PIECE;
  /** LPA, as soon as it is known. */
  logAttributes = 0;
  /** ONCS, as soon as it is known. */
  optionalCommands = 0;

  /** @param ticks converts milliseconds to ticks of the watchdog */
  constructor(queue: QueuePair, pool: BouncePool, ticks: (ms: number | undefined) => number) {
    this.#queue = queue;
    this.#pool = pool;
    this.#ticks = ticks;
  }

  /**
   * Run any command. Default: on the admin queue.
   * @returns dword 0 of its completion
   * @throws VfioError EINVAL for more data than a command moves; NvmeError
   */
  async execute(request: CommandRequest, queue = this.#queue): Promise<number> {
    const { read, write } = request;
    if (read !== undefined && write !== undefined) throw new VfioError('EINVAL', 'a command has data to read or to write, not both');
    const size = (read ?? write)?.length ?? 0;
    const most = Math.min(this.maxTransfer, queue.maxTransfer);
    if (size > most) throw new VfioError('EINVAL', `${size} bytes of data; a command moves at most ${most}`, { fix: 'Move it in parts.' });
    if (size % 4 !== 0) throw new VfioError('EINVAL', `${size} bytes of data; it must be a multiple of 4`);
    const limit = this.#ticks(request.timeoutMs);
    const admin = queue === this.#queue;
    if (size === 0) return queue.run(Submission.of(admin, request, 0, 0, limit));
    const lent = this.#pool.take(size);
    const bounce = lent instanceof Promise ? await lent : lent;
    try {
      if (write !== undefined) bounce.bytes.set(write);
      // Bytes that the controller does not write read as zeroes, not as data of an earlier command.
      else bounce.bytes.fill(0, 0, size);
      const result = await queue.run(Submission.of(admin, request, bounce.iova, size, limit));
      read?.set(bounce.bytes.subarray(0, size));
      return result;
    } finally {
      this.#pool.give(bounce);
    }
  }

  /**
   * Identify (5.15). 4096 bytes, raw.
   * @param cns one of `Cns`
   * @param cntid bits 31:16 of CDW10
   */
  async identify(cns: number, nsid = 0, cntid = 0): Promise<Uint8Array> {
    const read = new Uint8Array(IDENTIFY_SIZE);
    await this.execute({
      opcode: AdminOpcode.IDENTIFY,
      nsid: checkU32(nsid, 'nsid'),
      cdw10: checkIndex(cns, 0xff, 'cns') | (cntid << 16),
      read,
    });
    return read;
  }

  identifyController(): Promise<Uint8Array> {
    return this.identify(Cns.CONTROLLER);
  }

  /** Number of bytes of a log that the controller can give. */
  get logMax(): number {
    return (this.logAttributes & Lpa.EXTENDED_DATA) !== 0 ? LOG_MAX : Math.min(this.maxTransfer, LOG_UNEXTENDED);
  }

  /**
   * Get Log Page (5.14), in as many commands as it takes.
   * @throws VfioError EOPNOTSUPP for an offset or length that the controller does not support
   */
  async log(id: number, size: number, options: LogOptions = {}): Promise<Uint8Array> {
    checkIndex(id, 0xff, 'log page');
    checkIndex(size, LOG_MAX, 'size of the log page');
    const offset = checkIndex(options.offset ?? 0, 2 ** 53 - 1 - LOG_MAX, 'offset');
    if (size % 4 !== 0 || offset % 4 !== 0) throw new VfioError('EINVAL', 'offset and size of a log page are multiples of 4');
    const extended = (this.logAttributes & Lpa.EXTENDED_DATA) !== 0;
    if (offset > 0 && !extended) {
      throw new VfioError('EOPNOTSUPP', 'the controller gives log pages from their beginning only (LPA, extended data)');
    }
    const out = new Uint8Array(size);
    const piece = Math.min(this.maxTransfer, extended ? LOG_PIECE : LOG_UNEXTENDED);
    if (size > piece && !extended) {
      throw new VfioError('EOPNOTSUPP', `${size} bytes of a log page; this controller gives the first ${piece} (LPA, extended data)`);
    }
    for (let at = 0; at < size; at += piece) {
      const read = out.subarray(at, Math.min(size, at + piece));
      const dwords = read.length / 4 - 1;
      const from = offset + at;
      // The event counts as answered with the last piece.
      const retain = options.retain === true || at + piece < size ? 1 << 15 : 0;
      await this.execute({
        opcode: AdminOpcode.GET_LOG_PAGE,
        nsid: checkU32(options.nsid ?? 0xffff_ffff, 'nsid'),
        cdw10: id | (checkIndex(options.lsp ?? 0, 15, 'lsp') << 8) | retain | ((dwords & 0xffff) << 16),
        cdw11: dwords >>> 16,
        cdw12: from % 2 ** 32,
        cdw13: Math.floor(from / 2 ** 32),
        read,
      });
    }
    return out;
  }

  /**
   * Get Features (5.13).
   * @throws VfioError EOPNOTSUPP for a value other than the current one, when the controller knows
   * only that one
   */
  async getFeature(id: number, options: GetFeatureOptions = {}): Promise<{ readonly value: number; readonly data: Uint8Array }> {
    const select = checkIndex(options.select ?? FeatureSelect.CURRENT, 7, 'select');
    // Before SEL existed, its bits were reserved (ONCS, Save and Select).
    if (select !== FeatureSelect.CURRENT && (this.optionalCommands & Oncs.FEATURE_SAVE) === 0) {
      throw new VfioError('EOPNOTSUPP', 'the controller has no other values of features than the current ones (ONCS, Save and Select)');
    }
    // SEL = 3 answers in dword 0 alone.
    const size = select === FeatureSelect.CAPABILITIES ? 0 : (options.size ?? featureDataSize(id, options.cdw11 ?? 0));
    const data = new Uint8Array(checkIndex(size, LOG_PIECE, 'size of the feature'));
    const value = await this.execute({
      opcode: AdminOpcode.GET_FEATURES,
      nsid: checkU32(options.nsid ?? 0, 'nsid'),
      cdw10: checkIndex(id, 0xff, 'feature') | (select << 8),
      cdw11: checkU32(options.cdw11 ?? 0, 'cdw11'),
      ...(data.length === 0 ? {} : { read: data }),
    });
    return { value, data };
  }

  /** Set Features (5.21). @returns dword 0 of the completion */
  setFeature(id: number, value: number, options: SetFeatureOptions = {}): Promise<number> {
    return this.execute({
      opcode: AdminOpcode.SET_FEATURES,
      nsid: checkU32(options.nsid ?? 0, 'nsid'),
      cdw10: (checkIndex(id, 0xff, 'feature') | (options.save === true ? FEATURE_SAVE : 0)) >>> 0,
      cdw11: checkU32(value, 'value'),
      cdw12: checkU32(options.cdw12 ?? 0, 'cdw12'),
      ...(options.data === undefined ? {} : { write: options.data }),
    });
  }

  /**
   * Create I/O Completion Queue (5.3), physically contiguous.
   * @param vector null: without interrupts
   */
  createCompletionQueue(id: number, entries: number, iova: number, vector: number | null): Promise<number> {
    const interrupts = vector === null ? 0 : CreateCq.IEN | regBits(CreateCq.IV, vector);
    return this.#create(AdminOpcode.CREATE_CQ, id, entries, iova, CreateCq.PC | interrupts);
  }

  /**
   * Create I/O Submission Queue (5.4), physically contiguous, for the completion queue of the same
   * number.
   */
  createSubmissionQueue(id: number, entries: number, iova: number): Promise<number> {
    return this.#create(AdminOpcode.CREATE_SQ, id, entries, iova, CreateSq.PC | regBits(CreateSq.CQID, id));
  }

  deleteSubmissionQueue(id: number): Promise<number> {
    return this.execute({ opcode: AdminOpcode.DELETE_SQ, cdw10: id });
  }

  deleteCompletionQueue(id: number): Promise<number> {
    return this.execute({ opcode: AdminOpcode.DELETE_CQ, cdw10: id });
  }

  /** Abort (5.1). @returns whether the command was aborted; a controller may always refuse */
  async abort(queueId: number, commandId: number): Promise<boolean> {
    return ((await this.execute({ opcode: AdminOpcode.ABORT, cdw10: (queueId | (commandId << 16)) >>> 0 })) & 1) === 0;
  }

  /**
   * Doorbell Buffer Config (5.7).
   * @param iova of two pages: the shadows, and after them the event indexes
   */
  configureDoorbells(iova: number, pageSize: number): Promise<number> {
    // PRP1 and PRP2 are the addresses of the two buffers, as they are for data of two adjacent
    // pages.
    return this.#queue.run(new Submission(true, AdminOpcode.DOORBELL_BUFFER_CONFIG, 0, iova, 2 * pageSize, this.#ticks(undefined)));
  }

  #create(opcode: number, id: number, entries: number, iova: number, cdw11: number): Promise<number> {
    const submission = new Submission(true, opcode, 0, iova, 4, this.#ticks(undefined));
    submission.cdw10 = id | ((entries - 1) << 16);
    submission.cdw11 = cdw11;
    return this.#queue.run(submission);
  }
}
