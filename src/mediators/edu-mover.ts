/**
 * A mediator that gives live migration to an edu without it (QEMU's, or ours with `migration:
 * false`). The mediator watches the registers that start DMA, so it knows which pages the device
 * writes. It remembers the state that no register shows (S0-19).
 *
 * Some state cannot be restored by writing registers. The mediator answers reads of a moved result
 * itself until the driver overwrites it, and serves the device's hidden buffer itself after a move.
 *
 * @see QEMU docs/specs/edu.rst
 */

import type { Region } from '../abi/device.ts';
import type { ModelMigration } from '../abi/device-host.ts';
import { EDU_BUFFER, EDU_IDS, EduCommand, EduRegisters } from '../abi/edu.ts';
import { type MediatedDevice, type Mediator, PASS_THROUGH, type PassThrough } from '../abi/mediator.ts';
import { RegionFlags } from '../abi/vfio.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { struct } from '../base/struct.ts';

const BAR = 0;

/** Offsets of the registers on which a transfer or a result depends. */
const Reg = {
  LIVE: EduRegisters.liveness.offset,
  FACTORIAL: EduRegisters.factorial.offset,
  STATUS: EduRegisters.status.offset,
  IRQ_STATUS: EduRegisters.irqStatus.offset,
  IRQ_RAISE: EduRegisters.irqRaise.offset,
  SOURCE: EduRegisters.dmaSource.offset,
  DESTINATION: EduRegisters.dmaDestination.offset,
  COUNT: EduRegisters.dmaCount.offset,
  COMMAND: EduRegisters.dmaCommand.offset,
} as const;
const Status = { COMPUTING: 0x01, INTERRUPT: 0x80 } as const;
const BUFFER_START = BigInt(EDU_BUFFER.start);
const BUFFER_SIZE = EDU_BUFFER.size;

const State = struct('edu-mover state', 56, {
  live: 'u32',
  factorial: 'u32',
  status: 'u32',
  irqStatus: 'u32',
  source: 'u64',
  destination: 'u64',
  count: 'u64',
  command: 'u64',
  flags: 'u32',
  reserved: 'u32',
});

/** A transfer that the device has begun, and whose end the mediator has not seen yet. */
interface Transfer {
  readonly source: bigint;
  readonly destination: bigint;
  readonly count: bigint;
  readonly command: bigint;
}

/** Address bits that the device drives: the device cuts DMA addresses to them. */
export interface EduMoverOptions {
  /** QEMU's `dma_mask`. Default: 28 bits. */
  readonly dmaMask?: bigint;
}

/**
 * Makes the mediator that moves edu while it runs. It accepts 1234:11e8 and refuses every other
 * device.
 *
 * @see docs/mediation.md
 */
export function eduMover({ dmaMask = 0xfff_ffffn }: EduMoverOptions = {}): Mediator<MovedEdu> {
  return {
    name: 'edu-mover',
    open(device) {
      if (device.vendor !== EDU_IDS.vendor || device.device !== EDU_IDS.device) return null;
      const edu = new MovedEdu(device, dmaMask);
      return {
        handle: edu,
        regions: {
          [BAR]: {
            info: (_, info) => ({ ...info, flags: info.flags & ~RegionFlags.MMAP }),
            read: (handle, offset, into, direct) =>
              eachRegister(offset, into, direct, (at, piece) => {
                const done = handle.read(at, piece);
                return done === PASS_THROUGH ? direct.read(at, piece) : done;
              }),
            write: (handle, offset, from, direct) =>
              eachRegister(offset, from, direct, (at, piece) => {
                const done = handle.write(at, piece);
                return done === PASS_THROUGH ? direct.write(at, piece) : done;
              }),
          },
        },
        feature(handle) {
          handle.look();
          return PASS_THROUGH;
        },
        migration: edu,
        notesWrites: true,
      };
    },
    release() {},
  };
}

/**
 * The device sees a long or misaligned access as several aligned ones. The mediator splits it the
 * same way, because otherwise it would miss the start of a transfer.
 */
function eachRegister(
  offset: number,
  bytes: Uint8Array,
  direct: Region,
  access: (at: number, piece: Uint8Array) => number,
): number | PassThrough {
  const count = Math.min(bytes.length, direct.info.size - offset);
  if (count <= 0) return PASS_THROUGH;
  for (let done = 0; done < count; ) {
    const at = offset + done;
    let width = 8;
    while (at % width !== 0 || width > count - done) width /= 2;
    access(at, bytes.subarray(done, done + width));
    done += width;
  }
  return count;
}

/** One edu, as far as its registers show it. */
class MovedEdu implements ModelMigration {
  readonly version = 1;
  readonly #device: MediatedDevice;
  readonly #dmaMask: bigint;
  /** The contents of the device's buffer. */
  readonly #buffer = new Uint8Array(BUFFER_SIZE);
  /**
   * True after a move: the device's own buffer has other contents, and the mediator makes the
   * transfers from it.
   */
  #serves = false;
  #running: Transfer | null = null;
  /**
   * Values of registers before the move, by offset. Reads return these until the driver writes the
   * register.
   */
  readonly #shown = new Map<number, number | bigint>();
  #stopped = false;

  constructor(device: MediatedDevice, dmaMask: bigint) {
    this.#device = device;
    this.#dmaMask = dmaMask;
  }

  read(offset: number, into: Uint8Array): number | PassThrough {
    const shown = this.#shown.get(offset);
    if (shown === undefined) return PASS_THROUGH;
    let rest = BigInt(shown);
    for (let i = 0; i < into.length; i++, rest >>= 8n) into[i] = Number(rest & 0xffn);
    return into.length;
  }

  write(offset: number, from: Uint8Array): number | PassThrough {
    this.#shown.delete(offset);
    if (offset !== Reg.COMMAND || (from.length !== 4 && from.length !== 8)) return PASS_THROUGH;
    let command = 0n;
    for (let i = from.length - 1; i >= 0; i--) command = (command << 8n) | BigInt(from[i]!);
    if ((command & EduCommand.RUN) === 0n || this.#busy()) return PASS_THROUGH;
    this.#begin({ ...this.#registers(), command });
    return from.length;
  }

  /**
   * Report every page that the device may have written until now. The host calls this before it
   * answers a request for the log.
   */
  look(): void {
    if (this.#running === null) return;
    const done = !this.#stopped && !this.#busy();
    this.#note(this.#running);
    if (done) this.#running = null;
  }

  stop(): void {
    this.look();
    this.#stopped = true;
  }

  /** A transfer that was under way at the stop did not land. Start it again from the beginning. */
  start(): void {
    this.#stopped = false;
    const again = this.#running;
    if (again === null || this.#busy()) return;
    this.#running = null;
    this.#set(again);
    this.#begin(again);
  }

  save(): Uint8Array {
    const device = this.#device;
    const bytes = new Uint8Array(State.structSize + BUFFER_SIZE);
    const register = (offset: number) => Number(this.#shown.get(offset) ?? device.read(BAR, offset, 4));
    const transfer = this.#running ?? { ...this.#registers(), command: device.read64(BAR, Reg.COMMAND) & ~EduCommand.RUN };
    State.encode(new DataView(bytes.buffer), 0, {
      live: register(Reg.LIVE),
      factorial: register(Reg.FACTORIAL),
      status: register(Reg.STATUS),
      irqStatus: register(Reg.IRQ_STATUS),
      ...transfer,
      flags: 0,
      reserved: 0,
    });
    bytes.set(this.#buffer, State.structSize);
    return bytes;
  }

  load(bytes: Uint8Array): void {
    if (bytes.length !== State.structSize + BUFFER_SIZE) throw new VfioError('EINVAL', `the state of edu has ${bytes.length} bytes`);
    const state = State.decode(viewOf(bytes));
    if (state.flags !== 0 || state.reserved !== 0)
      throw new VfioError('EINVAL', `the state of edu has flags 0x${state.flags.toString(16)}`);
    const device = this.#device;
    this.#shown.clear();
    this.#buffer.set(bytes.subarray(State.structSize));
    this.#serves = true;
    device.write(BAR, Reg.LIVE, 4, ~state.live >>> 0);
    device.write(BAR, Reg.STATUS, 4, state.status & Status.INTERRUPT);
    if ((state.status & Status.COMPUTING) !== 0) device.write(BAR, Reg.FACTORIAL, 4, state.factorial);
    else this.#shown.set(Reg.FACTORIAL, state.factorial);
    if (state.irqStatus !== 0) device.write(BAR, Reg.IRQ_RAISE, 4, state.irqStatus);
    const { source, destination, count, command } = state;
    this.#running = (command & EduCommand.RUN) === 0n ? null : { source, destination, count, command };
    this.#set({ source, destination, count });
    if (this.#running === null) this.#shown.set(Reg.COMMAND, command);
  }

  #registers(): Omit<Transfer, 'command'> {
    const device = this.#device;
    const value = (offset: number) => BigInt(this.#shown.get(offset) ?? device.read64(BAR, offset));
    return { source: value(Reg.SOURCE), destination: value(Reg.DESTINATION), count: value(Reg.COUNT) };
  }

  #set({ source, destination, count }: Omit<Transfer, 'command'>): void {
    const device = this.#device;
    device.write64(BAR, Reg.SOURCE, source);
    device.write64(BAR, Reg.DESTINATION, destination);
    device.write64(BAR, Reg.COUNT, count);
  }

  #busy(): boolean {
    return (this.#device.read64(BAR, Reg.COMMAND) & EduCommand.RUN) !== 0n;
  }

  #begin(transfer: Transfer): void {
    const device = this.#device;
    this.look();
    this.#running = transfer;
    if ((transfer.command & EduCommand.TO_RAM) === 0n) this.#fill(transfer);
    else if (this.#serves) this.#serve(transfer);
    this.#note(transfer);
    device.write64(BAR, Reg.COMMAND, transfer.command);
  }

  /** The offset in the buffer where the transfer reads or writes; null when it moves nothing. */
  #inside({ source, destination, count, command }: Transfer): { readonly at: number; readonly size: number; readonly iova: bigint } | null {
    const [inside, outside] = (command & EduCommand.TO_RAM) !== 0n ? [source, destination] : [destination, source];
    const at = inside - BUFFER_START;
    if (at < 0n || count === 0n || at + count > BigInt(BUFFER_SIZE)) return null;
    return { at: Number(at), size: Number(count), iova: outside & this.#dmaMask };
  }

  /**
   * The driver does not change memory while the device reads it, so the device gets what memory
   * holds now.
   */
  #fill(transfer: Transfer): void {
    const inside = this.#inside(transfer);
    if (inside === null) return;
    try {
      this.#device.dmaRead(inside.iova, this.#buffer.subarray(inside.at, inside.at + inside.size));
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
  }

  /**
   * Transfer from the mediator's buffer. The command that the device gets moves nothing; the device
   * completes it and interrupts.
   */
  #serve(transfer: Transfer): void {
    const inside = this.#inside(transfer);
    if (inside === null) return;
    try {
      this.#device.dmaWrite(inside.iova, this.#buffer.subarray(inside.at, inside.at + inside.size));
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
    this.#device.write64(BAR, Reg.COUNT, 0n);
    this.#shown.set(Reg.COUNT, transfer.count);
  }

  #note(transfer: Transfer): void {
    const inside = (transfer.command & EduCommand.TO_RAM) === 0n ? null : this.#inside(transfer);
    if (inside !== null) this.#device.wrote(inside.iova, inside.size);
  }
}
